"""Arguments of the public ops as a user would write them, and their results with gradients, by
name."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ops.agreement import upstream
from rgbt_fusion.ops.inputs import ConvInputs, ScanInputs


def mamba_ssm_arguments(
    dtype: torch.dtype = torch.float32,
    *,
    B: str = "varying",
    C: str = "varying",
    sizes: tuple[int, int, int, int] = (2, 6, 4, 70),
) -> dict[str, Any]:
    """Return arguments of ``selective_scan`` with all options; B and C in one of mamba-ssm's
    forms."""
    random = torch.Generator().manual_seed(0)
    batch, channels, states, length = sizes
    state = torch.float64 if dtype == torch.float64 else torch.float32
    shapes = {
        "constant": (channels, states),
        "varying": (batch, states, length),
        "groups": (batch, 3, states, length),
        "one group": (batch, 1, states, length),
    }

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random)

    return {
        "u": normal(batch, channels, length).to(dtype),
        "delta": (normal(batch, channels, length) - 3).to(dtype),
        "A": -normal(channels, states).exp().to(state),
        "B": normal(*shapes[B]).to(state if B == "constant" else dtype),
        "C": normal(*shapes[C]).to(state if C == "constant" else dtype),
        "D": normal(channels).to(state),
        "z": normal(batch, channels, length).to(dtype),
        "delta_bias": normal(channels).to(state),
        "delta_softplus": True,
    }


def ordered_arguments(inputs: ScanInputs | ConvInputs) -> dict[str, Any]:
    """Return arguments of an ordered op: nothing that is shared, or alone, has a direction axis."""
    given = {
        name: x
        for name, x in inputs._asdict().items()
        if x is not None and name not in ("readout", "silu")
    }
    if isinstance(inputs, ConvInputs):
        given["activation"] = "silu" if inputs.silu else None
    elif inputs.B.shape[3] == 1:
        given |= {"B": inputs.B.squeeze(3), "C": inputs.C.squeeze(3)}
    for name, x in given.items():
        if isinstance(x, Tensor) and len(x) == 1 and name != "order":
            given[name] = x[0]
    if inputs.order is not None and inputs.order.shape[1] == 1:
        given["order"] = inputs.order[:, 0] if len(inputs.order) > 1 else inputs.order[0, 0]
    return given


def in_float64(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the same, already rounded, values in float64."""
    return {
        k: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x
        for k, x in arguments.items()
    }


def floating(arguments: dict[str, Any]) -> dict[str, Tensor]:
    """Return the arguments that have gradients, as fresh leaves."""
    tensors = {
        k: x for k, x in arguments.items() if isinstance(x, Tensor) and x.is_floating_point()
    }
    return {k: x.detach().clone().requires_grad_() for k, x in tensors.items()}


def differentiate(run: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Tensor]:
    """Return ``out``, ``last_state`` where there is one, and the gradient of every floating-point
    argument."""
    leaves = floating(arguments)
    results = run(**(arguments | leaves))
    results = (results,) if isinstance(results, Tensor) else results
    torch.autograd.backward(results, [upstream(x, seed) for seed, x in enumerate(results, 1)])
    gradients = {f"grad {name}": x.grad for name, x in leaves.items() if x.grad is not None}
    return dict(zip(("out", "last_state"), results, strict=False)) | gradients
