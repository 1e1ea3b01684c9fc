"""TPMRI: an RGB stream prompted by TIR in three stages, with a memory of which modality could be
trusted."""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from einops import rearrange
from torch import Tensor, nn

from rgbt_fusion.checks import check_choice
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.layers.progressive_interaction import TPI
from rgbt_fusion.layers.temporal_modality_reweighting import TMR, TMRState
from rgbt_fusion.layers.vit import PatchEmbed
from rgbt_fusion.models.encoder import ConvolutionalStem, EncoderSettings
from rgbt_fusion.models.interface import (
    Encoding,
    LayerTokens,
    Template,
    TemplateTokens,
    check_images,
)
from rgbt_fusion.models.network import TrackingNetwork, check_template_batch, layer_tokens

__all__ = ["TPMRI", "TPMRIState"]

PROMPT_WIDTH = 8


class TPMRIState(NamedTuple):
    """What TPMRI remembers of the previous frame: the state of its one TMR, or of that of every
    layer."""

    layers: tuple[TMRState, ...]

    def reset(self, mask: Tensor) -> "TPMRIState":
        """Return the state with the rows where ``mask``, ``(B,)`` and boolean, is true as before a
        first frame."""
        return TPMRIState(tuple(layer.reset(mask) for layer in self.layers))


class TPMRI(TrackingNetwork):
    r"""Track in RGB with a prompt from TIR that is weighed by the past, aligned and blended before
    every block.

    TIR has a patch embedding of its own. One TMR weighs both as maps; then, before each block,
    stream and prompt are narrowed to 8 channels, pass CMI and MAF as maps, and the widened result
    is added to the stream.

    .. math::
        (H^0, P^0, s^t) &= \mathrm{TMR}(x_{rgb}, x_{tir}, s^{t-1}) \\
        P^l &= \mathrm{MAF}_l(h, \mathrm{CMI}_l(h, p))\, W_{up}, \qquad
        h = \mathrm{LN}(H^{l-1}) W_h, \quad p = \mathrm{LN}(P^{l-1}) W_p \\
        H^l &= \mathrm{Block}_l(H^{l-1} + P^l)

    Where the paper is silent: template and search are maps of their own throughout; the search
    map's state is carried from frame to frame, the template is weighed once, without history. The
    projections and the LayerNorm in front of them are ViPT's, whose size the published counts are
    built on; positions are added after the weighing, to the stream alone. The published operation
    count is that of an encoder that eliminates candidates, so the preset does: the stream's missing
    tokens are zeros in its maps, and prompts are added where tokens are left. ``tmr="per_layer"``
    puts a TMR on the 8 channels of every layer instead (the article's code).

    Args:
        settings: sizes of encoder and head, keep ratio.
        tmr: ``"first"``, ``"per_layer"``, or None for the ablation without it.
        history: let TMR read the previous frame (the ablation is False).
        cmi: direction of CMI, ``"tir_to_rgb"`` or ``"bidirectional"``; None for the ablation
            without it.
        maf: pooling of MAF, ``"global"`` or ``"spatial"``; None for the ablation without it.
        detach_history: cut the gradient between frames.

    Shape:
        ``template`` and ``search``: an ``ImagePair`` of ``(B, 3, template_size, template_size)``
        and ``(B, 3, search_size, search_size)``, normalised; ``state``: a :class:`TPMRIState`, None
        to start a sequence; returns ``ModelOutput`` with the next state.

    Raises:
        ShapeError: images of another size, a template or state of another batch.
        ValueError, TypeError: an unknown choice; a state of another model.

    Example:
        >>> import torch
        >>> from rgbt_fusion import ImagePair, create_model
        >>> model, state = create_model("tpmri_tiny_128").eval(), None
        >>> template = model.embed_template(ImagePair(torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)))
        >>> for _ in range(2):
        ...     search = ImagePair(torch.rand(1, 3, 128, 128), torch.rand(1, 3, 128, 128))
        ...     out = model(template, search, state)
        ...     state = out.state
        >>> out.box_cxcywh_unit.shape
        torch.Size([1, 4])

    Source:
        Li et al., "Three-stage progressive modality reweighting and interaction framework for
        robust RGB-T tracking", Knowledge-Based Systems 339, 2026; the prompt layers: Zhu et al.,
        "Visual Prompt Multi-Modal Tracking" (ViPT), CVPR 2023.
    """

    duplicated = (("patch_embed_tir.", "backbone.patch_embed."),)

    def __init__(
        self,
        settings: EncoderSettings | None = None,
        *,
        tmr: str | None = "first",
        history: bool = True,
        cmi: str | None = "tir_to_rgb",
        maf: str | None = "global",
        detach_history: bool = True,
    ) -> None:
        options = {
            "tmr": tmr,
            "history": history,
            "cmi": cmi,
            "maf": maf,
            "detach_history": detach_history,
        }
        super().__init__(settings or EncoderSettings(keep_ratio=0.7), options)
        check_choice(tmr, ("first", "per_layer", None), name="tmr")
        dim = self.settings.dim
        self.patch_embed_tir = (
            PatchEmbed(dim=dim) if self.settings.stem == "patch" else ConvolutionalStem(dim)
        )
        self.tmr = (
            TMR(dim, history=history, detach_history=detach_history) if tmr == "first" else None
        )
        self.prompt_layers = nn.ModuleList(
            _PromptLayer(dim, tmr == "per_layer", history, cmi, maf, detach_history)
            for _ in range(self.settings.depth)
        )

    def embed_template(self, template: ImagePair) -> TemplateTokens:
        """Turn the template into weighed tokens once; see :class:`TrackerModel`."""
        check_images(template, self.template_size, name="template", like=self.backbone.pos_embed_z)
        rgb, tir, _ = self._weigh(template, None)
        return TemplateTokens(rgb + self.backbone.pos_embed_z, tir)

    def _weigh(
        self, images: ImagePair, state: TMRState | None
    ) -> tuple[Tensor, Tensor, TMRState | None]:
        rgb, tir = self.backbone.patch_embed(images.rgb), self.patch_embed_tir(images.tir)
        if self.tmr is None:
            return rgb, tir, None
        rgb, tir, state = self.tmr(_as_map(rgb), _as_map(tir), state)
        return _as_tokens(rgb), _as_tokens(tir), state

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
        self._check_search(search)
        before = self._check_state(state)
        template = self._template_tokens(template)
        check_template_batch(template, len(search.rgb))
        rgb, tir, weighed = self._weigh(search, before[0] if self.tmr is not None else None)
        tokens = torch.cat((template.rgb, rgb + self.backbone.pos_embed_x), dim=1)
        prompt = torch.cat((cast(Tensor, template.tir), tir), dim=1)
        states = [] if weighed is None else [weighed]
        everywhere = indices = self.backbone.all_indices(tokens)
        kept: list[LayerTokens] = []
        length = self.backbone.template_length
        for number, layer in enumerate(self.prompt_layers):
            stream = torch.cat(
                (tokens[:, :length], self.backbone.restore(tokens[:, length:], indices)), dim=1
            )
            past = before[number] if self.options["tmr"] == "per_layer" else None
            prompt, weighed = cast(_PromptLayer, layer)(stream, prompt, length, past)
            states += [] if weighed is None else [weighed]
            tokens = tokens + self.backbone.survivors(prompt, everywhere, indices)
            tokens, indices = self.backbone.block(number, tokens, indices, keep_ratio=keep_ratio)
            if number in layers:
                kept.append(layer_tokens(tokens, indices, streams=1))
        found = self.backbone.restore(self.backbone.norm(tokens[:, length:]), indices)
        weights = _mean_weights(states) if drawing else None
        return Encoding(
            found,
            tuple(kept),
            indices,
            weights,
            None,
            TPMRIState(tuple(states)) if states else None,
        )

    def _check_state(self, state: Any) -> Sequence[TMRState | None]:
        count = {"first": 1, "per_layer": self.settings.depth, None: 0}[self.options["tmr"]]
        if state is None:
            return [None] * count
        if not isinstance(state, TPMRIState):
            raise TypeError(f"state must be a TPMRIState or None, got {type(state).__name__}")
        if len(state.layers) != count:
            raise ValueError(
                f"state must hold {count} TMR states, got {len(state.layers)}: it is another model's"
            )
        return state.layers


