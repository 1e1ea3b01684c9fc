import math
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from rgbt_fusion import DFM, OFM, MambaBlock, ShapeError

# What mamba_ssm.Mamba(768) registers, by its own names.
MAMBA_SSM_768 = {
    "A_log": (1536, 16),
    "D": (1536,),
    "in_proj.weight": (3072, 768),
    "conv1d.weight": (1536, 1, 4),
    "conv1d.bias": (1536,),
    "x_proj.weight": (80, 1536),
    "dt_proj.weight": (1536, 48),
    "dt_proj.bias": (1536,),
    "out_proj.weight": (768, 1536),
}


def test_state_dict_has_the_names_and_shapes_of_mamba_ssm():
    with torch.device("meta"):
        block = MambaBlock(768)
    assert {name: tuple(x.shape) for name, x in block.state_dict().items()} == MAMBA_SSM_768


def test_agrees_with_an_independent_mamba_that_shares_its_state_dict():
    mambapy = pytest.importorskip("mambapy.mamba", reason="mambapy is not installed")
    torch.manual_seed(0)
    config = mambapy.MambaConfig(d_model=24, n_layers=1, d_state=8, pscan=False)
    theirs = mambapy.MambaBlock(config).double()
    ours = MambaBlock(24, d_state=8).double()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 37, 24, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-7)
    theirs.load_state_dict(ours.state_dict())


def test_equals_the_equation_written_out():
    torch.manual_seed(0)
    block = MambaBlock(6, d_state=3, d_conv=2, expand=1.5, dt_rank=2, bias=True).double()
    h = torch.randn(1, 5, 6, dtype=torch.float64)
    x, z = (h[0] @ block.in_proj.weight.T + block.in_proj.bias).split(9, dim=-1)
    padded = torch.cat([torch.zeros(1, 9, dtype=torch.float64), x])
    x = F.silu(
        padded[:-1] * block.conv1d.weight[:, 0, 0]
        + padded[1:] * block.conv1d.weight[:, 0, 1]
        + block.conv1d.bias
    )
    delta, B, C = (x @ block.x_proj.weight.T).split([2, 3, 3], dim=-1)
    dt = F.softplus(delta @ block.dt_proj.weight.T + block.dt_proj.bias)
    state, rows = torch.zeros(9, 3, dtype=torch.float64), []
    for t in range(5):
        state = (
            torch.exp(dt[t, :, None] * -block.A_log.exp()) * state
            + dt[t, :, None] * B[t] * x[t, :, None]
        )
        rows.append((state @ C[t] + block.D * x[t]) * F.silu(z[t]))
    expected = torch.stack(rows) @ block.out_proj.weight.T + block.out_proj.bias
    torch.testing.assert_close(block(h)[0], expected, rtol=1e-6, atol=1e-8)


def test_starts_with_mambas_own_step_sizes_and_decay_rates():
    torch.manual_seed(0)
    block = MambaBlock(64)
    step = F.softplus(block.dt_proj.bias)
    assert step.min() >= 1e-3 * 0.99 and step.max() <= 1e-1 * 1.01
    assert step.log().std() > 1.0, "log-uniform over two decades"
    torch.testing.assert_close(block.A_log.exp(), torch.arange(1.0, 17.0).expand(128, 16))
    assert torch.all(block.D == 1)
    assert block.dt_proj.weight.abs().max() <= block.dt_rank**-0.5


def test_a_parents_initialiser_can_be_undone():
    block = MambaBlock(32)
    torch.nn.init.zeros_(block.dt_proj.bias)
    block.reset_scan_parameters()
    assert F.softplus(block.dt_proj.bias).max() <= 0.11


def test_fractional_widths_and_automatic_rank():
    assert MambaBlock(768, expand=48 / 768, dt_rank=48, device="meta").d_inner == 48
    assert MambaBlock(100, device="meta").dt_rank == math.ceil(100 / 16)


