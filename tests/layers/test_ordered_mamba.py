import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rgbt_fusion.layers.layer_order import PooledOrderPredictor
from rgbt_fusion.layers.ordered_mamba import OrderedMamba


def test_each_direction_reads_in_its_order():
    """Backward, the last segment is read first: it must not see the others."""
    torch.manual_seed(0)
    scans = OrderedMamba(8, directions=1)
    tokens = torch.randn(1, 12, 8)
    changed = tokens.clone()
    changed[:, :8] += 1
    backward = torch.tensor([[[2, 1, 0]]])
    torch.testing.assert_close(scans(tokens, backward)[:, 8:], scans(changed, backward)[:, 8:])
    forward = torch.tensor([[[0, 1, 2]]])
    assert not torch.allclose(scans(tokens, forward)[:, 8:], scans(changed, forward)[:, 8:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"directions": 0}, "directions must be at least 1, got 0"),
        ({"d_conv": 0}, "d_conv must be at least 1, got 0"),
        ({"backend": "cuda"}, "backend must be one of 'auto', .* got 'cuda'"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        OrderedMamba(8, **{"directions": 1, **options})


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
