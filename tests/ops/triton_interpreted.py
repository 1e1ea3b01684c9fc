"""Run the Triton kernels in Triton's interpreter and compare them with the float64 oracle, a line
of JSON a case.

The interpreter takes milliseconds for every step of every program, so the cases are small: what
they are about is one way through a kernel each. It must be switched on before Triton is imported,
hence in a process of its own:

    cd tests TRITON_INTERPRET=1 python -m ops.triton_interpreted           the cases below
    TRITON_INTERPRET=1 python -m ops.triton_interpreted --all     and those of the other backends,
    for minutes
"""

import json
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple
from unittest import mock

import torch

from ops.agreement import (
    ALL_OPTIONS,
    CONV_CASES,
    LAYOUTS,
    PARAMETERS,
    SCAN_CASES,
    TOKENS,
    ConvCase,
    ScanCase,
    assert_conv_agrees,
    assert_scan_agrees,
)
from rgbt_fusion import ordered_causal_conv1d, selective_scan
from rgbt_fusion.ops.triton import backend as triton_backend

FULL = ALL_OPTIONS | {"readout", "initial_state"}
ONE_BY_ONE = ("D", "z", "delta_bias", "softplus", "readout", "initial_state")
FLOAT, HALF, BRAIN = torch.float32, torch.float16, torch.bfloat16


class Run(NamedTuple):
    """A case and how it is run."""

    case: ScanCase | ConvCase
    dtype: torch.dtype = FLOAT
    layout: str = "token"
    multiprocessors: int = 1
    """Of the imaginary card: 0 makes programs plentiful (wide tiles, nothing loaded ahead, no
chunks)."""

    def __str__(self) -> str:
        kind = "scan" if isinstance(self.case, ScanCase) else "conv"
        plenty = "" if self.multiprocessors else ", plenty"
        return (
            f"{kind}, {self.case}, {str(self.dtype).removeprefix('torch.')}, {self.layout}{plenty}"
        )

    def check(self) -> None:
        """Raise if outputs or gradients differ from the oracle, or are not written."""
        with mock.patch.object(
            triton_backend, "_multiprocessors", lambda device: self.multiprocessors
        ):
            if isinstance(self.case, ScanCase):
                assert_scan_agrees(triton_backend, self.case, self.dtype, self.layout)
            else:
                assert_conv_agrees(triton_backend, self.case, self.dtype, self.layout)


def scan(name: str, length: int, channels: int, state: int, **fields: object) -> ScanCase:
    """Return a case of one sample with every option on."""
    return ScanCase(name, length, channels, state, **{"batch": 1, "options": FULL, **fields})


def _scans() -> Iterator[Run]:
    yield Run(scan("one of everything", 1, 1, 1, options=frozenset()))
    yield Run(scan("length 3, 5 states", 3, 17, 5, batch=2))
    yield Run(scan("16 states", 4, 17, 16))
    yield Run(scan("64 states in three tiles", 3, 17, 64))
    yield Run(scan("two chunks, ordered", 66, 3, 4, order=(1, 1, 11)))
    many = scan("chunks too many to look back over", 400, 3, 1, options=frozenset({"softplus"}))
    yield Run(many, multiprocessors=8)
    yield Run(
        scan("two whole blocks in segments of 64", 128, 2, 1, order=(1, 1, 2)), multiprocessors=0
    )
    yield Run(scan("wide tiles", 4, 64, 16), multiprocessors=0)
    yield Run(scan("wide tiles, the last not full", 5, 90, 16), multiprocessors=0)
    for option in ONE_BY_ONE:
        yield Run(scan(f"{option} alone", 3, 5, 4, options=frozenset({option})))
    yield Run(scan("constant B and C", 3, 5, 4, options=FULL | {"constant"}))
    yield Run(scan("groups of 5 channels", 5, 10, 5, groups=2))
    yield Run(scan("one channel a group", 4, 3, 8, groups=3))
    yield Run(scan("dt 1e-6 to 20", 9, 17, 8, dt=(1e-6, 20.0)))
    yield Run(
        scan("dt 1e-6 to 20 without softplus", 9, 5, 8, dt=(1e-6, 20.0), options=frozenset({"D"}))
    )
    yield Run(scan("growing states", 9, 5, 8, growing=True))


def _orders() -> Iterator[Run]:
    three = scan("", 8, 5, 4, directions=3)
    yield Run(three._replace(name="three directions, shared parameters", shared=PARAMETERS))
    yield Run(three._replace(name="three directions, shared tokens", shared=TOKENS))
    yield Run(three._replace(name="segments of 1", batch=2, directions=1, order=(1, 2, 8)))
    yield Run(three._replace(name="segments of 2", order=(3, 1, 4)))
    yield Run(three._replace(name="segments of 3", length=9, order=(1, 1, 3)))
    merged = three._replace(merge=True, shared=frozenset({"u", "z"}))
    yield Run(merged._replace(name="segments of 4, merged", batch=2, order=(3, 2, 2)))
    yield Run(
        three._replace(
            name="order alone makes directions", order=(3, 1, 2), shared=TOKENS | PARAMETERS
        )
    )


