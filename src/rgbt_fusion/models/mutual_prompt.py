"""Mutual prompting: a two-stream teacher whose modalities prompt each other, and the one-stream
student it teaches."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from einops import rearrange
from torch import Tensor, nn

from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.layers.mutual_prompter import MutualPrompter, MutualPrompts
from rgbt_fusion.models.encoder import EncoderSettings
from rgbt_fusion.models.interface import Encoding, LayerTokens, Template, TemplateTokens
from rgbt_fusion.models.network import TrackingNetwork, layer_tokens

__all__ = ["MutualPromptTeacher", "OneStreamStudent"]


class MutualPromptTeacher(TrackingNetwork):
    r"""Track with two streams of shared weights that prompt each other before every block.

    A prompter reads both streams and the previous prompts and adds a prompt to each stream; one
    linear layer reduces the concatenated search tokens for the head.

    .. math::
        P^l_m = \mathcal{M}_l(H^{l-1}_m, P^{l-1}_m, H^{l-1}_{m'}), \qquad
        H^l_m = \mathrm{Block}_l(H^{l-1}_m + P^l_m), \qquad
        \text{box} = \mathrm{head}([H^L_{rgb}, H^L_{tir}] W)

    Where the paper is silent: a prompter of its own, without history, makes the first history, so
    that there are L + 1; the encoder's last norm comes before the reduction, whose start is the
    mean of the streams, so that an OSTrack file's head reads what it knows. There is no
    elimination: the literal spatial attention is tied to the number of tokens, and with the
    length-free one a keep ratio below 1 drops the same candidates of tokens and prompts.

    Args:
        settings: sizes of encoder and head, keep ratio.
        spatial_attention: ``"literal"``, ``"length_free"``, or None for the ablation without it.
        token_attention: weigh the channels (the ablation is False).
        history: take in the previous prompts (the ablation is False).
        gate: ``"sigmoid"`` or ``"none"``.
        form: ``"convolution"`` or ``"linear"``.

    Shape:
        ``template`` and ``search``: an ``ImagePair`` of ``(B, 3, template_size, template_size)``
        and ``(B, 3, search_size, search_size)``, normalised; returns ``ModelOutput``.

    Raises:
        ShapeError: images of another size, a template of another batch.
        ValueError, TypeError: an unknown choice; a keep ratio below 1 with the literal spatial
            attention.

    Example:
        >>> import torch
        >>> from rgbt_fusion import ImagePair, create_model
        >>> model = create_model("mutual_prompt_teacher_tiny_128").eval()
        >>> template, search = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 128, 128)
        >>> model(ImagePair(template, template), ImagePair(search, search)).box_cxcywh_unit.shape
        torch.Size([1, 4])

    Source:
        Luo et al., "From Two-Stream to One-Stream: Efficient RGB-T Tracking via Mutual Prompt
        Learning and Knowledge Distillation", 2024, eq. 4-16.
    """

    def __init__(
        self,
        settings: EncoderSettings | None = None,
        *,
        spatial_attention: str | None = "literal",
        token_attention: bool = True,
        history: bool = True,
        gate: str = "sigmoid",
        form: str = "convolution",
    ) -> None:
        options = {
            "spatial_attention": spatial_attention,
            "token_attention": token_attention,
            "history": history,
            "gate": gate,
            "form": form,
        }
        super().__init__(settings or EncoderSettings(), options)
        num_tokens = self.backbone.template_length + self.backbone.search_length

        def prompter(history: bool) -> MutualPrompter:
            return MutualPrompter(
                num_tokens,
                spatial_attention=spatial_attention,
                token_attention=token_attention,
                history=history,
                gate=gate,
                form=form,
            )

        self.first_prompter = prompter(history=False) if history else None
        self.prompters = nn.ModuleList(prompter(history) for _ in range(self.settings.depth))
        self.reduce = mean_of_two(self.settings.dim)

    def embed_template(self, template: ImagePair) -> TemplateTokens:
        """Turn the template into tokens once; see :class:`TrackerModel`."""
        return self._embed_template_pair(template)

    def _encode(
        self,
        template: Template,
        search: ImagePair,
        state: Any,
        layers: Sequence[int],
        keep_ratio: float | None,
        *,
        drawing: bool,
    ) -> Encoding:
        self._check_lengths(keep_ratio)
        tokens = self._embed_two_streams(template, search)
        indices = self.backbone.all_indices(search.rgb)
        kept: list[LayerTokens] = []
        prompts = None if self.first_prompter is None else self.first_prompter(*tokens.chunk(2))
        for number, prompter in enumerate(self.prompters):
            prompts = cast(MutualPrompts, prompter(*tokens.chunk(2), prompts))
            before = indices
            tokens, indices = self.backbone.block(
                number, tokens + torch.cat(prompts), indices, streams=2, keep_ratio=keep_ratio
            )
            prompts = self._follow(prompts, before, indices)
            if number in layers:
                kept.append(layer_tokens(tokens, indices, streams=2))
        rgb, tir = self.backbone.norm(tokens[:, self.backbone.template_length :]).chunk(2)
        found = self.reduce(torch.cat((rgb, tir), dim=-1))
        return Encoding(
            self.backbone.restore(found, indices), tuple(kept), indices, None, None, state
        )

    def _follow(
        self, prompts: MutualPrompts, before: Tensor, after: Tensor
    ) -> MutualPrompts | None:
        """Return the prompts as the next prompter's history: of the tokens that are left; None
        without history."""
        if self.first_prompter is None:
            return None
        return MutualPrompts(
            *(self.backbone.survivors(prompt, before, after) for prompt in prompts)
        )

    def _check_lengths(self, keep_ratio: float | None) -> None:
        cuts = any(
            self.backbone.eliminates(number, keep_ratio)
            for number in self.backbone.elimination_layers
        )
        if cuts and self.options["spatial_attention"] == "literal":
            raise ValueError(
                "keep_ratio must be 1 with spatial_attention='literal', which is built for one number of tokens; "
                f"got {self.settings.keep_ratio if keep_ratio is None else keep_ratio}, use 'length_free'"
            )


class OneStreamStudent(TrackingNetwork):
    r"""Track with the tokens of both modalities in one sequence, and nothing but the encoder to
    fuse them.

    Template and search tokens of RGB, then those of TIR; attention crosses the modalities in every
    block. One linear layer reduces the concatenated search tokens of both for the head.

    .. math::
        H^0 = [z_{rgb};\ x_{rgb};\ z_{tir};\ x_{tir}], \qquad H^l = \mathrm{Block}_l(H^{l-1}), \qquad
        \text{box} = \mathrm{head}([H^L_{x_{rgb}}, H^L_{x_{tir}}] W)

    Where the paper is silent: no embedding tells the modalities apart unless asked for; the
    reduction starts as the mean of the two. With a keep ratio below 1 (the supplement's future
    work) one joint score decides, and the same candidates leave both modalities.

    Args:
        settings: sizes of encoder and head, keep ratio.
        modality_embedding: add a learned vector to the tokens of each modality.

    Shape:
        ``template`` and ``search``: an ``ImagePair`` of ``(B, 3, template_size, template_size)``
        and ``(B, 3, search_size, search_size)``, normalised; returns ``ModelOutput``.

    Raises:
        ShapeError: images of another size, a template of another batch.
        ValueError, TypeError: images of another dtype or on another device.

    Example:
        >>> import torch
        >>> from rgbt_fusion import ImagePair, create_model
        >>> model = create_model("one_stream_student_tiny_128", keep_ratio=0.7).eval()
        >>> template, search = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 128, 128)
        >>> model.encode(ImagePair(template, template), ImagePair(search, search)).indices.shape
        torch.Size([1, 23])

    Source:
        Luo et al., "From Two-Stream to One-Stream", 2024, section 3.3; elimination: its supplement,
        A.1.
    """

    def __init__(
        self, settings: EncoderSettings | None = None, *, modality_embedding: bool = False
    ) -> None:
        super().__init__(settings or EncoderSettings(), {"modality_embedding": modality_embedding})
        self.reduce = mean_of_two(self.settings.dim)
        self.modality = (
            nn.Parameter(torch.zeros(2, 1, 1, self.settings.dim)) if modality_embedding else None
        )

    def embed_template(self, template: ImagePair) -> TemplateTokens:
        """Turn the template into tokens once; see :class:`TrackerModel`."""
        return self._embed_template_pair(template)

    def _encode(
        self,
        template: Template,
        search: ImagePair,
        state: Any,
        layers: Sequence[int],
        keep_ratio: float | None,
        *,
        drawing: bool,
    ) -> Encoding:
        streams = self._embed_two_streams(template, search).unflatten(0, (2, -1))
        if self.modality is not None:
            streams = streams + self.modality
        tokens = rearrange(streams, "s b l c -> b (s l) c")
        indices = self.backbone.all_indices(search.rgb)
        kept: list[LayerTokens] = []
        for number in range(self.settings.depth):
            tokens, indices = self.backbone.block_side_by_side(
                number, tokens, indices, keep_ratio=keep_ratio
            )
            if number in layers:
                rgb, tir = tokens.chunk(2, dim=1)
                kept.append(LayerTokens(rgb, tir, indices))
        streams = rearrange(tokens, "b (s l) c -> b s l c", s=2)[
            :, :, self.backbone.template_length :
        ]
        found = self.reduce(rearrange(self.backbone.norm(streams), "b s l c -> b l (s c)"))
        return Encoding(
            self.backbone.restore(found, indices), tuple(kept), indices, None, None, state
        )


def mean_of_two(dim: int) -> nn.Linear:
    """Return a linear layer that starts as the mean of two features, ``2 dim`` to ``dim``."""
    reduce = nn.Linear(2 * dim, dim)
    half = 0.5 * torch.eye(dim)
    with torch.no_grad():
        reduce.weight.copy_(torch.cat((half, half), dim=1))
        nn.init.zeros_(reduce.bias)
    return reduce
