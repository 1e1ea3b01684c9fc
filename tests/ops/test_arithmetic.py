import pytest
import torch

from rgbt_fusion import (
    DFM,
    MambaBlock,
    causal_conv1d,
    ordered_causal_conv1d,
    ordered_selective_scan,
    selective_scan,
)
from rgbt_fusion.layers.attention import Attention
from rgbt_fusion.layers.cross_modal_compensation import CrossModalCompensation
from rgbt_fusion.ops.arithmetic import count_macs, count_parameters


class Function(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def test_a_scan_counts_nine_operations_a_state_element():
    u, B, A = torch.randn(2, 6, 10), torch.randn(2, 4, 10), -torch.rand(6, 4)
    elements = 2 * 6 * 10 * 4
    assert count_macs(Function(selective_scan), u, u, A, B, B) == elements * 9 // 2
    gated = Function(lambda: selective_scan(u, u, A, B, B, torch.ones(6), u))
    assert count_macs(gated) == (elements * 9 + 2 * u.numel()) // 2


def test_every_direction_counts():
    u, B, A = torch.randn(2, 10, 6), torch.randn(2, 10, 4), -torch.rand(6, 4)
    order = torch.stack([torch.arange(5), torch.arange(5).flip(0), torch.arange(5)])
    one = count_macs(Function(lambda: ordered_selective_scan(u, u, A, B, B)))
    three = count_macs(
        Function(lambda: ordered_selective_scan(u, u, A, B, B, order=order, merge=True))
    )
    assert three == 3 * one
    taps = torch.randn(6, 4)
    assert (
        count_macs(Function(lambda: ordered_causal_conv1d(u, taps, order=order)))
        == 3 * u.numel() * 4
    )
    assert count_macs(Function(causal_conv1d), u.mT, taps) == u.numel() * 4


def test_fused_attention_counts_like_the_one_written_out():
    tokens = torch.randn(1, 50, 32)
    by_hand = 50 * 32 * 32 * 4 + 2 * 50 * 50 * 32
    assert count_macs(Attention(32, 4), tokens) == by_hand
    assert count_macs(Attention(32, 4, attention="explicit"), tokens) == by_hand


def test_the_fast_path_of_multihead_attention_is_seen():
    layer = CrossModalCompensation(32, 4).eval()
    with torch.no_grad():
        counted = count_macs(layer, torch.randn(1, 50, 32), torch.randn(1, 50, 32))
    projections, feed_forward, products = 2 + 4, 8, 2 * 50 * 50 * 32
    assert counted == 50 * 32 * 32 * (projections + feed_forward) + products
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_module_that_branches_on_values_is_computed():
    class Branching(torch.nn.Linear):
        def forward(self, input):
            found = super().forward(input)
            return found * 2 if found.sum().item() > 0 else found

    assert count_macs(Branching(8, 4), torch.zeros(2, 8)) == 2 * 8 * 4


def test_a_mamba_block_by_hand():
    L, C, D, N, rank = 7, 16, 32, 4, 1
    block = MambaBlock(C, d_state=N, expand=2)
    projections = L * (C * 2 * D + D * (rank + 2 * N) + rank * D + D * C)
    scan = L * D * (9 * N + 2) // 2
    assert count_macs(block, torch.randn(1, L, C)) == projections + 4 * L * D + scan


@pytest.mark.parametrize(
    ("layer", "expected"), [(DFM(768), 3_068_928), (Attention(768, 12), 2_362_368)]
)
def test_parameters(layer, expected):
    assert count_parameters(layer) == expected