def _layouts_and_types() -> Iterator[Run]:
    case = scan("all options", 5, 17, 8)
    for layout in LAYOUTS:
        yield Run(case, FLOAT, layout)
    for dtype in (BRAIN, HALF):
        yield Run(case, dtype)
        yield Run(case, dtype, "channel", multiprocessors=0)


def _convolutions() -> Iterator[Run]:
    for length, channels in ((1, 1), (3, 17), (9, 130)):
        yield Run(ConvCase(f"length {length}, {channels} channels", length, channels))
    for taps in (1, 2, 3):
        yield Run(ConvCase(f"{taps} taps", 5, 5, taps))
    yield Run(ConvCase("bare", 5, 5, bias=False, silu=False))
    yield Run(ConvCase("stretches", 65, 5, batch=1))
    yield Run(ConvCase("stretches", 65, 5, batch=1), multiprocessors=0)
    yield Run(ConvCase("shared weights", 8, 5, directions=3, shared=frozenset({"weight", "bias"})))
    yield Run(ConvCase("segments shorter than the taps", 8, 5, order=(1, 2, 4)))
    yield Run(
        ConvCase("segments of 4", 24, 5, directions=3, order=(3, 2, 6), shared=frozenset({"x"}))
    )
    for dtype in (BRAIN, HALF):
        yield Run(ConvCase("two samples", 9, 17), dtype)
    for layout in LAYOUTS[1:]:
        yield Run(ConvCase("two samples", 9, 17), FLOAT, layout)


def _others() -> Iterator[Run]:
    """Cases of the other backends that are not hopelessly long, in two layouts."""
    for layout in LAYOUTS[:2]:
        yield from (
            Run(case, FLOAT, layout)
            for case in SCAN_CASES
            if case.length <= 72 and case.channels <= 24
        )
        yield from (Run(case, FLOAT, layout) for case in CONV_CASES if case.length <= 132)


def public_call() -> None:
    """Raise unless the public function finds the backend and gives the gradients of the
    reference."""
    random = torch.Generator().manual_seed(0)
    results = []
    inputs = [torch.randn(2, 3, 5, generator=random) for _ in range(2)]
    inputs += [
        -torch.rand(3, 4, generator=random),
        *(torch.randn(2, 4, 5, generator=random) for _ in range(2)),
    ]
    for backend in ("triton", "reference"):
        leaves = [x.clone().requires_grad_() for x in inputs]
        out = selective_scan(*leaves, delta_softplus=True, backend=backend)
        results.append([out.detach(), *torch.autograd.grad(out.square().sum(), leaves)])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def continued_call() -> None:
    """Raise unless a convolution along an order goes on from states as the reference does."""
    random = torch.Generator().manual_seed(0)
    inputs = [torch.randn(shape, generator=random) for shape in ((1, 6, 3), (2, 3, 4), (1, 3, 3))]
    results = []
    for backend in ("triton", "reference"):
        x, weight, states = (one.clone().requires_grad_() for one in inputs)
        out, final = ordered_causal_conv1d(
            x,
            weight,
            order=torch.tensor([[2, 0, 1], [0, 1, 2]]),
            initial_states=states,
            return_final_states=True,
            backend=backend,
        )
        total = out.square().sum() + final.sum()
        gradients = torch.autograd.grad(total, (x, weight, states))
        results.append([out.detach(), final.detach(), *gradients])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def runs(everything: bool) -> list[Run]:
    """The cases, with those of the other backends or without."""
    return [
        *_scans(),
        *_orders(),
        *_layouts_and_types(),
        *_convolutions(),
        *(_others() if everything else ()),
    ]


def checks(everything: bool) -> dict[str, Callable[[], None]]:
    """What to run, by name."""
    return {
        "public call": public_call,
        "continued call": continued_call,
        **{str(run): run.check for run in runs(everything)},
    }


def main(everything: bool) -> None:
    """Print a line of JSON for each case: its name and what is wrong, if anything."""
    for name, check in checks(everything).items():
        try:
            check()
        except Exception as error:  # a kernel that fails in the interpreter raises anything
            print(json.dumps([name, f"{type(error).__name__}: {error}"]), flush=True)
        else:
            print(json.dumps([name, None]), flush=True)


if __name__ == "__main__":
    main("--all" in sys.argv)
