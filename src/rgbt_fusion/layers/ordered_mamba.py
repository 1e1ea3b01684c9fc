"""A Mamba with several scans over one projected input, each in its own order of segments."""

from typing import Literal

import torch
from torch import Tensor, nn

from rgbt_fusion.checks import check_choice, check_positive_int
from rgbt_fusion.layers.layer_order import straight_through_order
from rgbt_fusion.layers.mamba import (
    ScanParameters,
    decay_rates,
    initialise_scan_,
    inner_width,
    mark_parameter,
    precise,
    step_rank,
)
from rgbt_fusion.ops.backends import NAMES, BackendName
from rgbt_fusion.ops.causal_conv1d import ordered_causal_conv1d
from rgbt_fusion.ops.selective_scan import ordered_selective_scan
from rgbt_fusion.typed_module import TypedModule

__all__ = ["OrderedMamba"]


class OrderedMamba(TypedModule):
    """Scan one projected sequence in several segment orders, and average the results.

    The scans share the input projection, the gate and the output projection; each has its own
    convolution and state space. They run as one call that reads the order as an index, so nothing
    is permuted or copied.

    Choices: the parameters of the scans are stacked along a leading axis of directions:
    ``conv_weight (R, D, W)``, ``conv_bias (R, D)``, ``x_proj (R, dt_rank + 2 N, D)``,
    ``dt_weight (R, D, dt_rank)``, ``dt_bias (R, D)``, ``A_log (R, D, N)``, ``D (R, D)``.

    Args:
        dim: channels of the tokens.
        directions: R, how many scans.
        d_state: size of the state of one channel.
        d_conv: taps of the convolutions.
        expand: inner width over ``dim``.
        dt_rank: rank of the step-size projection; ``"auto"`` is ``ceil(dim / 16)``.
        backend: which implementation of the ops must run; ``"auto"`` takes the best that can.

    Shape:
        - tokens: ``(B, L, C)`` with C = ``dim``
        - orders: int64 ``(R, B, K)``, the segment visited at each step; K divides L
        - order_logits: ``(B, K)``, or None
        - returns ``(B, L, C)``

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range, or ``backend`` is unknown.

    Example:
        >>> import torch
        >>> from rgbt_fusion.layers.ordered_mamba import OrderedMamba
        >>> scans = OrderedMamba(8, directions=2)
        >>> orders = torch.tensor([[[0, 1, 2]], [[2, 1, 0]]])  # forward and backward
        >>> scans(torch.randn(1, 12, 8), orders).shape
        torch.Size([1, 12, 8])

    Source:
        Lu et al., "RGBT Tracking via All-layer Multimodal Interactions with Progressive Fusion
        Mamba" (AINet), AAAI 2025, eq. 9-11.
    """

    def __init__(
        self,
        dim: int,
        directions: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2,
        dt_rank: int | Literal["auto"] = "auto",
        backend: BackendName = "auto",
    ) -> None:
        super().__init__()
        self.directions = check_positive_int(directions, name="directions")
        self.d_state = check_positive_int(d_state, name="d_state")
        self.d_conv = check_positive_int(d_conv, name="d_conv")
        self.expand = expand
        self.dt_rank = step_rank(dim, dt_rank)
        check_choice(backend, NAMES, name="backend")
        self.backend: BackendName = backend
        inner = inner_width(dim, expand)
        coefficients = self.dt_rank + 2 * d_state
        self.in_proj = nn.Linear(dim, 2 * inner, bias=False)
        self.conv_weight = nn.Parameter(torch.empty(directions, inner, d_conv))
        self.conv_bias = nn.Parameter(torch.empty(directions, inner))
        self.x_proj = nn.Parameter(torch.empty(directions, coefficients, inner))
        self.dt_weight = nn.Parameter(torch.empty(directions, inner, self.dt_rank))
        self.dt_bias = nn.Parameter(torch.empty(directions, inner))
        self.A_log = nn.Parameter(torch.empty(directions, inner, d_state))
        self.D = nn.Parameter(torch.empty(directions, inner))
        self.out_proj = nn.Linear(inner, dim, bias=False)
        # as nn.Conv1d and nn.Linear start
        for parameter in (self.conv_weight, self.conv_bias):
            nn.init.uniform_(parameter, -(d_conv**-0.5), d_conv**-0.5)
        nn.init.uniform_(self.x_proj, -(inner**-0.5), inner**-0.5)
        initialise_scan_(self.dt_weight, self.dt_bias, self.A_log, self.D)
        mark_parameter(self.A_log, "_no_weight_decay")
        mark_parameter(self.D, "_no_weight_decay")

    def forward(self, tokens: Tensor, orders: Tensor, order_logits: Tensor | None = None) -> Tensor:
        """Scan ``tokens (B, L, C)`` in the segment orders ``orders (R, B, K)``; the shape stays.

        Where ``order_logits (B, K)`` are given, they receive the gradient of the last direction's
        order.
        """
        return self.mix(tokens, orders, self.prepare(), order_logits)

    def prepared_from(self) -> tuple[Tensor, ...]:
        """Return the parameters that :meth:`prepare` reads."""
        return (self.conv_weight, self.conv_bias, self.A_log, self.D, self.dt_bias)

    def prepare(self) -> ScanParameters:
        """Return what :meth:`mix` computes with; it may be kept while the parameters stay."""
        return ScanParameters(
            conv_weight=precise(self.conv_weight),
            conv_bias=precise(self.conv_bias),
            A=decay_rates(self.A_log),
            D=precise(self.D),
            delta_bias=precise(self.dt_bias),
        )

    def mix(
        self,
        tokens: Tensor,
        orders: Tensor,
        scan: ScanParameters,
        order_logits: Tensor | None = None,
    ) -> Tensor:
        """Scan as :meth:`forward` does, with prepared parameters."""
        x, z = self.in_proj(tokens).chunk(2, dim=-1)
        if order_logits is not None:
            x = straight_through_order(x, order_logits, orders)
        x = ordered_causal_conv1d(
            x,
            scan.conv_weight,
            scan.conv_bias,
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
            scan.A,
            B.unflatten(1, (batch, length))[:, :, :, None],
            C.unflatten(1, (batch, length))[:, :, :, None],
            scan.D,
            z,
            scan.delta_bias,
            delta_softplus=True,
            order=orders,
            merge=True,
            trusted_order=True,
            backend=self.backend,
        )
        return self.out_proj(y) / directions

    def extra_repr(self) -> str:
        """Show the options; ``dim`` stands in the projections."""
        return (
            f"directions={self.directions}, d_state={self.d_state}, d_conv={self.d_conv}, "
            f"expand={self.expand}, dt_rank={self.dt_rank}, backend={self.backend!r}"
        )
