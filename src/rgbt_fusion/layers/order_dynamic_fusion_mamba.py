"""Fuse the features of all layers in one long scan whose layer order is predicted (AINet's OFM)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rgbt_fusion.checks import ShapeError, check_choice, check_positive_int
from rgbt_fusion.layers.layer_order import ORDER_PREDICTORS, straight_through_order
from rgbt_fusion.layers.mamba import initialise_scan_, inner_width, step_rank
from rgbt_fusion.ops.causal_conv1d import ordered_causal_conv1d
from rgbt_fusion.ops.selective_scan import ordered_selective_scan
from rgbt_fusion.shapes import check_shape

__all__ = ["OFM", "OrderDynamicFusionMamba"]


class OrderDynamicFusionMamba(nn.Module):
    r"""Let the tokens of all backbone layers interact in linear time, in an order of layers that
    the input chooses.

    The features of K layers are laid end to end and scanned three times: layers first to last, last
    to first, and in a predicted order; the tokens inside a layer keep theirs. The three scans share
    the input projection, the gate and the output projection and have their own convolution and
    state space; they run as one call that reads the order as an index, so no sequence is permuted
    or copied. The result is added to the input and summed over the layers.

    .. math::
        [x, z] &= \mathrm{LN}(F) W_{in}, \qquad F = [x_1^{dfm}, \dots, x_K^{dfm}] \\
        y &= \tfrac{1}{3} \sum_{\pi \in \{\text{forward},\,\text{backward},\,\text{dynamic}\}}
             \pi^{-1}\big(\mathrm{SSM}_\pi(\mathrm{silu}(\mathrm{conv}_\pi(\pi(x))))\big) \odot \mathrm{silu}(z) \\
        \text{out} &= \mathrm{LN}\Big(\sum_{k=1}^{K} \mathrm{LN}(F + y W_{out})_k\Big)

    Where the paper is silent: the gate, the average over the scans, the residual and the norms are
    those of the authors' released code; the convolution runs across layer borders in scan order.
    Where they differ: the released predictor takes its order from a ``sort``, whose indices carry
    no gradient, so it is never trained. It can be had (``order_predictor="released"``); the
    default, ``"pooled"``, learns through a straight-through soft permutation.

    Args:
        dim: channels of the tokens.
        num_layers: K, how many layers are fused.
        d_state: size of the state of one channel.
        d_conv: taps of the convolutions.
        expand: inner width over ``dim``.
        dt_rank: rank of the step-size projection; ``"auto"`` is ``ceil(dim / 16)``.
        order_predictor: ``"pooled"``, ``"released"``, or None for two scans without a dynamic order
            (the paper's OFM*).
        order_gradient: ``"straight_through"`` trains the predictor; ``"none"`` leaves it as it
            started, as released.
        backend: which implementation of the ops must run; ``"auto"`` takes the best that can.

    Shape:
        - features: K tensors ``(B, L, C)``, or one ``(B, K, L, C)``, with C = ``dim``
        - returns ``(B, L, C)``

    Raises:
        ShapeError: there are not K features, or they have not one shape ``(B, L, C)``.
        ValueError: an argument is out of range or unknown.

    Example:
        >>> import torch
        >>> from rgbt_fusion import OFM
        >>> ofm = OFM(32, num_layers=3)
        >>> ofm([torch.randn(2, 20, 32) for _ in range(3)]).shape
        torch.Size([2, 20, 32])

    Source:
        AINet (Lu et al., "RGBT Tracking via All-layer Multimodal Interactions with Progressive
        Fusion Mamba", AAAI 2025), eq. 9-11.
    """

    def __init__(
        self,
        dim: int,
        *,
        num_layers: int = 12,
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2,
        dt_rank: int | str = "auto",
        order_predictor: str | None = "pooled",
        order_gradient: str = "straight_through",
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self.dim = check_positive_int(dim, name="dim")
        self.num_layers = check_positive_int(num_layers, name="num_layers")
        check_choice(order_predictor, (*ORDER_PREDICTORS, None), name="order_predictor")
        check_choice(order_gradient, ("straight_through", "none"), name="order_gradient")
        self.order_gradient = order_gradient
        self.backend = backend
        directions = 2 if order_predictor is None else 3
        self.norm1 = nn.LayerNorm(dim)
        self.scans = OrderedMamba(dim, directions, d_state, d_conv, expand, dt_rank, backend)
        self.order_predictor = (
            None if order_predictor is None else ORDER_PREDICTORS[order_predictor](dim, num_layers)
        )
        self.norm2 = nn.LayerNorm(dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, features: Sequence[Tensor] | Tensor) -> Tensor:
        """Fuse the layers; see the class."""
        x = self._as_sequence(features)
        normed = self.norm1(x)
        natural = torch.arange(self.num_layers, device=x.device)
        orders = torch.stack([natural, natural.flip(0)])[:, None].expand(-1, x.shape[0], -1)
        logits = None
        if self.order_predictor is not None:
            logits = self.order_predictor(normed)
            orders = torch.cat([orders, logits.argsort(dim=-1, stable=True)[None]])
        trained = (
            logits
            if self.order_gradient == "straight_through" and torch.is_grad_enabled()
            else None
        )
        x = self.norm2(x + self.scans(normed, orders, trained))
        return self.norm(x.unflatten(1, (self.num_layers, -1)).sum(1))

    def layer_order(self, features: Sequence[Tensor] | Tensor) -> Tensor:
        """Return the predicted order, ``(B, K)``: the layer that the dynamic scan visits at each
        step."""
        x = self._as_sequence(features)
        if self.order_predictor is None:
            return torch.arange(self.num_layers, device=x.device).expand(x.shape[0], -1)
        return self.order_predictor(self.norm1(x)).argsort(dim=-1, stable=True)

    def _as_sequence(self, features: Sequence[Tensor] | Tensor) -> Tensor:
        """Lay the layers end to end, ``(B, K L, C)``."""
        if isinstance(features, Tensor):
            check_shape(features, "B K L C", K=self.num_layers, C=self.dim, name="features")
            return features.flatten(1, 2)
        if not isinstance(features, Sequence):
            raise TypeError(
                f"features must be a tensor or a sequence of tensors, got {type(features).__name__}"
            )
        if len(features) != self.num_layers:
            raise ShapeError(
                f"features must hold num_layers = {self.num_layers} tensors, got {len(features)}"
            )
        sizes = check_shape(features[0], "B L C", C=self.dim, name="features[0]")
        for i, feature in enumerate(features):
            check_shape(feature, "B L C", name=f"features[{i}]", **sizes)
        return torch.cat(list(features), dim=1)

    def extra_repr(self) -> str:
        """Name what the sub-modules do not show."""
        return f"num_layers={self.num_layers}, order_gradient={self.order_gradient!r}"


class OrderedMamba(nn.Module):
    """A Mamba with several scans over one projected input, each in its own segment order, averaged.

    Parameters of the scans are stacked along a leading axis of directions: ``conv_weight (R, D,
    W)``, ``conv_bias (R, D)``, ``x_proj (R, dt_rank + 2 N, D)``, ``dt_weight (R, D, dt_rank)``,
    ``dt_bias (R, D)``, ``A_log (R, D, N)``, ``D (R, D)``.
    """

    def __init__(
        self,
        dim: int,
        directions: int,
        d_state: int,
        d_conv: int,
        expand: float,
        dt_rank: int | str,
        backend: str,
    ) -> None:
        super().__init__()
        self.d_state = check_positive_int(d_state, name="d_state")
        self.dt_rank = step_rank(dim, dt_rank)
        self.backend = backend
        inner, R, rank = inner_width(dim, expand), directions, self.dt_rank
        self.in_proj = nn.Linear(dim, 2 * inner, bias=False)
        self.conv_weight = nn.Parameter(
            torch.empty(R, inner, check_positive_int(d_conv, name="d_conv"))
        )
        self.conv_bias = nn.Parameter(torch.empty(R, inner))
        self.x_proj = nn.Parameter(torch.empty(R, rank + 2 * d_state, inner))
        self.dt_weight = nn.Parameter(torch.empty(R, inner, rank))
        self.dt_bias = nn.Parameter(torch.empty(R, inner))
        self.A_log = nn.Parameter(torch.empty(R, inner, d_state))
        self.D = nn.Parameter(torch.empty(R, inner))
        self.out_proj = nn.Linear(inner, dim, bias=False)
        for bound, parameters in (
            (d_conv**-0.5, (self.conv_weight, self.conv_bias)),
            (inner**-0.5, (self.x_proj,)),
        ):
            for parameter in parameters:
                nn.init.uniform_(parameter, -bound, bound)
        initialise_scan_(self.dt_weight, self.dt_bias, self.A_log, self.D)

    def forward(self, tokens: Tensor, orders: Tensor, order_logits: Tensor | None = None) -> Tensor:
        """Scan ``tokens (B, L, C)`` in the segment orders ``orders (R, B, K)``.

        ``order_logits (B, K)``, where given, receive the gradient of the last direction's order.
        """
        x, z = self.in_proj(tokens).chunk(2, dim=-1)
        if order_logits is not None:
            x = straight_through_order(x, order_logits, orders)
        x = ordered_causal_conv1d(
            x,
            self.conv_weight,
            self.conv_bias,
            "silu",
            order=orders,
            trusted_order=True,
            backend=self.backend,
        )
        directions, batch, length, inner = x.shape
        rows = x.reshape(directions, batch * length, inner)
        delta, B, C = torch.bmm(rows, self.x_proj.mT).split(
            [self.dt_rank, self.d_state, self.d_state], dim=-1
        )
        y, _ = ordered_selective_scan(
            x,
            torch.bmm(delta, self.dt_weight.mT).view(x.shape),
            -torch.exp(self.A_log.float() if self.A_log.dtype != torch.float64 else self.A_log),
            B.unflatten(1, (batch, length)),
            C.unflatten(1, (batch, length)),
            self.D,
            z,
            self.dt_bias,
            delta_softplus=True,
            order=orders,
            merge=True,
            trusted_order=True,
            backend=self.backend,
        )
        return self.out_proj(y) / directions


OFM = OrderDynamicFusionMamba
