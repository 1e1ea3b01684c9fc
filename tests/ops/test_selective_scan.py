"""The public scans: what they compute, in every form and on every backend."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ops.agreement import (
    SCAN_CASES,
    ScanCase,
    as_float64,
    assert_close,
    make_scan_inputs,
    run_scan,
)
from ops.public_arguments import (
    differentiate,
    floating,
    in_float64,
    mamba_ssm_arguments,
    ordered_arguments,
)
from rgbt_fusion import BackendUnavailableError, ShapeError, ordered_selective_scan, selective_scan
from rgbt_fusion.ops import reference
from rgbt_fusion.ops.backends import BACKENDS

PROBE = make_scan_inputs(ScanCase("probe"))
AVAILABLE = [backend.name for backend in BACKENDS if not backend.why_not("scan", PROBE)]
ORDERED_CASES = [
    case for case in SCAN_CASES if case.directions > 1 or case.order or "option" in case.name
]
ORDERED_CASES = [case for case in ORDERED_CASES if not case.options & {"readout", "constant"}]


def mamba_ssm_semantics(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> tuple[Tensor, Tensor]:
    """Write mamba-ssm's contract out: B and C are (D, N), (B, N, L) or (B, G, N, L); everything
    else is (B, D, L)."""

    def for_every_channel(x: Tensor) -> Tensor:
        if x.dim() == 2:
            return x[None, :, :, None].expand(len(u), -1, -1, u.shape[2])
        x = x[:, None] if x.dim() == 3 else x
        return x.repeat_interleave(u.shape[1] // x.shape[1], dim=1)

    delta = delta if delta_bias is None else delta + delta_bias[:, None]
    delta = F.softplus(delta) if delta_softplus else delta
    B, C = for_every_channel(B), for_every_channel(C)
    h, outputs = u.new_zeros(len(u), *A.shape), []
    for t in range(u.shape[2]):
        h = (
            torch.exp(delta[:, :, t, None] * A) * h
            + delta[:, :, t, None] * B[..., t] * u[:, :, t, None]
        )
        outputs.append((C[..., t] * h).sum(-1))
    y = torch.stack(outputs, -1)
    y = y if D is None else y + D[:, None] * u
    return (y if z is None else y * F.silu(z)), h


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("backend", AVAILABLE)
@pytest.mark.parametrize("C", ["varying", "groups", "constant"])
@pytest.mark.parametrize("B", ["varying", "one group", "groups", "constant"])
def test_every_form_of_the_coefficients_has_mamba_ssms_meaning(
    B: str, C: str, backend: str
) -> None:
    arguments = mamba_ssm_arguments(B=B, C=C)
    got = differentiate(
        lambda **x: selective_scan(**x, return_last_state=True, backend=backend), arguments
    )
    assert_close(got, differentiate(mamba_ssm_semantics, in_float64(arguments)))


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("backend", AVAILABLE)
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str
)
@pytest.mark.parametrize("absent", ["D", "z", "delta_bias", "delta_softplus", "all"])
def test_every_option_has_mamba_ssms_meaning(absent: str, dtype: torch.dtype, backend: str) -> None:
    names = ["D", "z", "delta_bias", "delta_softplus"] if absent == "all" else [absent]
    arguments = mamba_ssm_arguments(dtype) | dict.fromkeys(names)
    if not arguments["delta_softplus"]:  # the step sizes must be small and positive by themselves
        bias = arguments["delta_bias"]
        arguments |= {"delta_softplus": False, "delta": arguments["delta"].abs() / 50}
        arguments["delta_bias"] = bias if bias is None else bias.abs() / 50
    if dtype == torch.float64 and backend in ("native", "triton"):
        with pytest.raises(BackendUnavailableError, match="float64"):
            selective_scan(**arguments, backend=backend)
        return
    got = differentiate(
        lambda **x: selective_scan(**x, return_last_state=True, backend=backend), arguments
    )
    assert (
        got["out"].dtype == dtype
        and got["grad B"].dtype == dtype
        and got["grad A"].dtype == arguments["A"].dtype
    )
    assert_close(got, differentiate(mamba_ssm_semantics, in_float64(arguments)))


@pytest.mark.parametrize("return_last_state", [False, True])
def test_only_the_flag_changes_what_is_returned(return_last_state: bool) -> None:
    arguments = mamba_ssm_arguments()
    result = selective_scan(**arguments, return_last_state=return_last_state)
    assert isinstance(result, tuple) == return_last_state


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("backend", [name for name in AVAILABLE if name != "reference"])
@pytest.mark.parametrize("case", ORDERED_CASES, ids=str)
def test_ordered_scan_agrees_with_the_reference(case: ScanCase, backend: str) -> None:
    inputs = make_scan_inputs(case)
    want = run_scan(reference, as_float64(inputs))
    del want["checkpoints"]
    arguments = ordered_arguments(inputs)
    got = differentiate(lambda **x: ordered_selective_scan(**x, backend=backend), arguments)
    directed = (
        case.directions > 1
        or inputs.B.shape[3] > 1
        or (case.order is not None and case.order[1] > 1)
    )
    assert got["out"].dim() == 3 + (directed and not case.merge)
    assert got["last_state"].dim() == 3 + directed
    assert_close({name: x.reshape(want[name].shape) for name, x in got.items()}, want)


@pytest.mark.parametrize("backend", AVAILABLE)
@pytest.mark.parametrize("groups", [1, 3])
def test_groups_of_channels_need_no_direction_axis(groups: int, backend: str) -> None:
    case = ScanCase("", length=12, channels=6, groups=groups, directions=1)
    arguments = make_scan_inputs(case)._asdict() | {"backend": backend}
    for name in ("readout", "merge"):
        del arguments[name]
    directed = differentiate(ordered_selective_scan, arguments)
    plain = {k: x[0] if isinstance(x, Tensor) else x for k, x in arguments.items()}
    assert plain["B"].dim() == 4
    found = differentiate(ordered_selective_scan, plain)
    for name, want in directed.items():
        torch.testing.assert_close(found[name], want[0], rtol=0, atol=0)


def test_four_axes_that_can_be_read_both_ways_are_refused() -> None:
    x, A = torch.randn(2, 2, 6), -torch.rand(6, 4)
    both = torch.randn(2, 2, 2, 4)
    with pytest.raises(ShapeError, match="B must have five axes"):
        ordered_selective_scan(x, x, A, both, both[0])
    with pytest.raises(ShapeError, match="C must have five axes"):
        ordered_selective_scan(x, x, A, both[0], both)
    grouped = ordered_selective_scan(x, x, A, both[None], both[None])
    directed = ordered_selective_scan(x, x, A, both[:, :, :, None], both[:, :, :, None])
    assert grouped.out.shape == (1, 2, 2, 6)
    assert directed.out.shape == (2, 2, 2, 6)
    with pytest.raises(ShapeError, match=r"B must have shape \(B, L, N\), \(R, B, L, N\)"):
        ordered_selective_scan(x, x, A, A, both[0])


@pytest.mark.parametrize("backend", AVAILABLE)
def test_arguments_may_lie_anywhere_in_memory(backend: str) -> None:
    arguments = mamba_ssm_arguments()
    wide = {
        k: x.repeat_interleave(2, -1)[..., ::2]
        for k, x in arguments.items()
        if isinstance(x, Tensor)
    }
    turned = {k: wide[k].mT.contiguous().mT for k in ("u", "delta", "z", "B", "C")}
    want = selective_scan(**arguments, backend=backend)
    for views in (wide, turned):
        torch.testing.assert_close(
            selective_scan(**(arguments | views), backend=backend), want, rtol=1e-6, atol=1e-6
        )


@pytest.mark.parametrize("backend", AVAILABLE)
@pytest.mark.parametrize("layout", ["channels", "tokens"])
def test_results_and_gradients_lie_in_memory_as_their_inputs(layout: str, backend: str) -> None:
    arguments = mamba_ssm_arguments()
    tokens = {name: arguments[name] for name in ("u", "delta", "z", "B", "C")}
    if layout == "tokens":
        tokens = {name: x.mT.contiguous().mT for name, x in tokens.items()}
    leaves = {name: x.requires_grad_() for name, x in tokens.items()}
    for _ in range(2):
        out = selective_scan(**(arguments | leaves), backend=backend)
        assert isinstance(out, Tensor) and out.stride() == leaves["u"].stride()
        gradients = torch.autograd.grad(out.sum(), list(leaves.values()))
        assert [x.stride() for x in gradients] == [x.stride() for x in leaves.values()]


@pytest.mark.parametrize("sizes", [(0, 6, 4, 5), (2, 6, 4, 0)], ids=["no sample", "no token"])
def test_an_empty_input_gives_an_empty_output_and_zero_gradients(sizes: tuple[int, ...]) -> None:
    arguments = mamba_ssm_arguments(sizes=sizes)
    found = differentiate(lambda **x: selective_scan(**x, return_last_state=True), arguments)
    assert found["out"].shape == arguments["u"].shape and not found["last_state"].any()
    assert all(not x.any() for name, x in found.items() if name.startswith("grad "))


def test_without_tokens_the_last_state_is_the_initial_one() -> None:
    u, state = torch.zeros(2, 0, 6), torch.randn(2, 6, 4, requires_grad=True)
    coefficients = torch.zeros(2, 0, 4)
    scan = ordered_selective_scan(
        u, u, -torch.ones(6, 4), coefficients, coefficients, initial_state=state
    )
    assert scan.out.shape == u.shape and torch.equal(scan.last_state, state)
    scan.last_state.sum().backward()
    assert state.grad is not None and torch.equal(state.grad, torch.ones_like(state))


@pytest.mark.parametrize("result", [0, 1])
def test_one_result_alone_can_be_differentiated(result: int) -> None:
    arguments = mamba_ssm_arguments(torch.float64)

    got = differentiate(lambda **x: selective_scan(**x, return_last_state=True)[result], arguments)
    want = differentiate(lambda **x: mamba_ssm_semantics(**x)[result], arguments)
    unused = set(got) - set(want)
    assert unused == (set() if result == 0 else {"grad C", "grad D", "grad z"})
    assert all(not got.pop(name).any() for name in unused)
    assert_close(got, want)


def test_gradients_are_those_of_finite_differences() -> None:
    arguments = mamba_ssm_arguments(torch.float64, sizes=(2, 4, 2, 5))
    leaves = floating(arguments)

    def run(*values: Tensor) -> Any:
        return selective_scan(
            **(arguments | dict(zip(leaves, values, strict=True))), return_last_state=True
        )

    assert torch.autograd.gradcheck(run, list(leaves.values()), fast_mode=True)


@pytest.mark.parametrize("merge", [False, True])
def test_gradients_of_the_ordered_scan_are_those_of_finite_differences(merge: bool) -> None:
    every = frozenset({"D", "z", "delta_bias", "softplus", "initial_state"})
    case = ScanCase(
        "", length=6, channels=4, groups=2, state=2, directions=2, order=(2, 2, 3), options=every
    )
    arguments = ordered_arguments(
        make_scan_inputs(case._replace(merge=merge, shared=frozenset("u")), torch.float64)
    )
    leaves = floating(arguments)

    def run(*values: Tensor) -> Any:
        return tuple(ordered_selective_scan(**(arguments | dict(zip(leaves, values, strict=True)))))

    assert torch.autograd.gradcheck(run, list(leaves.values()), fast_mode=True)
