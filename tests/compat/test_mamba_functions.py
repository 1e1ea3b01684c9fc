"""The Python functions of mamba-ssm and causal-conv1d, against their meaning written out."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgbt_fusion import MambaBlock, selective_scan
from rgbt_fusion.compat import mamba_functions as served


def normal(*shape: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, generator=random, dtype=torch.float64)


def test_the_inner_function_is_the_middle_of_the_block() -> None:
    torch.manual_seed(0)
    block = MambaBlock(6, d_state=3, d_conv=3, expand=2, bias=True).double()
    x = normal(2, 9, 6)
    xz = block.in_proj(x).mT
    got = served.mamba_inner_fn(
        xz,
        block.conv1d.weight,
        block.conv1d.bias,
        block.x_proj.weight,
        block.dt_proj.weight,
        block.out_proj.weight,
        block.out_proj.bias,
        -torch.exp(block.A_log),
        None,
        None,
        block.D,
        delta_bias=block.dt_proj.bias,
        delta_softplus=True,
    )
    torch.testing.assert_close(got, block(x))


def test_the_inner_function_takes_constants_biases_and_norms() -> None:
    xz, A, D = normal(2, 12, 9), -normal(6, 3).exp(), normal(6)
    weights = {
        "conv1d_weight": normal(6, 1, 4),
        "conv1d_bias": normal(6),
        "x_proj_weight": normal(5, 6),
        "delta_proj_weight": normal(6, 2),
        "out_proj_weight": normal(4, 6),
        "out_proj_bias": normal(4),
    }
    options = {
        "B": normal(6, 3),
        "C_proj_bias": normal(3),
        "c_rms_weight": normal(3),
        "dt_rms_weight": normal(6),
        "b_c_dt_rms_eps": 1e-3,
    }
    got = served.mamba_inner_fn(xz, **weights, A=A, D=D, **options)  # pyright: ignore
    x, z = xz.chunk(2, dim=1)
    x = F.conv1d(F.pad(x, (3, 0)), weights["conv1d_weight"], weights["conv1d_bias"], groups=6)
    x = F.silu(x)
    projected = x.mT @ weights["x_proj_weight"].T

    def norm(x: Tensor, weight: Any) -> Tensor:
        # in float32, as in mamba-ssm
        return F.rms_norm(x.float(), x.shape[-1:], weight.float(), 1e-3).double()

    delta = norm(projected[..., :2] @ weights["delta_proj_weight"].T, options["dt_rms_weight"])
    C = norm(projected[..., -3:] + options["C_proj_bias"], options["c_rms_weight"])
    y = selective_scan(x, delta.mT, A, options["B"], C.mT, D, z, None, True)  # pyright: ignore
    want = y.mT @ weights["out_proj_weight"].T + weights["out_proj_bias"]  # pyright: ignore
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("groups", [1, 2])
def test_mamba_2s_scan_is_a_wide_selective_scan(groups: int) -> None:
    batch, length, heads, width, states = 2, 7, 4, 3, 5
    x, z = normal(batch, length, heads, width), normal(batch, length, heads, width, seed=1)
    dt, A, bias = normal(batch, length, heads), -normal(heads).exp(), normal(heads, seed=1)
    B, C = (normal(batch, length, groups, states, seed=seed) for seed in (0, 1))
    D, start = normal(heads, width), normal(batch, heads, width, states)
    got, last = served.mamba_chunk_scan_combined(
        x,
        dt,
        A,
        B,
        C,
        chunk_size=4,
        D=D,
        z=z,
        dt_bias=bias,
        initial_states=start,
        dt_softplus=True,
        dt_limit=(0.1, 2.0),
        return_final_states=True,
    )
    step = F.softplus(dt + bias).clamp(0.1, 2.0)
    B, C = (one.repeat_interleave(heads // groups, dim=2)[:, :, :, None] for one in (B, C))
    state, rows = start, []
    for t in range(length):
        decay = torch.exp(step[:, t] * A)[:, :, None, None]
        state = decay * state + step[:, t, :, None, None] * B[:, t] * x[:, t, ..., None]
        rows.append(((state * C[:, t]).sum(-1) + D * x[:, t]) * F.silu(z[:, t]))
    torch.testing.assert_close(got, torch.stack(rows, dim=1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(last.double(), state, rtol=1e-4, atol=1e-5)


def test_mamba_2s_packed_sequences_are_refused() -> None:
    x, dt = normal(1, 3, 2, 2), normal(1, 3, 2)
    B = normal(1, 3, 1, 2)
    with pytest.raises(NotImplementedError, match="several sequences per row are not served"):
        served.mamba_chunk_scan_combined(
            x, dt, -torch.ones(2), B, B, 4, seq_idx=torch.zeros(1, 3).int()
        )


def test_the_last_tokens_of_sequences_that_follow_each_other() -> None:
    x = torch.arange(1.0, 8.0)[:, None]
    states = served.causal_conv1d_varlen_states(x, torch.tensor([0, 4, 5, 7]), 3)
    assert states[:, 0].tolist() == [[2.0, 3.0, 4.0], [0.0, 0.0, 5.0], [0.0, 6.0, 7.0]]


def test_the_references_agree_with_the_functions() -> None:
    u, delta, A = normal(2, 6, 9), normal(2, 6, 9, seed=1), -normal(6, 3).exp()
    B, C = normal(2, 3, 9), normal(2, 3, 9, seed=1)
    torch.testing.assert_close(
        served.selective_scan_fn(u, delta, A, B, C, return_last_state=True),
        served.selective_scan_ref(u, delta, A, B, C, return_last_state=True),
    )
    weight, states = normal(6, 4), normal(2, 6, 3)
    torch.testing.assert_close(
        served.causal_conv1d_fn(u, weight, None, None, states, True, None, "silu"),
        served.causal_conv1d_ref(u, weight, None, states, True, None, "silu"),
    )


class Checkpointed(nn.Module):
    """A block whose middle is computed again in the backward pass."""

    def __init__(self, *, reentrant: bool | None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.block = MambaBlock(8, d_state=4)
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        block = self.block
        xz = block.in_proj(x).mT

        def inner(xz: Tensor) -> Tensor:
            return served.mamba_inner_fn(
                xz,
                block.conv1d.weight,
                block.conv1d.bias,
                block.x_proj.weight,
                block.dt_proj.weight,
                block.out_proj.weight,
                None,
                -torch.exp(block.A_log),
                D=block.D,
                delta_bias=block.dt_proj.bias,
            )

        if self.reentrant is None:
            return inner(xz)
        return torch.utils.checkpoint.checkpoint(inner, xz, use_reentrant=self.reentrant)  # pyright: ignore


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_changes_no_gradient(reentrant: bool) -> None:
    x = normal(2, 9, 8).float()
    gradients = []
    for kind in (None, reentrant):
        module = Checkpointed(reentrant=kind)
        module(x).square().sum().backward()
        gradients.append([parameter.grad for parameter in module.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_compiles_as_one_graph() -> None:
    module, x = Checkpointed(reentrant=None), normal(2, 9, 8).float()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), module(x))
