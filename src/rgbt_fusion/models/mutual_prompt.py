"""Mutual prompting: a teacher of two streams that prompt each other, and its student of one."""

from collections.abc import Sequence
from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn

from rgbt_fusion.layers.mutual_prompter import (
    MutualPrompter,
    MutualPrompts,
    PromptForm,
    PromptGate,
    SpatialAttention,
)
from rgbt_fusion.models.encoder import EncoderSettings
from rgbt_fusion.models.interface import LayerTokens
from rgbt_fusion.models.network import TrackingNetwork
from rgbt_fusion.models.walk import Call, Walk

__all__ = ["MutualPromptTeacher", "OneStreamStudent", "mean_of_two"]


class MutualPromptTeacher(TrackingNetwork):
    r"""Track with two streams of shared weights that prompt each other before every block.

    A prompter reads both streams and the previous prompts and adds a prompt to each stream; one
    linear layer reduces the concatenated search tokens for the head.

    .. math::
        P^l_m = \mathcal{M}_l(H^{l-1}_m, P^{l-1}_m, H^{l-1}_{m'}), \qquad
        H^l_m = \mathrm{Block}_l(H^{l-1}_m + P^l_m), \qquad
        \text{box} = \mathrm{head}([H^L_{rgb}, H^L_{tir}] W)

    Paper and code: a separate prompter, without history, makes the first history, so that there are
    L + 1. The last norm of the encoder comes before the reduction, which starts as the mean of the
    streams, so that the head of an OSTrack file reads what it knows. There is no elimination by
    default: the literal spatial attention is tied to the number of tokens. With the length-free one
    a keep ratio below 1 drops the same candidates of tokens and prompts.

    Args:
        settings: sizes of encoder and head, keep ratio.
        spatial_attention: ``"literal"``, ``"length_free"``, or None for the ablation without it.
        token_attention: weigh the channels (the ablation is False).
        history: take in the previous prompts (the ablation is False).
        gate: ``"sigmoid"`` or ``"none"``.
        form: ``"convolution"`` or ``"linear"``.
        reliability: block numbers after which both streams are read to estimate how far each
            modality is to be trusted; it weighs them before the reduction. None, as published,
            weighs nothing.

    Shape:
        - template, search: an ``ImagePair`` of ``(B, 3, template_size, template_size)`` and
          ``(B, 3, search_size, search_size)``, normalised
        - returns :class:`ModelOutput`

    Raises:
        ShapeError: ``template`` or ``search`` does not have the shape above; their batches differ.
        ValueError: an option is unknown; the keep ratio is below 1 with the literal spatial
            attention; ``reliability`` names blocks that the encoder does not have; an image is on
            another device than the model.
        TypeError: an image has another dtype than the model.

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
        spatial_attention: SpatialAttention | None = "literal",
        token_attention: bool = True,
        history: bool = True,
        gate: PromptGate = "sigmoid",
        form: PromptForm = "convolution",
        reliability: Sequence[int] | None = None,
    ) -> None:
        options = {
            "spatial_attention": spatial_attention,
            "token_attention": token_attention,
            "history": history,
            "gate": gate,
            "form": form,
        }
        super().__init__(settings or EncoderSettings(), options, reliability=reliability)
        num_tokens = self.backbone.template_length + self.backbone.search_length
        self.spatial_attention: SpatialAttention | None = spatial_attention

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

    def begin(self, call: Call) -> Walk:
        """Return a walk of both streams as one batch, prompted before every block."""
        if self.spatial_attention == "literal" and self.backbone.eliminates_any(call.keep_ratio):
            raise ValueError(
                "keep_ratio must be 1 with spatial_attention='literal', which is built for one "
                f"number of tokens; got {call.keep_ratio}, use 'length_free'"
            )
        return _PromptingWalk(self, self.embed_two_streams(call.template, call.search))


class _PromptingWalk(Walk):
    """Walk with both streams as one batch, and with their prompts beside them."""

    def __init__(self, model: MutualPromptTeacher, tokens: Tensor) -> None:
        super().__init__(model.backbone, tokens, streams=2)
        self.model = model
        self.history: MutualPrompts | None = None
        """The prompts before the previous block; None in a model without history."""
        self.history_indices = self.indices
        """The places that the prompts of the history hold."""
        if model.first_prompter is not None:
            self.history = model.first_prompter(*self.two_streams())

    def before_block(self, number: int) -> None:
        """Add to each stream the prompt that it gets from both and from the previous prompts."""
        prompter = cast(MutualPrompter, self.model.prompters[number])
        prompts = prompter.stacked(*self.two_streams(), self._history_of_survivors())
        self.tokens = self.tokens + prompts.flatten(0, 1)
        if self.history is not None:
            self.history = MutualPrompts(*prompts.unbind())
            self.history_indices = self.indices

    def features(self) -> Tensor:
        """Return both streams reduced to one."""
        return self.model.reduce(torch.cat(self.normed_streams(), dim=-1))

    def _history_of_survivors(self) -> MutualPrompts | None:
        if self.history is None:
            return None
        rgb, tir = self.history
        return MutualPrompts(
            self.encoder.survivors(rgb, self.history_indices, self.indices),
            self.encoder.survivors(tir, self.history_indices, self.indices),
        )


class OneStreamStudent(TrackingNetwork):
    r"""Track with both modalities in one sequence, fused by the encoder alone.

    Template and search tokens of RGB, then those of TIR; attention crosses the modalities in every
    block. One linear layer reduces the concatenated search tokens of both for the head.

    .. math::
        H^0 = [z_{rgb};\ x_{rgb};\ z_{tir};\ x_{tir}], \qquad
        H^l = \mathrm{Block}_l(H^{l-1}), \qquad
        \text{box} = \mathrm{head}([H^L_{x_{rgb}}, H^L_{x_{tir}}] W)

    Paper and code: no embedding tells the modalities apart unless asked for; the reduction starts
    as the mean of the two. With a keep ratio below 1 (future work in the supplement) one joint
    score decides, and the same candidates leave both modalities.

    Args:
        settings: sizes of encoder and head, keep ratio.
        modality_embedding: add a learned vector to the tokens of each modality.
        reliability: block numbers after which both modalities are read to estimate how far each
            modality is to be trusted; it weighs them before the reduction. None, as published,
            weighs nothing.

    Shape:
        - template, search: an ``ImagePair`` of ``(B, 3, template_size, template_size)`` and
          ``(B, 3, search_size, search_size)``, normalised
        - returns :class:`ModelOutput`

    Raises:
        ShapeError: ``template`` or ``search`` does not have the shape above; their batches differ.
        ValueError: ``reliability`` names blocks that the encoder does not have; an image is on
            another device than the model.
        TypeError: an image has another dtype than the model.

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
        self,
        settings: EncoderSettings | None = None,
        *,
        modality_embedding: bool = False,
        reliability: Sequence[int] | None = None,
    ) -> None:
        options = {"modality_embedding": modality_embedding}
        super().__init__(settings or EncoderSettings(), options, reliability=reliability)
        self.reduce = mean_of_two(self.settings.dim)
        self.modality = (
            nn.Parameter(torch.zeros(2, 1, 1, self.settings.dim)) if modality_embedding else None
        )

    def begin(self, call: Call) -> Walk:
        """Return a walk of one stream that holds both modalities side by side."""
        tokens = self.embed_two_streams(call.template, call.search)
        streams = tokens.unflatten(0, (2, -1))
        if self.modality is not None:
            streams = streams + self.modality
        return _SideBySideWalk(self, rearrange(streams, "s b l c -> b (s l) c"))


