"""What stands behind the names for comparison computes what ours does, in the same forms."""

import sys
import types
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.clients import Reference, replaced, worst_gradient
from rgbt_fusion import compat

SCAN = """
import a_package_that_is_not_here

def selective_scan_ref(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False,
                       return_last_state=False):
    dt = F.softplus(delta + delta_bias[:, None])
    state = u.new_zeros(u.shape[0], u.shape[1], A.shape[1])
    outputs = []
    for t in range(u.shape[2]):
        state = torch.exp(dt[:, :, t, None] * A) * state
        state = state + (dt[:, :, t] * u[:, :, t])[..., None] * B[:, None, :, t]
        outputs.append((state * C[:, None, :, t]).sum(-1) + D * u[:, :, t])
    out = torch.stack(outputs, dim=2)
    return (out, state) if return_last_state else out
"""

CONV = """
def causal_conv1d_ref(x, weight, bias=None, activation=None):
    out = F.conv1d(F.pad(x, (weight.shape[1] - 1, 0)), weight[:, None], bias, groups=x.shape[1])
    return F.silu(out) if activation else out
"""


@pytest.fixture
def reference(tmp_path: Path) -> Reference:
    """Loops that lie where upstream's lie."""
    for place, text in (
        ("mamba/mamba_ssm/ops/selective_scan_interface.py", SCAN),
        ("causal-conv1d/causal_conv1d/causal_conv1d_interface.py", CONV),
    ):
        path = tmp_path / place
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return Reference(tmp_path)


@pytest.fixture
def served():
    compat.install(packages=False)
    yield
    compat.uninstall()


class Client(nn.Module):
    """Calls the extensions as forks of mamba-ssm do."""

    def all_results(self) -> list[torch.Tensor]:
        scan = sys.modules["selective_scan_cuda"]
        core = sys.modules["selective_scan_cuda_core"]
        conv = sys.modules["causal_conv1d_cuda"]
        torch.manual_seed(0)
        u, delta, z, dout = torch.randn(4, 2, 3, 5)
        A, B, C = -torch.rand(3, 4), torch.randn(2, 4, 5), torch.randn(2, 4, 5)
        D, bias = torch.randn(2, 3)
        weight = torch.randn(3, 4)
        out, states, gated = scan.fwd(u, delta, A, B, C, D, z, bias, True)
        given = (u, delta, A, B, C, D, z, bias, dout, states, out, None, True, True)
        ungated, last = core.fwd(u, delta, A, B, C, D, bias, True, 1)
        found = [out, states[:, :, -1, 1::2], gated, ungated, last[:, :, -1, 1::2]]
        found += scan.bwd(*given)
        found += core.bwd(u, delta, A, B, C, D, bias, dout, last, True, 1)
        found.append(conv.causal_conv1d_fwd(u, weight, bias, None, True))
        found += conv.causal_conv1d_bwd(u, weight, bias, dout, None, torch.empty_like(u), True)
        return found


@pytest.mark.usefixtures("served")
def test_the_reference_has_the_forms_of_the_extensions(reference: Reference) -> None:
    client = Client()
    ours = client.all_results()
    before = sys.modules["selective_scan_cuda"].fwd
    with replaced(reference, client):
        assert sys.modules["selective_scan_cuda"].fwd is not before
        theirs = client.all_results()
    assert sys.modules["selective_scan_cuda"].fwd is before
    assert len(ours) == len(theirs)
    for x, y in zip(ours, theirs, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("served")
def test_a_client_that_holds_our_function_is_given_the_reference(
    reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rgbt_fusion.compat.mamba_functions import selective_scan_fn

    module = types.ModuleType("a_client")
    client = Client()
    for holder in (module, client):
        monkeypatch.setattr(holder, "selective_scan", selective_scan_fn, raising=False)
    monkeypatch.setitem(sys.modules, "a_client", module)
    with replaced(reference, client):
        assert module.selective_scan is client.selective_scan is reference.scan
    assert module.selective_scan is client.selective_scan is selective_scan_fn


def test_a_missing_gradient_is_no_agreement() -> None:
    ones = {"weight": torch.ones(2), "bias": torch.ones(2)}
    assert worst_gradient(ones, {"weight": torch.ones(2), "bias": torch.full((2,), 2.0)}) == 0.5
    with pytest.raises(AssertionError, match="bias"):
        worst_gradient(ones, {"weight": torch.ones(2)})
