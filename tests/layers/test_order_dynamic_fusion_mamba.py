import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rgbt_fusion import OFM, MambaBlock, OrderDynamicFusionMamba, ShapeError
from rgbt_fusion.layers.layer_order import (
    PooledOrderPredictor,
    soft_permutation,
    straight_through_order,
)
from rgbt_fusion.layers.order_dynamic_fusion_mamba import OrderedMamba


def single_scan(layer: OFM, direction: int) -> MambaBlock:
    """Return the Mamba block that scans as one direction of ``layer`` does."""
    scans = layer.scans
    inner, taps = scans.conv_weight.shape[1:]
    block = MambaBlock(layer.dim, scans.d_state, taps, inner / layer.dim, scans.dt_rank).to(
        scans.D.dtype
    )
    block.load_state_dict(
        {
            "A_log": scans.A_log[direction],
            "D": scans.D[direction],
            "in_proj.weight": scans.in_proj.weight,
            "conv1d.weight": scans.conv_weight[direction, :, None],
            "conv1d.bias": scans.conv_bias[direction],
            "x_proj.weight": scans.x_proj[direction],
            "dt_proj.weight": scans.dt_weight[direction],
            "dt_proj.bias": scans.dt_bias[direction],
            "out_proj.weight": scans.out_proj.weight,
        }
    )
    return block


def by_hand(layer: OFM, features: list[torch.Tensor], orders: list[list[int]]) -> torch.Tensor:
    """Permute, scan with a plain Mamba block, un-permute, average: what the layer does in one
    call."""
    x = torch.cat(features, 1)
    blocks = F.layer_norm(x, (layer.dim,), layer.norm1.weight, layer.norm1.bias).chunk(
        len(features), 1
    )
    total = torch.zeros_like(x)
    for direction, order in enumerate(orders):
        scanned = single_scan(layer, direction)(torch.cat([blocks[k] for k in order], 1)).chunk(
            len(features), 1
        )
        back = [scanned[order.index(k)] for k in range(len(features))]
        total = total + torch.cat(back, 1)
    x = layer.norm2(x + total / len(orders))
    return layer.norm(sum(x.chunk(len(features), 1)))


def random_features(
    layers: int, batch: int = 2, tokens: int = 5, dim: int = 8
) -> list[torch.Tensor]:
    torch.manual_seed(3)
    return [torch.randn(batch, tokens, dim, dtype=torch.float64) for _ in range(layers)]


def test_acronym_is_the_class():
    assert OFM is OrderDynamicFusionMamba


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 0, 3, 1]])
def test_a_fixed_order_equals_permuting_by_hand(order):
    torch.manual_seed(0)
    layer = OFM(8, num_layers=4).double()
    with torch.no_grad():
        layer.order_predictor.position[order] = torch.arange(4.0, dtype=torch.float64)
    features = random_features(4)
    assert layer.layer_order(features).tolist() == [order, order]
    expected = by_hand(layer, features, [[0, 1, 2, 3], [3, 2, 1, 0], order])
    torch.testing.assert_close(layer(features), expected, rtol=1e-6, atol=1e-8)


def test_without_a_predictor_there_are_two_scans():
    torch.manual_seed(0)
    layer, features = OFM(8, num_layers=3, order_predictor=None).double(), random_features(3)
    expected = by_hand(layer, features, [[0, 1, 2], [2, 1, 0]])
    torch.testing.assert_close(layer(features), expected, rtol=1e-6, atol=1e-8)


def test_each_sample_has_its_own_order():
    torch.manual_seed(0)
    layer = OFM(8, num_layers=3).double()
    with torch.no_grad():
        layer.order_predictor.mlp[2].weight.normal_()
        layer.order_predictor.position.zero_()
    features = random_features(3, batch=6)
    orders = layer.layer_order(features).tolist()
    assert len(set(map(tuple, orders))) > 1
    alone = torch.cat([layer([f[i : i + 1] for f in features]) for i in range(6)])
    torch.testing.assert_close(layer(features), alone)


def test_released_predictor_pools_as_the_authors_do():
    torch.manual_seed(0)
    layer, features = (
        OFM(8, num_layers=3, order_predictor="released").double(),
        random_features(3, tokens=700),
    )
    predictor = layer.order_predictor
    normed = layer.norm1(torch.cat(features, 1))
    pooled = F.adaptive_avg_pool2d(normed.mT, (8, 2048))
    logits = predictor.fc(predictor.mlp(pooled).flatten(1))
    assert layer.layer_order(features).tolist() == logits.sort(-1).indices.tolist()


