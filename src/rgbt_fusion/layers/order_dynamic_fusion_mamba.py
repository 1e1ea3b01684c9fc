"""Fuse the features of all layers in one long scan whose layer order is predicted (AINet's OFM)."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from rgbt_fusion.checks import ShapeError, check_choice, check_positive_int
from rgbt_fusion.layers.layer_order import ORDER_PREDICTORS
from rgbt_fusion.layers.mamba import ScanParameters
from rgbt_fusion.layers.ordered_mamba import OrderedMamba
from rgbt_fusion.ops.backends import BackendName
from rgbt_fusion.shapes import check_shape
from rgbt_fusion.typed_module import TypedModule

__all__ = ["OFM", "OrderDynamicFusionMamba", "OrderGradientKind", "OrderPredictorKind"]

OrderPredictorKind = Literal["pooled", "released"]
"""What predicts the order of the layers."""

OrderGradientKind = Literal["straight_through", "none"]
"""Whether the predictor learns."""


class OrderDynamicFusionMamba(TypedModule):
    r"""Let the tokens of all backbone layers interact in one scan per order of the layers.

    The features of K layers are laid end to end and scanned three times: from the first layer to
    the last, from the last to the first, and in an order that the input chooses. The tokens inside
    a layer keep their order. The three scans run as one call that reads the order as an index, so
    no sequence is permuted or copied. The result is added to the input and summed over the layers.

    .. math::
        [x, z] &= \mathrm{LN}(F) W_{in}, \qquad F = [x_1^{dfm}, \dots, x_K^{dfm}] \\
        y_\pi &= \pi^{-1}\big(\mathrm{SSM}_\pi(\mathrm{silu}(\mathrm{conv}_\pi(\pi(x))))\big) \\
        y &= \tfrac{1}{3} \sum_{\pi \in \{\text{forward},\,\text{backward},\,\text{dynamic}\}}
             y_\pi \odot \mathrm{silu}(z) \\
        \text{out} &= \mathrm{LN}\Big(\sum_{k=1}^{K} \mathrm{LN}(F + y W_{out})_k\Big)

    Paper and code: the gate, the average over the scans, the residual and the norms are those of
    the authors' released code. The convolution runs across layer borders in scan order. The
    released predictor takes its order from a ``sort``, whose indices carry no gradient, so it is
    never trained; it can be had with ``order_predictor="released"``. The default, ``"pooled"``,
    learns through a straight-through soft permutation.

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
        ShapeError: ``features`` are not K, or they do not have one shape ``(B, L, C)``.
        TypeError: ``features`` is neither a tensor nor a sequence of tensors, or an argument has
            the wrong type.
        ValueError: an argument is out of range, or ``order_predictor``, ``order_gradient`` or
            ``backend`` is unknown.

    Example:
        >>> import torch
        >>> from rgbt_fusion import OFM
        >>> ofm = OFM(32, num_layers=3)
        >>> features = [torch.randn(2, 20, 32) for _ in range(3)]
        >>> ofm(features).shape
        torch.Size([2, 20, 32])
        >>> ofm.layer_order(features).tolist()  # one order per sample; training starts from this
        [[0, 1, 2], [0, 1, 2]]

    Source:
        Lu et al., "RGBT Tracking via All-layer Multimodal Interactions with Progressive Fusion
        Mamba" (AINet), AAAI 2025, eq. 9-11.
    """

    def __init__(
        self,
        dim: int,
        *,
        num_layers: int = 12,
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2,
        dt_rank: int | Literal["auto"] = "auto",
        order_predictor: OrderPredictorKind | None = "pooled",
        order_gradient: OrderGradientKind = "straight_through",
        backend: BackendName = "auto",
    ) -> None:
        super().__init__()
        self.dim = check_positive_int(dim, name="dim")
        self.num_layers = check_positive_int(num_layers, name="num_layers")
        check_choice(order_predictor, (*get_args(OrderPredictorKind), None), name="order_predictor")
        check_choice(order_gradient, get_args(OrderGradientKind), name="order_gradient")
        self.order_predictor_kind: OrderPredictorKind | None = order_predictor
        self.order_gradient: OrderGradientKind = order_gradient
        self.backend: BackendName = backend
        directions = 2 if order_predictor is None else 3
        self.norm1 = nn.LayerNorm(dim)
        self.scans = OrderedMamba(dim, directions, d_state, d_conv, expand, dt_rank, backend)
        self.order_predictor = None
        if order_predictor is not None:
            self.order_predictor = ORDER_PREDICTORS[order_predictor](dim, num_layers)
        self.norm2 = nn.LayerNorm(dim)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, features: Sequence[Tensor] | Tensor, scan: ScanParameters | None = None
    ) -> Tensor:
        """Fuse K features ``(B, L, C)``, or one ``(B, K, L, C)``; return ``(B, L, C)``.

        ``scan`` is what ``scans.prepare()`` returned, where it was kept.
        """
        x = self._as_sequence(features)
        normed = self.norm1(x)
        natural = torch.arange(self.num_layers, device=x.device)
        orders = torch.stack([natural, natural.flip(0)])[:, None].expand(-1, x.shape[0], -1)
        trained_logits = None
        if self.order_predictor is not None:
            logits = self.order_predictor(normed)
            dynamic = logits.argsort(dim=-1, stable=True)
            orders = torch.cat([orders, dynamic[None]])
            if self.order_gradient == "straight_through" and torch.is_grad_enabled():
                trained_logits = logits
        if scan is None:
            mixed = self.scans(normed, orders, trained_logits)
        else:
            mixed = self.scans.mix(normed, orders, scan, trained_logits)
        x = self.norm2(x + mixed)
        return self.norm(x.unflatten(1, (self.num_layers, -1)).sum(1))

    def layer_order(self, features: Sequence[Tensor] | Tensor) -> Tensor:
        """Return the layer that the dynamic scan visits at each step, ``(B, K)``."""
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
        """Show the options; those of the scans stand beside them."""
        return (
            f"dim={self.dim}, num_layers={self.num_layers}, "
            f"order_predictor={self.order_predictor_kind!r}, order_gradient={self.order_gradient!r}"
        )


OFM = OrderDynamicFusionMamba
