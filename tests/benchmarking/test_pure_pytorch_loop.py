import pytest
import torch

from rgbt_fusion import ordered_selective_scan
from rgbt_fusion.benchmarking import pure_pytorch_loop
from rgbt_fusion.benchmarking.pure_pytorch_loop import (
    chunked_loop,
    mamba_ssm_loop,
    whole_sequence_loop,
)


def arguments(batch=2, length=70, channels=6, states=3):
    torch.manual_seed(0)
    u, delta, z = torch.randn(3, batch, length, channels, dtype=torch.float64)
    B, C = torch.randn(2, batch, length, states, dtype=torch.float64)
    A, D = (
        -torch.rand(channels, states, dtype=torch.float64),
        torch.randn(channels, dtype=torch.float64),
    )
    return [x.clone().requires_grad_() for x in (u, delta, A, B, C, D, z, torch.randn_like(D))]


def turned(x):
    return x.mT if x.dim() == 3 else x


LOOPS = {
    "mamba-ssm": lambda *x: mamba_ssm_loop(*map(turned, x), delta_softplus=True).mT,
    "whole sequence": lambda *x: whole_sequence_loop(*x, delta_softplus=True),
    "chunked": lambda *x: chunked_loop(*x, delta_softplus=True),
}


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_a_loop_computes_the_scan_and_its_gradients(loop, monkeypatch):
    monkeypatch.setattr(
        pure_pytorch_loop, "CHUNK_ELEMENTS", 800
    )  # several chunks, the last one shorter
    given = arguments()
    upstream = torch.randn(2, 70, 6, dtype=torch.float64)
    out = loop(*given)
    expected = ordered_selective_scan(*given, delta_softplus=True, backend="reference").out
    torch.testing.assert_close(out, expected)
    found = torch.autograd.grad(out, given, upstream)
    for x, y in zip(found, torch.autograd.grad(expected, given, upstream), strict=True):
        torch.testing.assert_close(x, y)


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_everything_optional_may_be_absent(loop):
    u, delta, A, B, C, *_ = (x.detach() for x in arguments())
    expected = ordered_selective_scan(
        u, delta, A, B, C, delta_softplus=True, backend="reference"
    ).out
    torch.testing.assert_close(loop(u, delta, A, B, C), expected)
