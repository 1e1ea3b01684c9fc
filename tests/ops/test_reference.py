"""The oracle itself, against a closed form, autograd, F.conv1d and finite differences."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ops.agreement import (
    ALL_OPTIONS,
    CONV_CASES,
    SCAN_CASES,
    ConvCase,
    ScanCase,
    assert_close,
    make_conv_inputs,
    make_scan_inputs,
    run_conv,
    run_scan,
    upstream,
)
from rgbt_fusion.ops import reference
from rgbt_fusion.ops.inputs import (
    CPU_CHECKPOINT_STEPS,
    ConvInputs,
    ScanGradients,
    ScanInputs,
    ScanResults,
)

TINY_SCANS = [
    case._replace(length=12)
    for case in SCAN_CASES
    if "length" not in case.name and case.channels < 768
]
TINY_SCANS = [case._replace(order=case.order and (*case.order[:2], 6)) for case in TINY_SCANS]
SHORT_CONVOLUTIONS = [case for case in CONV_CASES if case.length <= 132]


def rows_of(order: Tensor | None, r: int, b: int, length: int) -> list[int]:
    """Write an order out, row by row."""
    if order is None:
        return list(range(length))
    segments = order[r if len(order) > 1 else 0, b if order.shape[1] > 1 else 0].tolist()
    size = length // len(segments)
    return [segment * size + i for segment in segments for i in range(size)]


def unordered(y: Tensor, rows: list[int]) -> Tensor:
    return torch.stack([y[rows.index(row)] for row in range(len(rows))])


def closed_form_sequence(x: dict[str, Any], rows: list[int]) -> tuple[Tensor, Tensor]:
    """Scan one sequence as h_t = sum_{s<=t} exp(A sum(dt_{s+1}..dt_t)) dt_s B_s u_s, and what is
    left of h_0."""
    u, delta, B, C = (x[name][rows] for name in ("u", "delta", "B", "C"))
    channels = torch.arange(u.shape[1]) // (u.shape[1] // B.shape[1])
    B, C = B[:, channels], C[:, channels]
    delta = delta if x["delta_bias"] is None else delta + x["delta_bias"]
    dt = torch.log1p(torch.exp(delta)) if x["delta_softplus"] else delta
    states = []
    for t in range(len(rows)):
        h = sum(
            torch.exp(x["A"] * dt[s + 1 : t + 1].sum(0)[:, None]) * (dt[s] * u[s])[:, None] * B[s]
            for s in range(t + 1)
        )
        if x["initial_state"] is not None:
            h = h + torch.exp(x["A"] * dt[: t + 1].sum(0)[:, None]) * x["initial_state"]
        states.append(h)
    read = C if x["readout"] is None else C * x["readout"]
    y = torch.einsum("ldn,ldn->ld", read, torch.stack(states))
    y = y if x["D"] is None else y + x["D"] * u
    y = y if x["z"] is None else y * x["z"][rows] / (1 + torch.exp(-x["z"][rows]))
    return unordered(y, rows), states[-1]


def closed_form(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """Return ``out`` and ``last_state`` of every direction and sample."""
    given, per_sample = inputs._asdict(), ("u", "delta", "B", "C", "z", "initial_state")
    outs, lasts = [], []
    for r in range(inputs.directions):
        for b in range(inputs.u.shape[1]):
            own = {k: v[r % len(v)] if isinstance(v, Tensor) else v for k, v in given.items()}
            own |= {k: own[k][b] for k in per_sample if own[k] is not None}
            out, last = closed_form_sequence(own, rows_of(inputs.order, r, b, inputs.u.shape[2]))
            outs.append(out)
            lasts.append(last)
    shape = (inputs.directions, inputs.u.shape[1])
    out, last_state = torch.stack(outs).unflatten(0, shape), torch.stack(lasts).unflatten(0, shape)
    return out.sum(0, keepdim=True) if inputs.merge else out, last_state


def by_autograd(inputs: Any, run: Callable[[Any], tuple[Tensor, ...]]) -> dict[str, Tensor]:
    """Return what ``run`` computes and its gradients, named as ``run_scan`` and ``run_conv`` name
    them."""
    leaves = inputs._make(
        x.detach().clone().requires_grad_()
        if isinstance(x, Tensor) and x.is_floating_point()
        else x
        for x in inputs
    )
    results = run(leaves)
    torch.autograd.backward(results, [upstream(x, seed) for seed, x in enumerate(results, 1)])
    gradients = {
        f"grad {k}": x.grad
        for k, x in leaves._asdict().items()
        if isinstance(x, Tensor) and x.grad is not None
    }
    return dict(zip(("out", "last_state"), results, strict=False)) | gradients


@pytest.mark.parametrize("case", TINY_SCANS, ids=str)
def test_scan_and_its_gradients_are_those_of_the_closed_form(case: ScanCase) -> None:
    inputs = make_scan_inputs(case, torch.float64)
    got = run_scan(reference, inputs)
    assert got.pop("checkpoints").shape[2] == 1
    assert_close(got, by_autograd(inputs, closed_form))


def convolved(inputs: ConvInputs) -> tuple[Tensor]:
    """Convolve each sequence by F.conv1d on permuted rows."""
    given, outs = inputs._asdict(), []
    for r in range(inputs.directions):
        own = {k: v[r % len(v)] if isinstance(v, Tensor) else v for k, v in given.items()}
        for b in range(inputs.x.shape[1]):
            rows = rows_of(inputs.order, r, b, inputs.x.shape[2])
            taps = own["weight"].shape[1]
            y = F.conv1d(
                F.pad(own["x"][b][rows].T, (taps - 1, 0)),
                own["weight"][:, None],
                own["bias"],
                groups=len(own["weight"]),
            )
            outs.append(unordered((F.silu(y) if inputs.silu else y).T, rows))
    return (torch.stack(outs).unflatten(0, (inputs.directions, inputs.x.shape[1])),)


@pytest.mark.parametrize("case", SHORT_CONVOLUTIONS, ids=str)
def test_convolution_and_its_gradients_are_those_of_conv1d(case: ConvCase) -> None:
    inputs = make_conv_inputs(case, torch.float64)
    assert_close(run_conv(reference, inputs), by_autograd(inputs, convolved))


def test_checkpoints_are_the_states_before_every_16th_step_on_a_cpu() -> None:
    case = ScanCase(
        "", length=150, directions=2, order=(2, 2, 5), options=frozenset({"initial_state"})
    )
    inputs = make_scan_inputs(case, torch.float64)
    checkpoints = run_scan(reference, inputs)["checkpoints"]
    assert inputs.initial_state is not None and inputs.order is not None
    torch.testing.assert_close(checkpoints[:, :, 0].mT, inputs.initial_state)
    for s in range(1, 10):
        rows = rows_of(inputs.order, 1, 0, 150)[: s * CPU_CHECKPOINT_STEPS]
        tokens = {name: getattr(inputs, name)[1:, :1, rows] for name in ("u", "delta", "B", "C")}
        start = inputs._replace(
            A=inputs.A[1:], order=None, initial_state=inputs.initial_state[1:, :1], **tokens
        )
        torch.testing.assert_close(
            checkpoints[1, 0, s].mT, run_scan(reference, start, grads=False)["last_state"][0, 0]
        )


class ReferenceScan(torch.autograd.Function):
    """The reference's forward and backward, for gradcheck."""

    @staticmethod
    def forward(ctx: Any, inputs: ScanInputs, *leaves: Tensor) -> tuple[Tensor, Tensor]:
        ctx.inputs = inputs = inputs._replace(
            **dict(zip(ScanGradients._fields, leaves, strict=True))
        )
        directions, batch, length, channels = inputs.u.shape
        states = inputs.A.shape[2]
        results = ScanResults(
            torch.empty_like(inputs.u),
            inputs.A.new_empty(directions, batch, channels, states),
            inputs.A.new_empty(
                directions, batch, -(-length // CPU_CHECKPOINT_STEPS), states, channels
            ),
        )
        reference.scan_forward(inputs, results)
        ctx.checkpoints = results.checkpoints
        return results.out, results.last_state

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        grads = ScanGradients(
            *(torch.empty_like(getattr(ctx.inputs, name)) for name in ScanGradients._fields)
        )
        reference.scan_backward(ctx.inputs, ctx.checkpoints, *grad_outputs, grads)
        return None, *grads


def test_scan_gradients_are_those_of_finite_differences() -> None:
    every = ALL_OPTIONS | {"readout", "initial_state"}
    case = ScanCase(
        "", length=66, channels=2, groups=2, state=2, batch=1, order=(1, 1, 3), options=every
    )
    inputs = make_scan_inputs(case, torch.float64)
    leaves = [getattr(inputs, name).requires_grad_() for name in ScanGradients._fields]
    assert torch.autograd.gradcheck(
        lambda *x: ReferenceScan.apply(inputs, *x), leaves, fast_mode=True
    )
