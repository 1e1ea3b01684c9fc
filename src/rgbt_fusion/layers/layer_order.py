"""Predicting an order of layers, and the gradient that trains the prediction."""

from typing import Any

import torch
from torch import Tensor, nn

from rgbt_fusion.typed_module import TypedModule

__all__ = [
    "ORDER_PREDICTORS",
    "PooledOrderPredictor",
    "ReleasedOrderPredictor",
    "soft_permutation",
    "straight_through_order",
]


class PooledOrderPredictor(TypedModule):
    r"""Predict one logit per layer from its mean token; layers are visited by ascending logit.

    .. math:: s_k = w_2^\top \mathrm{GELU}(W_1 \bar x_k + b_1) + p_k

    Choices: the position :math:`p_k` starts evenly spaced and :math:`w_2` near zero. Training then
    starts from the natural order, and from logits that differ, where a soft sort has a gradient.

    Args:
        dim: channels of the tokens.
        num_layers: K, how many layers are put in order.
        hidden: width of the perceptron.

    Shape:
        - tokens: ``(B, K L, C)``, the K layers end to end, with C = ``dim``
        - returns logits ``(B, K)``

    Example:
        >>> import torch
        >>> from rgbt_fusion.layers.layer_order import PooledOrderPredictor
        >>> logits = PooledOrderPredictor(8, num_layers=3)(torch.zeros(1, 12, 8))
        >>> logits.argsort(-1).tolist()  # the natural order, before any training
        [[0, 1, 2]]
    """

    def __init__(self, dim: int, num_layers: int, hidden: int = 64) -> None:
        super().__init__()
        self.dim = dim
        self.num_layers = num_layers
        last = nn.Linear(hidden, 1, bias=False)
        nn.init.normal_(last.weight, std=1e-3)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), last)
        self.position = nn.Parameter(torch.linspace(-1.0, 1.0, num_layers))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map normalised tokens ``(B, K L, C)`` to logits ``(B, K)``."""
        pooled = tokens.unflatten(1, (self.num_layers, -1)).mean(2)
        return self.mlp(pooled).squeeze(-1) + self.position

    def extra_repr(self) -> str:
        """Show the options."""
        return f"dim={self.dim}, num_layers={self.num_layers}"


class ReleasedOrderPredictor(TypedModule):
    """AINet's released predictor: pool the tokens to 2,048, an MLP over them, one logit per layer.

    Choices: without a straight-through gradient it is never trained, as in the released code.

    Args:
        dim: channels of the tokens.
        num_layers: K, how many layers are put in order.
        length: how many tokens the pooling leaves.

    Shape:
        - tokens: ``(B, K L, C)``, the K layers end to end, with C = ``dim``
        - returns logits ``(B, K)``
    """

    def __init__(self, dim: int, num_layers: int, length: int = 2048) -> None:
        super().__init__()
        self.dim = dim
        self.num_layers = num_layers
        self.pool = nn.AdaptiveAvgPool1d(length)
        self.mlp = nn.Sequential(
            nn.Linear(length, 512), nn.GELU(), nn.Linear(512, 256), nn.GELU(), nn.Linear(256, 128)
        )
        self.fc = nn.Linear(dim * 128, num_layers)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map normalised tokens ``(B, K L, C)`` to logits ``(B, K)``."""
        return self.fc(self.mlp(self.pool(tokens.mT)).flatten(1))

    def extra_repr(self) -> str:
        """Show the options; the length stands at the pooling."""
        return f"dim={self.dim}, num_layers={self.num_layers}"


ORDER_PREDICTORS = {"pooled": PooledOrderPredictor, "released": ReleasedOrderPredictor}
"""The predictors by the name that :class:`OrderDynamicFusionMamba` takes."""


def soft_permutation(logits: Tensor, temperature: float = 1.0) -> Tensor:
    r"""Return SoftSort's relaxation of the ascending sort: which layer comes at which step.

    .. math:: P = \mathrm{softmax}(-|\mathrm{sort}(s) \mathbf{1}^\top - \mathbf{1} s^\top| / \tau)

    Args:
        logits: one per layer.
        temperature: the smaller, the nearer to a hard permutation.

    Shape:
        - logits: ``(B, K)``
        - returns ``(B, K, K)``: row s holds the weight of each layer at step s

    Example:
        >>> import torch
        >>> from rgbt_fusion.layers.layer_order import soft_permutation
        >>> soft_permutation(torch.tensor([[2.0, 0.0, 1.0]]), temperature=0.1).round().tolist()
        [[[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]]

    Source:
        Prillo and Eisenschlos, "SoftSort: A Continuous Relaxation for the argsort Operator", ICML
        2020, eq. 2.
    """
    ascending = logits.sort(dim=-1, stable=True).values
    return torch.softmax(-(ascending[:, :, None] - logits[:, None, :]).abs() / temperature, dim=-1)


def straight_through_order(x: Tensor, logits: Tensor, orders: Tensor) -> Tensor:
    """Repeat ``x`` once per direction, with a gradient of the last direction's order.

    Forward, the values are those of ``x``: the scan reads them by index. Backward, the last
    direction's gradient also flows into ``logits``, as if the scan had read ``P @ layers`` with the
    soft permutation P. Its part is a K x K matrix: the inner products between the gradient at each
    step and the block of each layer. So it costs next to nothing.

    Args:
        x: what the scans read, the K layers end to end.
        logits: from which the last direction's order was sorted.
        orders: the layer that each direction visits at each step.

    Shape:
        - x: ``(B, K L, D)``; logits: ``(B, K)``; orders: int64 ``(R, B, K)``
        - returns ``(R, B, K L, D)``
    """
    return _StraightThrough.apply(x, soft_permutation(logits), orders)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, permutation: Tensor, orders: Tensor) -> Tensor:
        return x.expand(orders.shape[0], *x.shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x, _, orders = inputs
        ctx.save_for_backward(x, orders)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:  # pyright: ignore
        x, orders = ctx.saved_tensors
        layers = orders.shape[-1]
        blocks = x.unflatten(1, (layers, -1)).flatten(2)
        # The gradient lies at the rows the values came from; step s of the last direction read
        # block orders[-1, :, s].
        steps = gradient[-1].unflatten(1, (layers, -1)).flatten(2)
        steps = torch.take_along_dim(steps, orders[-1, :, :, None], dim=1)
        return gradient.sum(0), torch.bmm(steps, blocks.mT), None
