"""The public ops as modules of tensors alone, for what torch does with modules."""

from typing import Any

import pytest
from torch import Tensor, nn

from ops.agreement import ConvCase, ScanCase, make_conv_inputs, make_scan_inputs
from ops.public_arguments import floating, mamba_ssm_arguments, ordered_arguments
from rgbt_fusion import causal_conv1d, ordered_causal_conv1d, ordered_selective_scan, selective_scan

TOKENS = frozenset({"u", "delta", "B", "C"})


class Scan(nn.Module):
    """The ``(B, D, L)`` scan with every option."""

    def forward(
        self, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, *options: Tensor
    ) -> Any:
        return selective_scan(
            u, delta, A, B, C, *options, delta_softplus=True, return_last_state=True
        )


class OrderedScans(nn.Module):
    """Three ordered scans of one input, merged."""

    def forward(
        self, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, order: Tensor
    ) -> Any:
        scan = ordered_selective_scan(
            u, delta, A, B, C, z=u, delta_softplus=True, order=order, merge=True
        )
        return scan.out, scan.last_state


class Convolution(nn.Module):
    """The ``(B, D, L)`` convolution."""

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor) -> Any:
        return (causal_conv1d(x, weight, bias, activation="silu"),)


class OrderedConvolutions(nn.Module):
    """Three ordered convolutions of one input."""

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor, order: Tensor) -> Any:
        return (ordered_causal_conv1d(x, weight, bias, "silu", order=order),)


class ContinuedConvolutions(nn.Module):
    """Three ordered convolutions that go on from other tokens."""

    def forward(
        self, x: Tensor, weight: Tensor, bias: Tensor, states: Tensor, order: Tensor
    ) -> Any:
        return ordered_causal_conv1d(
            x, weight, bias, "silu", order=order, initial_states=states, return_final_states=True
        )


MODULES = pytest.mark.parametrize("module", [Scan, OrderedScans, Convolution, OrderedConvolutions])

EVERY_MODULE = pytest.mark.parametrize("module", [*MODULES.args[1], ContinuedConvolutions])
"""Those that are one op, and one that is several."""


def tensors_for(module: type[nn.Module], length: int = 72) -> list[Tensor]:
    """Return the arguments of a module, leaves but for the order."""
    if module is Scan:
        given = mamba_ssm_arguments(sizes=(2, 6, 4, length))
    elif module is OrderedScans:
        case = ScanCase(
            "", length=length, directions=3, order=(3, 2, 8), shared=TOKENS, options=frozenset()
        )
        given = ordered_arguments(make_scan_inputs(case))
    else:
        order = None if module is Convolution else (3, 2, 8)
        case = ConvCase(
            "", length=length, directions=3 if order else 1, order=order, shared=frozenset({"x"})
        )
        given = ordered_arguments(make_conv_inputs(case))
        given["x"] = given["x"] if order else given["x"].mT.contiguous()
        if module is ContinuedConvolutions:
            given["states"] = given["x"][:, :3].clone()
    return [*floating(given).values(), *([given["order"]] if "order" in given else [])]
