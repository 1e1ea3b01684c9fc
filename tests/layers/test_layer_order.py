import torch
import torch.nn.functional as F

from rgbt_fusion.layers.layer_order import (
    PooledOrderPredictor,
    soft_permutation,
    straight_through_order,
)


def test_pooled_predictor_is_its_equation():
    torch.manual_seed(0)
    predictor = PooledOrderPredictor(8, num_layers=3).double()
    tokens = torch.randn(2, 12, 8, dtype=torch.float64)
    first, _, last = predictor.mlp
    for k in range(3):
        mean = tokens[:, 4 * k : 4 * k + 4].mean(1)
        hidden = F.gelu(mean @ first.weight.T + first.bias)
        expected = hidden @ last.weight[0] + predictor.position[k]
        torch.testing.assert_close(predictor(tokens)[:, k], expected)


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