def test_is_causal():
    torch.manual_seed(0)
    block, x = MambaBlock(16), torch.randn(1, 12, 16)
    changed = x.clone()
    changed[:, 7:] += 1
    torch.testing.assert_close(block(x)[:, :7], block(changed)[:, :7])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"d_model": 0}, "d_model must be at least 1, got 0"),
        ({"d_state": 1.5}, "d_state must be a whole number, got 1.5"),
        (
            {"expand": 0.001},
            "expand must leave an inner width of at least 1, got 0.001 of 8 channels",
        ),
        ({"dt_rank": 0}, "dt_rank must be at least 1, got 0"),
        ({"dt_init": "uniform"}, "dt_init must be one of 'random', 'constant', got 'uniform'"),
        ({"dt_max": 1e-5}, "dt_max must be a finite number in"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message.replace("(", r"\(")):
        MambaBlock(**{"d_model": 8, **arguments})


def test_bad_input_is_named():
    with pytest.raises(
        ShapeError, match=r"hidden_states must have shape \(B, L, C\) with C = 8, got \(2, 5, 9\)"
    ):
        MambaBlock(8)(torch.randn(2, 5, 9))
    with pytest.raises(ValueError, match="backend must be one of"):
        MambaBlock(8, backend="cuda")(torch.randn(2, 5, 8))


def test_an_unknown_backend_is_refused_before_any_call():
    names = "'auto', 'mamba-ssm', 'triton', 'native', 'vectorised', 'reference'"
    for build in (MambaBlock, DFM, OFM):
        with pytest.raises(ValueError, match=f"backend must be one of {names}, got 'cuda'"):
            build(8, backend="cuda")


@dataclass
class Inference:
    """What mamba-ssm hands from layer to layer while it generates."""

    seqlen_offset: int = 0
    key_value_memory_dict: dict[int, Any] = field(default_factory=dict)


@pytest.mark.parametrize("prompt", [1, 2, 4, 9])
def test_generates_token_by_token_what_it_mixes_as_a_whole(prompt):
    torch.manual_seed(0)
    block, x = MambaBlock(16, layer_idx=3), torch.randn(2, 12, 16)
    inference = Inference()
    found = [block(x[:, :prompt], inference)]
    for t in range(prompt, 12):
        inference.seqlen_offset = t
        found.append(block(x[:, t : t + 1], inference_params=inference))
    torch.testing.assert_close(torch.cat(found, dim=1), block(x))
    assert list(inference.key_value_memory_dict) == [3]


def test_a_step_takes_the_token_into_the_states_of_the_caller():
    torch.manual_seed(0)
    block, x = MambaBlock(16, d_state=4, expand=1.5), torch.randn(3, 5, 16)
    states = block.allocate_inference_cache(3, 100)
    assert [tuple(state.shape) for state in states] == [(3, 24, 4), (3, 24, 4)]
    for t in range(5):
        out, *returned = block.step(x[:, t : t + 1], *states)
        torch.testing.assert_close(out[:, 0], block(x)[:, t])
        assert all(one is other for one, other in zip(states, returned, strict=True))
    assert all(state.any() for state in states)
    assert block.allocate_inference_cache(1, 1, torch.bfloat16)[1].dtype == torch.bfloat16


def test_generating_needs_a_number_and_one_token():
    block = MambaBlock(8)
    with pytest.raises(ValueError, match="layer_idx must be given where inference_params is"):
        block(torch.randn(1, 2, 8), Inference())
    states = block.allocate_inference_cache(1, 2)
    with pytest.raises(ShapeError, match=r"hidden_states must have shape \(B, 1, C\)"):
        block.step(torch.randn(1, 2, 8), *states)


def test_has_the_attributes_and_the_marks_of_mamba_ssm():
    block = MambaBlock(8, expand=2, use_fast_path=False, layer_idx=1)
    assert (block.expand, block.d_inner, block.dt_rank) == (2, 16, 1)
    assert (block.activation, block.use_fast_path, block.layer_idx) == ("silu", False, 1)
    assert isinstance(block.act, torch.nn.SiLU)
    marks = {name: vars(parameter) for name, parameter in block.named_parameters()}
    assert {name: marked for name, marked in marks.items() if marked} == {
        "A_log": {"_no_weight_decay": True},
        "D": {"_no_weight_decay": True},
        "dt_proj.bias": {"_no_reinit": True},
    }