def test_counts_its_parameters_at_the_authors_width():
    with torch.device("meta"):
        layer = OFM(768, order_predictor="released")
    assert sum(p.numel() for p in layer.order_predictor.parameters()) == 2_392_972
    assert sum(p.numel() for p in layer.parameters()) == 6_632_332


def test_the_order_gradient_is_that_of_a_soft_permutation():
    """With the hard order replaced by P = hard + soft - soft.detach(), autograd gives the same
    gradient."""
    torch.manual_seed(0)
    x = torch.randn(2, 6, 4, dtype=torch.float64)
    logits = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    order = logits.argsort(-1)
    weights = torch.randn(2, 6, 4, dtype=torch.float64)
    natural = torch.arange(3).expand(2, 3)
    rows = order[:, :, None] * 2 + torch.arange(2)

    out = straight_through_order(x, logits, torch.stack([natural, order]))
    steps = torch.take_along_dim(out[1], rows.reshape(2, 6, 1), 1)
    (ours,) = torch.autograd.grad((steps.sin() * weights).sum(), logits)

    soft = soft_permutation(logits)
    permutation = F.one_hot(order, 3).double() + soft - soft.detach()
    mixed = torch.einsum("bsk,bkld->bsld", permutation, x.view(2, 3, 2, 4)).reshape(2, 6, 4)
    (expected,) = torch.autograd.grad((mixed.sin() * weights).sum(), logits)
    torch.testing.assert_close(ours, expected)
    assert expected.abs().max() > 1e-3


def test_only_the_straight_through_gradient_reaches_the_predictor():
    features = random_features(3)
    for gradient, reached in (("straight_through", True), ("none", False)):
        torch.manual_seed(0)
        layer = OFM(8, num_layers=3, order_gradient=gradient).double()
        layer(features).square().sum().backward()
        assert all((p.grad is not None) == reached for p in layer.order_predictor.parameters())


def test_bad_arguments_and_inputs_are_named():
    with pytest.raises(
        ValueError, match="order_predictor must be one of 'pooled', 'released', None, got 'sorted'"
    ):
        OFM(8, order_predictor="sorted")
    with pytest.raises(ValueError, match="order_gradient must be one of"):
        OFM(8, order_gradient="soft")
    layer, x = OFM(8, num_layers=3), torch.randn(2, 5, 8)
    with pytest.raises(ShapeError, match="features must hold num_layers = 3 tensors, got 2"):
        layer([x, x])
    with pytest.raises(ShapeError, match=r"features\[1\] must have shape"):
        layer([x, x[:, 1:], x])
    with pytest.raises(
        ShapeError,
        match=r"features must have shape \(B, K, L, C\) with K = 3, C = 8, got \(2, 4, 5, 8\)",
    ):
        layer(torch.randn(2, 4, 5, 8))


def train_on_a_task_where_order_matters(order_gradient: str, seed: int) -> tuple[float, list[int]]:
    """Tell from the rows of layer 0 alone a sign that only layer 2 holds, with noise between: 2
    must be read before 0.

    One scan in the predicted order, so that neither the other directions nor a residual can carry
    the sign.
    """
    torch.manual_seed(seed)
    scans, predictor, head = (
        OrderedMamba(8, 1, 4, 2, 2, "auto", "auto"),
        PooledOrderPredictor(8, 3),
        nn.Linear(8, 1),
    )
    optimizer = torch.optim.Adam(
        [*scans.parameters(), *predictor.parameters(), *head.parameters()], lr=1e-2
    )
    signal, losses, order = torch.randn(8), [], torch.empty(0)
    for _ in range(200):
        sign = torch.randint(0, 2, (32, 1, 1)) * 2.0 - 1
        noise = torch.randn(32, 8, 8)
        tokens = torch.cat([noise, sign * signal + 0.1 * torch.randn(32, 4, 8)], 1)
        logits = predictor(tokens)
        order = logits.argsort(dim=-1, stable=True)
        out = scans(tokens, order[None], logits if order_gradient == "straight_through" else None)
        answer = head(out[:, :4].mean(1))[:, 0]
        loss = F.binary_cross_entropy_with_logits(answer, (sign[:, 0, 0] > 0).float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses[-20:]) / 20, order.mode(0).values.tolist()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_order_is_learned_where_it_matters_and_not_without_its_gradient(seed):
    loss, order = train_on_a_task_where_order_matters("straight_through", seed)
    assert loss < 0.3
    assert order.index(2) < order.index(0)
    loss, order = train_on_a_task_where_order_matters("none", seed)
    assert loss > 0.65, "chance is log 2 = 0.693"
    assert order == [0, 1, 2]
