"""TPMRI: TIR prompts RGB in three stages, with a memory of which modality could be trusted."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from rgbt_fusion.checks import check_choice
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.layers.cross_modality_interaction import CMI, CMIDirection
from rgbt_fusion.layers.modality_aware_fusion import MAF, MAFPooling
from rgbt_fusion.layers.progressive_interaction import TPI
from rgbt_fusion.layers.temporal_modality_reweighting import TMR, TMRState
from rgbt_fusion.layers.token_selection import select_tokens
from rgbt_fusion.layers.vit import PatchEmbed
from rgbt_fusion.models.encoder import ConvolutionalStem, EncoderSettings
from rgbt_fusion.models.interface import ModelState, TemplateTokens, check_images
from rgbt_fusion.models.network import TrackingNetwork, template_streams
from rgbt_fusion.models.walk import Call, Walk
from rgbt_fusion.ops.map_op import can_fuse_maps, prompt_maps
from rgbt_fusion.typed_module import TypedModule

__all__ = ["TPMRI", "TPMRIState"]

PROMPT_WIDTH = 8


class TPMRIState(NamedTuple):
    """What TPMRI remembers of the previous frame."""

    layers: tuple[TMRState, ...]
    """The state of its one TMR, or of the TMR of every layer."""

    def reset(self, mask: Tensor) -> "TPMRIState":
        """Return the state with some rows as before a first frame.

        ``mask`` is boolean, ``(B,)``, and true for these rows.
        """
        return TPMRIState(tuple(layer.reset(mask) for layer in self.layers))


class TPMRI(TrackingNetwork):
    r"""Track in RGB with a prompt from TIR, weighed by the past and renewed before every block.

    TIR has a patch embedding of its own. One TMR weighs both as maps; then, before each block,
    stream and prompt are narrowed to 8 channels, pass CMI and MAF as maps, and the widened result
    is added to the stream.

    .. math::
        (H^0, P^0, s^t) &= \mathrm{TMR}(x_{rgb}, x_{tir}, s^{t-1}) \\
        P^l &= \mathrm{MAF}_l(h, \mathrm{CMI}_l(h, p))\, W_{up}, \qquad
        h = \mathrm{LN}(H^{l-1}) W_h, \quad p = \mathrm{LN}(P^{l-1}) W_p \\
        H^l &= \mathrm{Block}_l(H^{l-1} + P^l)

    Paper and code: template and search are maps of their own throughout. The state of the search
    map goes from frame to frame; the template is weighed once, without history. The projections and
    the LayerNorm in front of them are those of ViPT, on whose size the published counts are built.
    Positions are added after the weighing, to the stream alone. The published operation count is
    that of an encoder that eliminates candidates, so the preset does: eliminated tokens are zeros
    in the maps of the stream, and prompts are added where tokens are left. ``tmr="per_layer"`` puts
    a TMR on the 8 channels of every layer instead, as the code of the article does.

    Args:
        settings: sizes of encoder and head, keep ratio.
        tmr: ``"first"``, ``"per_layer"``, or None for the ablation without it.
        history: let TMR read the previous frame (the ablation is False).
        cmi: direction of CMI, ``"tir_to_rgb"`` or ``"bidirectional"``; None for the ablation
            without it.
        maf: pooling of MAF, ``"global"`` or ``"spatial"``; None for the ablation without it.
        detach_history: cut the gradient between frames.

    Shape:
        - template, search: an ``ImagePair`` of ``(B, 3, template_size, template_size)`` and
          ``(B, 3, search_size, search_size)``, normalised
        - state: a :class:`TPMRIState`; None starts a sequence
        - returns :class:`ModelOutput` with the next state

    Raises:
        ShapeError: ``template`` or ``search`` does not have the shape above; the batches of
            ``template``, ``search`` and ``state`` differ.
        ValueError: an option is unknown; ``state`` is that of another model; an image is on another
            device than the model.
        TypeError: ``state`` is not a :class:`TPMRIState`; an image has another dtype than the
            model.

    Example:
        >>> import torch
        >>> from rgbt_fusion import ImagePair, create_model
        >>> model, state = create_model("tpmri_tiny_128").eval(), None
        >>> template = model.embed_template(ImagePair(*torch.rand(2, 1, 3, 64, 64)))
        >>> for _ in range(2):
        ...     out = model(template, ImagePair(*torch.rand(2, 1, 3, 128, 128)), state)
        ...     state = out.state
        >>> out.box_cxcywh_unit.shape
        torch.Size([1, 4])

    Source:
        Li et al., "Three-stage progressive modality reweighting and interaction framework for
        robust RGB-T tracking", Knowledge-Based Systems 339, 2026; the prompt layers: Zhu et al.,
        "Visual Prompt Multi-Modal Tracking" (ViPT), CVPR 2023.
    """

    apart: Tensor
    """``(L, L)``: what is added to a score, minus infinity between template and search."""
    shares: Tensor
    """``(L, L)``: its product with tokens is the mean of the map that each token lies in."""

    duplicated = (("patch_embed_tir.", "backbone.patch_embed."),)

    def __init__(
        self,
        settings: EncoderSettings | None = None,
        *,
        tmr: Literal["first", "per_layer"] | None = "first",
        history: bool = True,
        cmi: CMIDirection | None = "tir_to_rgb",
        maf: MAFPooling | None = "global",
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
        depth = self.settings.depth
        self.weighs_every_layer = tmr == "per_layer"
        self.state_length = {"first": 1, "per_layer": depth, None: 0}[tmr]
        self.patch_embed_tir = (
            PatchEmbed(dim=dim) if self.settings.stem == "patch" else ConvolutionalStem(dim)
        )
        self.tmr = (
            TMR(dim, history=history, detach_history=detach_history) if tmr == "first" else None
        )
        self.register_buffer("apart", _apart(*self._lengths()), persistent=False)
        self.register_buffer("shares", _shares(*self._lengths()), persistent=False)
        self.prompt_layers = nn.ModuleList(
            _PromptLayer(
                dim,
                tmr=self.weighs_every_layer,
                history=history,
                cmi=cmi,
                maf=maf,
                detach_history=detach_history,
                template_length=self.backbone.template_length,
            )
            for _ in range(depth)
        )

    def _lengths(self) -> tuple[int, int]:
        """Return the number of tokens of the template and of the search crop."""
        return self.backbone.template_length, self.backbone.search_length

    def embed_template(self, template: ImagePair) -> TemplateTokens:
        """Turn the template into weighed tokens once."""
        check_images(template, self.template_size, name="template", like=self.backbone.pos_embed_z)
        rgb, tir, _ = self._weigh(template, None)
        return TemplateTokens(rgb + self.backbone.pos_embed_z, tir)

    def begin(self, call: Call) -> Walk:
        """Return a walk of one stream that is prompted before every block."""
        self.check_search(call.search)
        past = self._past(call.state)
        template_rgb, template_tir = template_streams(call.template, len(call.search.rgb))
        first = None if self.tmr is None else past[0]
        rgb, tir, weighed = self._weigh(call.search, first)
        return _PromptedWalk(
            self,
            tokens=torch.cat((template_rgb, rgb + self.backbone.pos_embed_x), dim=1),
            prompt=torch.cat((template_tir, tir), dim=1),
            past=past if self.weighs_every_layer else [None] * self.settings.depth,
            states=[] if weighed is None else [weighed],
        )

    def _weigh(
        self, images: ImagePair, state: TMRState | None
    ) -> tuple[Tensor, Tensor, TMRState | None]:
        """Return the tokens of both modalities, weighed where the model has one TMR."""
        rgb = self.backbone.patch_embed(images.rgb)
        tir = self.patch_embed_tir(images.tir)
        if self.tmr is None:
            return rgb, tir, None
        emas = (self.tmr.ema_rgb, self.tmr.ema_tir)
        of_rgb, of_tir = (self.prepared.get(ema) for ema in emas)
        rgb_map, tir_map, state = self.tmr(_as_map(rgb), _as_map(tir), state, (of_rgb, of_tir))
        return _as_tokens(rgb_map), _as_tokens(tir_map), state

    def _past(self, state: ModelState | None) -> Sequence[TMRState | None]:
        """Return what each TMR remembers."""
        if state is None:
            return [None] * self.state_length
        if not isinstance(state, TPMRIState):
            raise TypeError(f"state must be a TPMRIState or None, got {type(state).__name__}")
        if len(state.layers) != self.state_length:
            raise ValueError(
                f"state must hold {self.state_length} TMR states, got {len(state.layers)}: "
                "it is another model's"
            )
        return state.layers


class _PromptedWalk(Walk):
    """Walk with the stream of RGB, and with the prompt beside it."""

    def __init__(
        self,
        model: TPMRI,
        *,
        tokens: Tensor,
        prompt: Tensor,
        past: Sequence[TMRState | None],
        states: list[TMRState],
    ) -> None:
        super().__init__(model.backbone, tokens)
        self.model = model
        self.prompt = prompt
        """``(B, T + S, C)``: that of all places, whichever tokens are left."""
        self.past = past
        """What the TMR of each layer remembers of the previous frame."""
        self.states = states
        """What the next frame will find."""
        self.all_indices = self.indices
        self._places: Tensor | None = None
        """``(B, T + K)``: where the tokens stand among those of all places; None while all do."""

    def run_block(self, number: int, keep_ratio: float) -> None:
        """Run a block, and note which tokens it left."""
        before = self.indices
        super().run_block(number, keep_ratio)
        if self.indices is not before:
            self._places = None

    def before_block(self, number: int) -> None:
        """Renew the prompt on the maps of all places, and add it where tokens are left."""
        layer = self.model.prompt_layers[number]
        prepared = self.model.prepared.get(layer)
        if prepared is not None:
            places = self._places_left()
            self.prompt = cast(_PromptLayer, layer).interact(
                self.tokens, self.prompt, places, prepared, self.model.apart, self.model.shares
            )
            left = self.prompt if places is None else select_tokens(self.prompt, places)
            self.tokens = self.tokens + left
            return
        length = self.encoder.template_length
        self.prompt, weighed = layer(self._stream(), self.prompt, length, self.past[number])
        if weighed is not None:
            self.states.append(weighed)
        self.tokens = self.tokens + self.encoder.survivors(
            self.prompt, self.all_indices, self.indices
        )

    def next_state(self, state: ModelState | None) -> ModelState | None:
        """Return what the TMRs remember; None without any."""
        return TPMRIState(tuple(self.states)) if self.states else None

    def modality_weights(self) -> Tensor | None:
        """Return the shares of RGB and TIR, the mean over the layers that weigh."""
        if not self.states:
            return None
        rgb = torch.stack([state.rgb_weight for state in self.states]).mean(0)
        return torch.stack((rgb, 1 - rgb), dim=1)

    def _places_left(self) -> Tensor | None:
        """Return where the tokens stand among those of all places; None if all are left."""
        if self.indices.shape[1] == self.encoder.search_length:
            return None
        if self._places is None:
            length = self.encoder.template_length
            front = torch.arange(length, device=self.indices.device)
            template = front.expand(len(self.indices), -1)
            self._places = torch.cat((template, self.indices + length), dim=1)
        return self._places

    def _stream(self) -> Tensor:
        """Return the tokens of all places, zeros where one was eliminated."""
        length = self.encoder.template_length
        search = self.encoder.restore(self.tokens[:, length:], self.indices)
        return torch.cat((self.tokens[:, :length], search), dim=1)


class _PromptTensors(NamedTuple):
    """The projections of a prompt layer, one behind the other, as one linear layer each."""

    stream_weight: Tensor
    """``(2 W + W / 2, C)``: the narrowed stream twice, and its queries."""
    stream_bias: Tensor
    prompt_weight: Tensor
    """``(2 W + W / 2, C)``: zeros, the values and the keys of the prompt."""
    prompt_bias: Tensor
    missing: Tensor
    """``(2 W + W / 2,)``: what stands for an eliminated token, whose place holds zeros."""
    gate_weight: Tensor
    """``(1, hidden)``: the logit of the second weight of MAF minus that of the first."""
    gate_bias: Tensor


class _PromptLayer(TypedModule):
    """The prompt of one layer: narrow, interact as maps, widen."""

    def __init__(
        self,
        dim: int,
        *,
        tmr: bool,
        history: bool,
        cmi: CMIDirection | None,
        maf: MAFPooling | None,
        detach_history: bool,
        template_length: int,
    ) -> None:
        super().__init__()
        self.template_length = template_length
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.narrow_stream = nn.Linear(dim, PROMPT_WIDTH)
        self.narrow_prompt = nn.Linear(dim, PROMPT_WIDTH)
        self.interaction = TPI(
            PROMPT_WIDTH, tmr=tmr, history=history, cmi=cmi, maf=maf, detach_history=detach_history
        )
        self.widen = nn.Linear(PROMPT_WIDTH, dim)

    def _parts(self) -> tuple[CMI, MAF] | None:
        """Return the stages of a layer that :meth:`interact` can do; None for any other."""
        cmi = self.interaction.cmi
        maf = self.interaction.maf
        linears = (self.narrow_stream, self.narrow_prompt, self.widen)
        if self.interaction.tmr is not None or cmi is None or maf is None:
            return None
        linears += (maf.fc1, maf.fc2)
        if cmi.rgb_to_tir is not None or any(type(linear) is not nn.Linear for linear in linears):
            return None
        return cmi, maf

    def prepared_from(self) -> tuple[Tensor | None, ...] | None:
        """Return the parameters that :meth:`prepare` reads; None where it cannot."""
        return None if self._parts() is None else tuple(self.parameters())

    def prepare(self) -> _PromptTensors:
        """Return what :meth:`interact` computes with; it may be kept while the parameters stay."""
        parts = self._parts()
        if parts is None:
            raise ValueError("the layer must have CMI in one direction, MAF and no TMR")
        cmi, maf = parts
        attention = cmi.tir_to_rgb
        narrow = self.narrow_stream
        query_weight, query_bias = _behind(narrow, attention.q)
        value_weight, value_bias = _behind(self.narrow_prompt, attention.v)
        key_weight, key_bias = _behind(self.narrow_prompt, attention.k)
        scale = attention.scale
        stream_weight = torch.cat((narrow.weight, narrow.weight, scale * query_weight))
        stream_bias = torch.cat((narrow.bias, narrow.bias, scale * query_bias))
        return _PromptTensors(
            stream_weight=stream_weight,
            stream_bias=stream_bias,
            prompt_weight=torch.cat((torch.zeros_like(narrow.weight), value_weight, key_weight)),
            prompt_bias=torch.cat((torch.zeros_like(narrow.bias), value_bias, key_bias)),
            missing=stream_weight @ self.norm.bias + stream_bias,
            gate_weight=maf.fc2.weight[1:] - maf.fc2.weight[:1],
            gate_bias=maf.fc2.bias[1:] - maf.fc2.bias[:1],
        )

    def interact(
        self,
        stream: Tensor,
        prompt: Tensor,
        places: Tensor | None,
        prepared: _PromptTensors,
        apart: Tensor,
        shares: Tensor,
    ) -> Tensor:
        """Do what :meth:`forward` does, on the tokens of both maps at once.

        Template and search are apart by what is added to their scores, and share the rest.

        Args:
            stream: the tokens that are left, ``(B, T + K, C)``.
            prompt: the last prompt, ``(B, T + S, C)``.
            places: where the tokens of the stream stand in the prompt; None if all are left.
            prepared: what :meth:`prepare` returned.
            apart: ``(T + S, T + S)``, see :class:`TPMRI`.
            shares: ``(T + S, T + S)``, see :class:`TPMRI`.
        """
        x = F.linear(self.norm(stream), prepared.stream_weight, prepared.stream_bias)
        y = F.linear(self.norm(prompt), prepared.prompt_weight, prepared.prompt_bias)
        if places is not None:
            zeros = prepared.missing.expand(*y.shape[:2], -1)
            x = zeros.scatter(1, places.unsqueeze(-1).expand_as(x), x)
        return self.widen(self._fused(x, y, prepared, apart, shares))

    def _fused(
        self, x: Tensor, y: Tensor, prepared: _PromptTensors, apart: Tensor, shares: Tensor
    ) -> Tensor:
        """Return what attention and blend make of the narrow tokens, ``(B, T + S, W)``."""
        maf = self.interaction.maf
        if maf is None:
            raise ValueError("the layer must have MAF")
        if maf.pooling == "global" and can_fuse_maps(x, y, self.template_length):
            perceptron = (maf.fc1.weight, maf.fc1.bias, prepared.gate_weight, prepared.gate_bias)
            return prompt_maps(x, y, self.template_length, *perceptron)
        both = 2 * PROMPT_WIDTH
        scores = torch.baddbmm(apart, x[..., both:], y[..., both:].mT)
        # the narrowed stream, and beside it the same with what it gathers from the prompt
        pair = torch.baddbmm(x[..., :both], scores.softmax(-1), y[..., :both])
        pooled = shares @ pair if maf.pooling == "global" else pair
        logit = F.linear(maf.fc1(pooled).relu(), prepared.gate_weight, prepared.gate_bias)
        own, enhanced = pair.chunk(2, dim=-1)
        return torch.lerp(own, enhanced, logit.sigmoid())

    def forward(
        self, stream: Tensor, prompt: Tensor, template_length: int, state: TMRState | None
    ) -> tuple[Tensor, TMRState | None]:
        """Return the next prompt ``(B, T + S, C)``, and what a TMR here remembers."""
        stream = self.narrow_stream(self.norm(stream))
        prompt = self.narrow_prompt(self.norm(prompt))
        template, _ = self.interaction(
            _as_map(stream[:, :template_length]), _as_map(prompt[:, :template_length])
        )
        search, state = self.interaction(
            _as_map(stream[:, template_length:]), _as_map(prompt[:, template_length:]), state
        )
        fused = torch.cat((_as_tokens(template), _as_tokens(search)), dim=1)
        return self.widen(fused), state if self.interaction.tmr is not None else None


def _behind(first: nn.Linear, second: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a 1x1 convolution that reads what a linear layer gives."""
    weight = second.weight.flatten(1)
    bias = weight @ first.bias + cast(Tensor, second.bias)
    return weight @ first.weight, bias


def _same_map(template_length: int, search_length: int) -> Tensor:
    """Return which tokens lie in the map of which, boolean ``(T + S, T + S)``."""
    is_search = torch.arange(template_length + search_length) >= template_length
    return is_search[:, None] == is_search


def _apart(template_length: int, search_length: int) -> Tensor:
    same = _same_map(template_length, search_length)
    return torch.zeros(same.shape).masked_fill(~same, -torch.inf)


def _shares(template_length: int, search_length: int) -> Tensor:
    same = _same_map(template_length, search_length).float()
    return same / same.sum(1)


def _as_map(tokens: Tensor) -> Tensor:
    grid = int(tokens.shape[1] ** 0.5)
    return rearrange(tokens, "b (h w) c -> b c h w", h=grid)


def _as_tokens(feature_map: Tensor) -> Tensor:
    return rearrange(feature_map, "b c h w -> b (h w) c")
