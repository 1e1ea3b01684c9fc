import pytest
import torch
import torch.nn.functional as F

from rgbt_fusion import OFM, MambaBlock, OrderDynamicFusionMamba, ShapeError


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
