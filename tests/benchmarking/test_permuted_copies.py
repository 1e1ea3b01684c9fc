import pytest
import torch

from rgbt_fusion import OFM
from rgbt_fusion.benchmarking.permuted_copies import (
    COPIES,
    PermutedCopiesMamba,
    copied_as_released,
    copied_once,
)
from rgbt_fusion.benchmarking.workloads import Workload, prepare


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("copy", [copied_as_released, copied_once])
def test_a_copy_holds_the_segments_in_order(copy, axis):
    x = torch.randn(2, 12, 12)
    order = torch.tensor([[2, 0, 1], [1, 2, 0]])
    for sample, segments in enumerate(order):
        expected = torch.cat([x[sample].chunk(3, axis - 1)[k] for k in segments], axis - 1)
        assert torch.equal(copy(x, order, axis, False)[sample], expected)
    back = torch.tensor([[2, 1, 0]]).expand(2, 3)
    assert torch.equal(copy(x, back, axis, True), torch.cat(x.chunk(3, axis)[::-1], axis))


@pytest.mark.parametrize("name", COPIES)
def test_an_ofm_on_copies_computes_what_the_ofm_computes(name):
    torch.manual_seed(0)
    ofm = OFM(16, num_layers=3, d_state=4, order_gradient="none")
    assert ofm.order_predictor is not None
    with torch.no_grad():
        ofm.order_predictor.position.copy_(torch.tensor([0.5, -1.0, 0.0]))
    features = [torch.randn(2, 5, 16) for _ in range(3)]
    expected = ofm(features)
    copies = PermutedCopiesMamba(16, 3, 4, 4, 2, ofm.scans.dt_rank, "auto")
    copies.copies = COPIES[name]
    copies.load_state_dict(ofm.scans.state_dict())
    ofm.scans = copies
    torch.testing.assert_close(ofm(features), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", COPIES)
def test_the_benchmark_gives_both_sides_the_same_work(name):
    sizes = {"B": 1, "D": 8, "L": 5, "N": 3, "W": 4, "K": 3}
    one_call = prepare(Workload("directions", "auto", sizes, backward=True))()
    copies = prepare(
        Workload("directions", name, sizes, layout=COPIES[name].layout, backward=True)
    )()
    out = copies[0].mT if COPIES[name].layout == "channel" else copies[0]
    assert out.shape == one_call[0].shape
    assert sum(x.numel() for x in copies) == sum(x.numel() for x in one_call)