class _PromptLayer(nn.Module):
    """One layer's prompt: narrow, interact as maps, widen."""

    def __init__(
        self,
        dim: int,
        tmr: bool,
        history: bool,
        cmi: str | None,
        maf: str | None,
        detach_history: bool,
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.narrow_stream = nn.Linear(dim, PROMPT_WIDTH)
        self.narrow_prompt = nn.Linear(dim, PROMPT_WIDTH)
        self.interaction = TPI(
            PROMPT_WIDTH, tmr=tmr, history=history, cmi=cmi, maf=maf, detach_history=detach_history
        )
        self.widen = nn.Linear(PROMPT_WIDTH, dim)

    def forward(
        self, stream: Tensor, prompt: Tensor, template_length: int, state: TMRState | None
    ) -> tuple[Tensor, TMRState | None]:
        stream, prompt = (
            self.narrow_stream(self.norm(stream)),
            self.narrow_prompt(self.norm(prompt)),
        )
        template, _ = self.interaction(
            _as_map(stream[:, :template_length]), _as_map(prompt[:, :template_length])
        )
        search, state = self.interaction(
            _as_map(stream[:, template_length:]), _as_map(prompt[:, template_length:]), state
        )
        fused = torch.cat((_as_tokens(template), _as_tokens(search)), dim=1)
        return self.widen(fused), state if self.interaction.tmr is not None else None


def _as_map(tokens: Tensor) -> Tensor:
    grid = int(tokens.shape[1] ** 0.5)
    return rearrange(tokens, "b (h w) c -> b c h w", h=grid)


def _as_tokens(feature_map: Tensor) -> Tensor:
    return rearrange(feature_map, "b c h w -> b (h w) c")


def _mean_weights(states: Sequence[TMRState]) -> Tensor | None:
    """Return the shares of RGB and TIR, ``(B, 2)``, the mean over the layers that weigh."""
    if not states:
        return None
    rgb = torch.stack([state.rgb_weight for state in states]).mean(0)
    return torch.stack((rgb, 1 - rgb), dim=1)
