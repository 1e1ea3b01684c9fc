"""MutualPrompter: two streams prompt each other between the blocks of a shared transformer."""

from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgbt_fusion.checks import ShapeError, check_choice, check_finite_number, check_positive_int
from rgbt_fusion.ops.prompt_op import can_fuse_prompts, mutual_prompts
from rgbt_fusion.shapes import (
    check_dtype_unless_autocast,
    check_floating,
    check_same_device,
    check_same_shape,
    check_shape,
)
from rgbt_fusion.typed_module import TypedModule

__all__ = [
    "MutualPrompter",
    "MutualPrompts",
    "PromptForm",
    "PromptGate",
    "Prompter",
    "SpatialAttention",
]

SpatialAttention = Literal["literal", "length_free"]
"""How each token gets its weight: tied to their number, or for any number."""

PromptGate = Literal["sigmoid", "none"]
"""What bounds the weights."""

PromptForm = Literal["convolution", "linear"]
"""How the same function is computed."""


class MutualPrompts(NamedTuple):
    """One prompt per stream, both ``(B, L, C)``; the next prompter takes them as its history."""

    rgb: Tensor
    tir: Tensor


class Prompter(TypedModule):
    """The gates of every prompter, whatever the number of streams: equations 8-15 and the fovea."""

    def __init__(
        self,
        num_tokens: int = 320,
        *,
        spatial_attention: SpatialAttention | None = "literal",
        token_attention: bool = True,
        history: bool = True,
        gate: PromptGate = "sigmoid",
        form: PromptForm = "convolution",
        reduction: int = 16,
        fovea_scale: float | None = 10.0,
    ) -> None:
        super().__init__()
        check_choice(
            spatial_attention, (*get_args(SpatialAttention), None), name="spatial_attention"
        )
        check_choice(gate, get_args(PromptGate), name="gate")
        check_choice(form, get_args(PromptForm), name="form")
        check_positive_int(num_tokens, name="num_tokens")
        self.num_tokens = num_tokens if spatial_attention == "literal" else None
        self.spatial_attention: SpatialAttention | None = spatial_attention
        self.token_attention = token_attention
        self.gate: PromptGate = gate
        self.form: PromptForm = form
        self.reduction = check_positive_int(reduction, name="reduction")
        hidden = max(1, num_tokens // reduction)

        def branch() -> _BranchAttention:
            spatial = None
            if spatial_attention == "literal":
                spatial = _AcrossTokens(num_tokens, hidden, form)
            elif spatial_attention == "length_free":
                spatial = _AlongAxis(form)
            token = _AlongAxis(form) if token_attention else None
            return _BranchAttention(spatial, token, gate)

        self.own = branch()
        self.other = branch()
        self.history = branch() if history else None
        self.initial_fovea_scale = fovea_scale
        self.fovea_scale = None
        if fovea_scale is not None:
            scale = check_finite_number(fovea_scale, name="fovea_scale")
            self.fovea_scale = nn.Parameter(torch.tensor(scale))

    def fovea(self, own: Tensor) -> Tensor:
        """Return the stream's own tokens ``(B, L, C)``, weighed and then sharpened."""
        own = self.own(own)
        if self.fovea_scale is None:
            return own
        return (self.fovea_scale * own).softmax(1) * own

    def check_length(self, length: int, *, name: str) -> None:
        """Check that the literal spatial attention was built for so many tokens.

        Raises:
            ShapeError: it was built for another number.
        """
        if self.num_tokens is not None and length != self.num_tokens:
            raise ShapeError(
                f"{name} must have the {self.num_tokens} tokens that the literal spatial attention "
                f"was built for, got {length}; build the prompter with "
                f"num_tokens={length}, or with spatial_attention='length_free' for any number"
            )

    def extra_repr(self) -> str:
        """Show the options."""
        return (
            f"num_tokens={self.num_tokens}, spatial_attention={self.spatial_attention!r}, "
            f"token_attention={self.token_attention}, history={self.history is not None}, "
            f"gate={self.gate!r}, form={self.form!r}, reduction={self.reduction}, "
            f"fovea_scale={self.initial_fovea_scale}"
        )


class MutualPrompter(Prompter):
    r"""Make a prompt for each of two token streams from both streams and the previous prompt.

    Every input is weighed twice, as CBAM does for maps: "spatial attention" gives each of the N
    tokens a weight, "token attention" each of the channels. The stream's own tokens are then
    sharpened by a softmax over the tokens (the fovea), and the three are added. One prompter serves
    both streams with exchanged inputs.

    .. math::
        W_s &= g_{s2}(\mathrm{relu}(g_{s1}(\mathrm{mean}_C H)))
            + g_{s2}(\mathrm{relu}(g_{s1}(\max\nolimits_C H))), \quad H^s = H \cdot \sigma(W_s) \\
        W_t &= g_t([\mathrm{mean}_N H^s, \max\nolimits_N H^s]), \quad H^t = H^s \cdot \sigma(W_t) \\
        P^l_{rgb} &= \mathrm{softmax}_N(\lambda H^t_{rgb}) \cdot H^t_{rgb} + H^t_{tir}
            + \tilde P^{l-1}_{rgb}

    Paper and code: there is no public code. Each of the three inputs has gates of its own;
    :math:`\tilde P` is the previous prompt after its gates, and no previous prompt counts as zero.
    The paper prints the gates without the sigmoid that CBAM has: ``gate="none"``. Its spatial
    attention treats tokens as channels of a 1x1 convolution and is tied to their number; the
    length-free one convolves the pooled pair along the tokens with width 7, as equation 14 does
    along the channels. The convolution and linear forms compute the same function, by convolutions
    or by matrix products. Lambda is learned and starts at 10, as in ViPT.

    Args:
        num_tokens: number of tokens N of each stream; only the literal spatial attention depends on
            it.
        spatial_attention: ``"literal"``, ``"length_free"``, or ``None`` for the ablation without
            it.
        token_attention: weigh the channels (the ablation is ``False``).
        history: take in the previous prompt (the ablation, and the first prompter of a network, is
            ``False``).
        gate: ``"sigmoid"`` or ``"none"``.
        form: ``"convolution"`` or ``"linear"``.
        reduction: the literal spatial attention narrows N to ``num_tokens // reduction``.
        fovea_scale: initial lambda; ``None`` leaves the fovea out and adds the stream's own gated
            tokens.

    Shape:
        - rgb, tir: ``(B, L, C)``, floating point, in the dtype of the parameters; L =
          ``num_tokens`` for the literal spatial attention, else any
        - history: :class:`MutualPrompts` of the same shape, or ``None``
        - returns :class:`MutualPrompts` ``(rgb, tir)``, in the shape and dtype of the inputs

    Raises:
        ShapeError: ``rgb`` does not have the shape above or is empty, its number of tokens is not
            the one that the literal spatial attention was built for, or ``tir`` or ``history``
            differs from it.
        TypeError: ``rgb``, ``tir`` or ``history`` is not a tensor of the parameters' dtype, or
            ``history`` is not a pair.
        ValueError: an option is unknown or out of range, ``tir`` or ``history`` lies on another
            device than ``rgb``, or ``history`` is given to a prompter that was built without it.

    Example:
        >>> import torch
        >>> from rgbt_fusion import MutualPrompter
        >>> rgb, tir = torch.randn(2, 320, 96), torch.randn(2, 320, 96)
        >>> prompts = MutualPrompter(320, history=False)(rgb, tir)
        >>> prompts = MutualPrompter(320)(rgb + prompts.rgb, tir + prompts.tir, prompts)
        >>> prompts.rgb.shape
        torch.Size([2, 320, 96])

    Source:
        Luo et al., "From Two-Stream to One-Stream: Efficient RGB-T Tracking via Mutual Prompt
        Learning and Knowledge Distillation", 2024, eq. 6 and 8-16; forms from its supplement,
        table 2.
    """

    def forward(
        self, rgb: Tensor, tir: Tensor, history: MutualPrompts | tuple[Tensor, Tensor] | None = None
    ) -> MutualPrompts:
        """Return one prompt per stream ``(B, L, C)``, given the previous pair or None."""
        self._check(rgb, tir, history)
        fused = self._on_a_card(rgb, tir, history)
        if fused is not None:
            return MutualPrompts(*fused.unbind())
        previous_rgb, previous_tir = (None, None) if history is None else history
        return MutualPrompts(
            self._prompt(rgb, tir, previous_rgb), self._prompt(tir, rgb, previous_tir)
        )

    def stacked(
        self, rgb: Tensor, tir: Tensor, history: MutualPrompts | tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Return both prompts as one tensor ``(2, B, L, C)``, RGB first."""
        self._check(rgb, tir, history)
        fused = self._on_a_card(rgb, tir, history)
        return torch.stack(self(rgb, tir, history)) if fused is None else fused

    def _on_a_card(
        self, rgb: Tensor, tir: Tensor, history: tuple[Tensor, Tensor] | None
    ) -> Tensor | None:
        """Return both prompts ``(2, B, L, C)`` from four kernels; None where they cannot run."""
        if self.history is None or history is None:
            streams = (rgb, tir)
        else:
            streams = (rgb, tir, *history)
        weights = self._weights_of_gates(with_history=len(streams) > 2)
        if weights is None or not can_fuse_prompts(streams, weights):
            return None
        return mutual_prompts(list(streams), weights, self.fovea_scale, self.gate == "sigmoid")

    def _prompt(self, own: Tensor, other: Tensor, previous: Tensor | None) -> Tensor:
        """Equation 16 for one stream."""
        prompt = self.fovea(own) + self.other(other)
        if self.history is None or previous is None:
            return prompt
        return prompt + self.history(previous)

    def _weights_of_gates(self, *, with_history: bool) -> list[Tensor] | None:
        """Return the weights of all gates, six per branch; None where a gate is missing or other.

        The convolution and the linear form lay the same numbers out alike.
        """
        branches = [self.own, self.other]
        if with_history and self.history is not None:
            branches.append(self.history)
        weights = []
        for branch in branches:
            spatial, token = branch.spatial, branch.token
            if not isinstance(spatial, _AcrossTokens) or token is None:
                return None
            for layer in (spatial.reduce, spatial.restore):
                if layer.bias is None:
                    return None
                weights += [layer.weight.flatten(1), layer.bias]
            if token.mix.bias is None:
                return None
            weights += [token.mix.weight.flatten(), token.mix.bias]
        return weights

    def _check(self, rgb: Tensor, tir: Tensor, history: tuple[Tensor, Tensor] | None) -> None:
        check_shape(rgb, "B L C", name="rgb")
        if 0 in rgb.shape[1:]:
            raise ShapeError(
                f"rgb must have at least one token and one channel, got {tuple(rgb.shape)}"
            )
        self.check_length(rgb.shape[1], name="rgb")
        if history is not None and self.history is None:
            given = type(history).__name__
            raise ValueError(
                f"history must be None for a prompter built with history=False, got {given}"
            )
        if history is not None and not (isinstance(history, tuple) and len(history) == 2):
            raise TypeError(
                f"history must be MutualPrompts(rgb, tir) or None, got {type(history).__name__}"
            )
        check_floating(rgb, name="rgb")
        others = {"tir": tir}
        if history is not None:
            others["history.rgb"], others["history.tir"] = history
        for name, x in others.items():
            check_same_shape(x, rgb, name=name, like_name="rgb")
            check_same_device(x, rgb, name=name, like_name="rgb")
            check_dtype_unless_autocast(x, rgb, name=name, like_name="rgb")
        parameter = next(self.parameters(), rgb)
        check_dtype_unless_autocast(
            rgb, parameter, name="rgb", like_name="the prompter's parameters"
        )


class _BranchAttention(TypedModule):
    """Equations 8-15 for one input: weigh its tokens, then its channels."""

    def __init__(
        self,
        spatial: "_AcrossTokens | _AlongAxis | None",
        token: "_AlongAxis | None",
        gate: PromptGate,
    ) -> None:
        super().__init__()
        self.spatial = spatial
        self.token = token
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens ``(B, N, C)``, weighed by both gates."""
        if self.spatial is not None:
            pooled_channels = torch.stack([x.mean(2), x.amax(2)], 1)
            x = x * self._gate(self.spatial(pooled_channels))[:, :, None]
        if self.token is not None:
            pooled_tokens = torch.stack([x.mean(1), x.amax(1)], 1)
            x = x * self._gate(self.token(pooled_tokens))[:, None]
        return x

    def _gate(self, weights: Tensor) -> Tensor:
        return weights.sigmoid() if self.gate == "sigmoid" else weights


class _AcrossTokens(TypedModule):
    """Equation 10: a bottleneck with the tokens as channels, run on mean and max, and summed."""

    def __init__(self, num_tokens: int, hidden: int, form: PromptForm) -> None:
        super().__init__()
        self.form: PromptForm = form
        if form == "linear":
            self.reduce = nn.Linear(num_tokens, hidden)
            self.restore = nn.Linear(hidden, num_tokens)
        else:
            self.reduce = nn.Conv1d(num_tokens, hidden, 1)
            self.restore = nn.Conv1d(hidden, num_tokens, 1)

    def forward(self, pooled: Tensor) -> Tensor:
        """Turn mean and max of each token ``(B, 2, N)`` into its weight ``(B, N)``."""
        if self.form == "linear":
            return self.restore(self.reduce(pooled).relu()).sum(1)
        return self.restore(self.reduce(pooled.mT).relu()).sum(2)


class _AlongAxis(TypedModule):
    """Equation 14: mean and max convolved to one weight per place, over seven neighbours."""

    def __init__(self, form: PromptForm) -> None:
        super().__init__()
        self.form: PromptForm = form
        self.mix = nn.Linear(14, 1) if form == "linear" else nn.Conv1d(2, 1, 7, padding=3)

    def forward(self, pooled: Tensor) -> Tensor:
        """Turn mean and max of each place ``(B, 2, S)`` into its weight ``(B, S)``."""
        if self.form == "linear":
            neighbours = F.pad(pooled, (3, 3)).unfold(2, 7, 1)
            return self.mix(neighbours.transpose(1, 2).flatten(2))[..., 0]
        return self.mix(pooled)[:, 0]