class _SideBySideWalk(Walk):
    """Walk with both modalities in one sequence, ``(B, 2 (T + K), C)``."""

    def __init__(self, model: OneStreamStudent, tokens: Tensor) -> None:
        super().__init__(model.backbone, tokens)
        self.model = model

    def run_block(self, number: int, keep_ratio: float) -> None:
        """Let all tokens of both modalities attend to each other."""
        self.tokens, self.indices = self.encoder.block_side_by_side(
            number, self.tokens, self.indices, keep_ratio=keep_ratio
        )

    def features(self) -> Tensor:
        """Return both modalities reduced to one."""
        streams = rearrange(self.tokens, "b (s l) c -> b s l c", s=2)
        search = self.encoder.norm(streams[:, :, self.encoder.template_length :])
        if self.estimator is not None:
            rgb, tir = search.unbind(1)
            search = torch.stack(self.weigh(rgb, tir), dim=1)
        return self.model.reduce(rearrange(search, "b s l c -> b l (s c)"))

    def layer_tokens(self) -> LayerTokens:
        """Return the tokens of both halves."""
        rgb, tir = self.tokens.chunk(2, dim=1)
        return LayerTokens(rgb, tir, self.indices)


def mean_of_two(dim: int) -> nn.Linear:
    """Return a linear layer that starts as the mean of two features, ``2 dim`` to ``dim``."""
    reduce = nn.Linear(2 * dim, dim)
    half = 0.5 * torch.eye(dim)
    with torch.no_grad():
        reduce.weight.copy_(torch.cat((half, half), dim=1))
        nn.init.zeros_(reduce.bias)
    return reduce
