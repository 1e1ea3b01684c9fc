"""Does a backend compute what the reference computes? Named cases, seeded inputs, poisoned results,
one comparison.

A backend's tests are three lines::

    @pytest.mark.parametrize("case", SCAN_CASES, ids=str)
    def test_scan(case):
        assert_scan_agrees(vectorised, case, torch.float32, "token")

The values of a case do not depend on the layout, so the float64 run of the reference is made once
for all layouts.
"""

import math
from collections.abc import Iterable, Iterator
from functools import cache
from types import ModuleType
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from rgbt_fusion.ops import reference
from rgbt_fusion.ops.inputs import (
    CHECKPOINT_STEPS,
    ConvGradients,
    ConvInputs,
    ScanGradients,
    ScanInputs,
    ScanResults,
    checkpoint_steps,
)

LAYOUTS = ("token", "channel", "strided")
"""Contiguous ``(R, B, L, D)``; a view of contiguous ``(R, B, D, L)``; a slice of a wider
projection."""

OUT_TOLERANCE = {
    torch.float64: 1e-13,
    torch.float32: 1e-6,
    torch.bfloat16: 1e-2,
    torch.float16: 2e-3,
}
OTHER_TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 5e-6,
    torch.bfloat16: 1e-2,
    torch.float16: 2e-3,
}
"""Largest absolute error over largest absolute value, by the dtype of the result: of the output,
and of the gradients and the states, which carry the rounding of all steps."""

ALL_OPTIONS = frozenset({"D", "z", "delta_bias", "softplus"})
TOKENS = frozenset({"u", "delta", "B", "C", "z"})
PARAMETERS = frozenset({"A", "readout", "D", "delta_bias", "initial_state"})


class ScanCase(NamedTuple):
    """What one agreement test is about; every other field keeps a small default."""

    name: str
    length: int = 65
    channels: int = 17
    state: int = 8
    groups: int = 1
    batch: int = 2
    directions: int = 1
    options: frozenset[str] = ALL_OPTIONS
    """Of ``D``, ``z``, ``delta_bias``, ``softplus``, ``readout``, ``initial_state``, ``constant``
(stride 0)."""
    shared: frozenset[str] = frozenset()
    """The inputs with leading size 1 although there are several directions."""
    order: tuple[int, int, int] | None = None
    """Leading sizes and segments of the order table, ``(R?, B?, K)``."""
    merge: bool = False
    dt: tuple[float, float] = (1e-3, 1e-1)
    growing: bool = False
    """A above zero."""

    def __str__(self) -> str:
        return self.name


def _lengths() -> Iterable[ScanCase]:
    for length in (1, 3, 63, 64, 65, 127, 320, 720):
        yield ScanCase(f"length {length}", length=length)
    yield ScanCase("length 3840", length=3840, channels=3, state=5, batch=1)


def _sizes() -> Iterable[ScanCase]:
    for state in (1, 5, 16, 64):
        yield ScanCase(f"state {state}", state=state)
    yield ScanCase("channels 1", channels=1, batch=3)
    yield ScanCase("channels 768", channels=768, state=16, batch=1)
    yield ScanCase("channels 768, one state", channels=768, state=1, length=63, batch=1)
    yield ScanCase("groups of 8 channels", channels=24, groups=3)
    yield ScanCase(
        "groups of 5 channels", channels=10, groups=2, state=5, options=ALL_OPTIONS | {"readout"}
    )
    yield ScanCase("one channel a group", channels=4, groups=4)


def _options() -> Iterable[ScanCase]:
    yield ScanCase("no option", options=frozenset())
    for option in ("D", "z", "delta_bias", "softplus", "readout", "initial_state"):
        yield ScanCase(f"{option} alone", options=frozenset({option}))
    yield ScanCase("constant B and C", options=ALL_OPTIONS | {"readout", "constant"})
    yield ScanCase("every option", options=ALL_OPTIONS | {"readout", "initial_state"})


def _step_sizes() -> Iterable[ScanCase]:
    yield ScanCase("dt 1e-6", dt=(1e-6, 1e-6), length=127)
    yield ScanCase("dt 20", dt=(20.0, 20.0), length=127)
    yield ScanCase("dt 1e-6 to 20", dt=(1e-6, 20.0), length=127)
    yield ScanCase("dt 1e-6 to 20 without softplus", dt=(1e-6, 20.0), options=frozenset({"D"}))
    yield ScanCase("growing states", growing=True, dt=(1e-3, 3e-2))


def _directions() -> Iterable[ScanCase]:
    every = ALL_OPTIONS | {"initial_state"}
    three = ScanCase("", directions=3, length=72, channels=10, options=every)
    yield three._replace(name="three directions")
    yield three._replace(name="shared parameters", shared=PARAMETERS)
    yield three._replace(name="shared tokens", shared=TOKENS)
    yield three._replace(name="shared gate, merged", shared=frozenset({"z"}), merge=True)
    yield three._replace(name="all but C shared", shared=TOKENS - {"C"} | PARAMETERS)
    yield three._replace(name="one order", directions=1, order=(1, 1, 6))
    yield three._replace(name="one order a sample", directions=1, order=(1, 2, 9))
    yield three._replace(name="one order for three directions", order=(1, 1, 6))
    yield three._replace(name="one order a direction", order=(3, 1, 12))
    yield three._replace(name="one order a direction and sample", order=(3, 2, 72))
    yield three._replace(
        name="order alone makes directions", order=(3, 1, 8), shared=TOKENS | PARAMETERS
    )
    yield three._replace(
        name="ordered and merged", order=(3, 2, 8), merge=True, shared=frozenset({"u", "z"})
    )
    yield three._replace(
        name="one order, merged", order=(1, 2, 8), merge=True, shared=frozenset({"delta", "B"})
    )
    yield three._replace(
        name="everything",
        order=(3, 2, 6),
        merge=True,
        groups=2,
        length=132,
        options=every | {"readout"},
        shared=TOKENS,
    )


SCAN_CASES = (*_lengths(), *_sizes(), *_options(), *_step_sizes(), *_directions())


class ConvCase(NamedTuple):
    """As :class:`ScanCase`, for the convolution."""

    name: str
    length: int = 65
    channels: int = 17
    taps: int = 4
    batch: int = 2
    directions: int = 1
    bias: bool = True
    silu: bool = True
    shared: frozenset[str] = frozenset()
    order: tuple[int, int, int] | None = None

    def __str__(self) -> str:
        return self.name


CONV_CASES = (
    *(ConvCase(f"length {length}", length=length) for length in (1, 3, 63, 64, 65, 127, 320, 720)),
    ConvCase("length 3840", length=3840, channels=3, batch=1),
    *(ConvCase(f"{taps} taps", taps=taps) for taps in (1, 2, 3)),
    ConvCase("channels 1", channels=1),
    ConvCase("channels 768", channels=768, batch=1),
    ConvCase("no bias", bias=False),
    ConvCase("no SiLU", silu=False),
    ConvCase("neither", bias=False, silu=False),
    ConvCase("three directions", directions=3),
    ConvCase("shared weights", directions=3, shared=frozenset({"weight", "bias"})),
    ConvCase("shared tokens", directions=3, shared=frozenset({"x"})),
    ConvCase("one order a sample", length=72, order=(1, 2, 9)),
    ConvCase("segments shorter than the taps", length=72, order=(1, 2, 36)),
    ConvCase(
        "one order for three directions",
        length=72,
        directions=3,
        order=(1, 1, 6),
        shared=frozenset({"x"}),
    ),
    ConvCase("one order a direction, own tokens", length=72, directions=3, order=(3, 1, 72)),
    ConvCase(
        "one order a direction and sample",
        length=132,
        directions=3,
        order=(3, 2, 6),
        shared=frozenset({"x"}),
    ),
)


def make_scan_inputs(
    case: ScanCase,
    dtype: torch.dtype = torch.float32,
    layout: str = "token",
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> ScanInputs:
    """Return the inputs of a case. Their values depend on the case, the dtype and the seed, not on
    the layout."""
    make = _Maker(case.directions, case.shared, dtype, layout, seed, device)
    on, n, size = case.options, case.state, (case.batch, case.length)
    sign = 1 if case.growing else -1
    bias = make.normal("delta_bias", case.channels) if "delta_bias" in on else None
    low, high = (math.log(value) for value in case.dt)
    dt = (make.uniform("delta", *size, case.channels) * (high - low) + low).exp()
    raw = dt + torch.log(-torch.expm1(-dt)) if "softplus" in on else dt
    raw = raw if bias is None else raw - bias[:, None, None]
    constant = "constant" in on
    # The states die away at every rate, so that slow and fast ones are compared.
    rates = torch.linspace(0, 1, n, dtype=torch.float64).expand(case.channels, n) * math.log(16)
    return ScanInputs(
        u=make.token("u", *size, case.channels),
        delta=make.laid_out(raw if raw.shape[0] == make.leading("delta") else raw[:1]),
        A=make.as_parameter(sign * (rates + 0.1 * make.normal("A", case.channels, n)).exp()),
        B=make.ones(*size, case.groups, n) if constant else make.token("B", *size, case.groups, n),
        C=make.ones(*size, case.groups, n) if constant else make.token("C", *size, case.groups, n),
        readout=make.parameter("readout", case.channels, n) if "readout" in on else None,
        D=make.parameter("D", case.channels) if "D" in on else None,
        z=make.token("z", *size, case.channels) if "z" in on else None,
        delta_bias=None if bias is None else make.as_parameter(bias),
        order=make.order(case.order),
        initial_state=make.parameter("initial_state", case.batch, case.channels, n)
        if "initial_state" in on
        else None,
        delta_softplus="softplus" in on,
        merge=case.merge,
    )


def make_conv_inputs(
    case: ConvCase,
    dtype: torch.dtype = torch.float32,
    layout: str = "token",
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> ConvInputs:
    """Return the inputs of a case. Their values depend on the case, the dtype and the seed, not on
    the layout."""
    make = _Maker(case.directions, case.shared, dtype, layout, seed, device)
    return ConvInputs(
        x=make.token("x", case.batch, case.length, case.channels),
        weight=make.parameter("weight", case.channels, case.taps),
        bias=make.parameter("bias", case.channels) if case.bias else None,
        order=make.order(case.order),
        silu=case.silu,
    )


class _Maker:
    """Seeded tensors in the dtype and layout of one test, drawn in float64 on the CPU."""

    def __init__(
        self,
        directions: int,
        shared: frozenset[str],
        dtype: torch.dtype,
        layout: str,
        seed: int,
        device: torch.device | str,
    ) -> None:
        self.directions, self.shared, self.layout, self.device = directions, shared, layout, device
        self.dtype = dtype
        self.state_dtype = torch.float64 if dtype == torch.float64 else torch.float32
        self.random = torch.Generator().manual_seed(seed)

    def leading(self, name: str) -> int:
        return 1 if name in self.shared else self.directions

    def normal(self, name: str, *size: int) -> Tensor:
        return torch.randn(self.leading(name), *size, generator=self.random, dtype=torch.float64)

    def uniform(self, name: str, *size: int) -> Tensor:
        return torch.rand(self.leading(name), *size, generator=self.random, dtype=torch.float64)

    def token(self, name: str, *size: int) -> Tensor:
        return self.laid_out(self.normal(name, *size))

    def ones(self, *size: int) -> Tensor:
        return torch.ones((), dtype=self.dtype, device=self.device).expand(1, *size)

    def parameter(self, name: str, *size: int) -> Tensor:
        return self.as_parameter(self.normal(name, *size))

    def as_parameter(self, x: Tensor) -> Tensor:
        return x.to(self.device, self.state_dtype)

    def laid_out(self, x: Tensor) -> Tensor:
        """Put ``(R, B, L, ...)`` into memory as the layout says; same shape, same values."""
        x = x.to(self.device, self.dtype)
        if self.layout == "channel":
            return x.movedim(2, -1).contiguous().movedim(-1, 2)
        if self.layout == "strided":
            wide = torch.full(
                (*x.shape[:3], x[0, 0, 0].numel() + 11), math.nan, dtype=x.dtype, device=x.device
            )
            part = wide[..., 5:-6].unflatten(-1, x.shape[3:])
            return part.copy_(x)
        return x

    def order(self, size: tuple[int, int, int] | None) -> Tensor | None:
        if size is None:
            return None
        directions, batch, segments = size
        rows = [torch.randperm(segments, generator=self.random) for _ in range(directions * batch)]
        return torch.stack(rows).view(directions, batch, segments).to(self.device)


Inputs = TypeVar("Inputs", ScanInputs, ConvInputs)


def as_float64(inputs: Inputs) -> Inputs:
    """Return the same, already rounded, values in float64."""
    return inputs._make(
        x.double() if isinstance(x, Tensor) and x.is_floating_point() else x for x in inputs
    )


def _poisoned(shape: Iterable[int], like: Tensor) -> Tensor:
    """Return a result full of NaN, in the caller's layout: channel-major where ``like`` is."""
    result = torch.full(tuple(shape), math.nan, dtype=like.dtype, device=like.device)
    channel_major = like.dim() > 3 and like.shape[2] > 1 and like.stride(2) == 1
    return result.movedim(2, -1).contiguous().movedim(-1, 2) if channel_major else result


def upstream(result: Tensor, seed: int) -> Tensor:
    """Return a gradient for a result, in its layout; every dtype holds the values exactly.

    The seed of ``out`` is one above that of the inputs, that of ``last_state`` two.
    """
    random = torch.Generator().manual_seed(seed)
    return torch.empty_like(result).copy_(
        torch.randn(result.shape, generator=random, dtype=torch.bfloat16)
    )


def _steps_of(backend: ModuleType, device: torch.device) -> int:
    """Return the steps between two checkpoints; Triton's kernels keep theirs in the interpreter."""
    return CHECKPOINT_STEPS if "triton" in backend.__name__ else checkpoint_steps(device)


def run_scan(
    backend: ModuleType, inputs: ScanInputs, grads: bool = True, seed: int = 0
) -> dict[str, Tensor]:
    """Run a backend into poisoned results and return them by name; gradients are called ``"grad
    u"`` and so on."""
    u, directions, n = inputs.u, inputs.directions, inputs.A.shape[2]
    _, batch, length, channels = u.shape
    out_shape = (1 if inputs.merge else directions, batch, length, channels)
    blocks = -(-length // _steps_of(backend, u.device)) if grads else 0
    results = ScanResults(
        _poisoned(out_shape, u),
        _poisoned((directions, batch, channels, n), inputs.A),
        _poisoned((directions, batch, blocks, n, channels), inputs.A),
    )
    backend.scan_forward(inputs, results)
    if not grads:
        return results._asdict()
    grad_out, grad_last = upstream(results.out, seed + 1), upstream(results.last_state, seed + 2)
    gradients = ScanGradients._make(_poisoned_gradients(inputs, ScanGradients._fields))
    backend.scan_backward(inputs, results.checkpoints, grad_out, grad_last, gradients)
    return results._asdict() | _by_name(gradients)


def run_conv(
    backend: ModuleType, inputs: ConvInputs, grads: bool = True, seed: int = 0
) -> dict[str, Tensor]:
    """Run a backend into poisoned results and return them by name."""
    x = inputs.x
    out = _poisoned((inputs.directions, *x.shape[1:]), x)
    backend.conv_forward(inputs, out)
    if not grads:
        return {"out": out}
    gradients = ConvGradients._make(_poisoned_gradients(inputs, ConvGradients._fields))
    backend.conv_backward(inputs, upstream(out, seed + 1), gradients)
    return {"out": out} | _by_name(gradients)


def _poisoned_gradients(
    inputs: ScanInputs | ConvInputs, names: Iterable[str]
) -> Iterator[Tensor | None]:
    given = inputs._asdict()
    return (
        None if given[name] is None else _poisoned(given[name].shape, given[name]) for name in names
    )


def _by_name(gradients: ScanGradients | ConvGradients) -> dict[str, Tensor]:
    return {f"grad {name}": grad for name, grad in gradients._asdict().items() if grad is not None}


def relative_error(got: Tensor, want: Tensor) -> float:
    """Return the largest absolute error over the largest absolute value; NaN where ``got`` has
    one."""
    got, want = got.detach().double().cpu(), want.detach().double().cpu()
    error, scale = (got - want).abs().max().item(), want.abs().max().item()
    return error if scale == 0 else error / scale


def assert_close(got: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    """Fail with every result that is further from ``want`` than its dtype allows."""
    assert got.keys() == want.keys(), f"got {sorted(got)}, want {sorted(want)}"
    wrong = []
    for name, result in got.items():
        limit = (OUT_TOLERANCE if name == "out" else OTHER_TOLERANCE)[result.dtype]
        error = relative_error(result, want[name]) / cancellation(name, want)
        if result.shape != want[name].shape or not error <= limit:
            wrong.append(
                f"{name} {tuple(result.shape)} {result.dtype}: "
                f"error {error:.1e}, allowed {limit:.0e}"
            )
    assert not wrong, "; ".join(wrong)


def cancellation(name: str, want: dict[str, Tensor]) -> float:
    """Return by how much a sum over the tokens is shorter than terms of random sign make it.

    The gradient of ``delta_bias`` is the sum of that of ``delta``. With one channel it is a single
    number, which may come out near zero where the rounding of its terms does not.
    """
    if name != "grad delta_bias":
        return 1.0
    terms = want["grad delta"].double()
    usual = terms.flatten(1, -2).norm(dim=1).max().item()
    largest = want[name].double().abs().max().item()
    return max(1.0, usual / largest) if largest else 1.0


@cache
def _scan_oracle(case: ScanCase, dtype: torch.dtype, grads: bool, seed: int) -> dict[str, Tensor]:
    return run_scan(reference, as_float64(make_scan_inputs(case, dtype, seed=seed)), grads, seed)


@cache
def _conv_oracle(case: ConvCase, dtype: torch.dtype, grads: bool, seed: int) -> dict[str, Tensor]:
    return run_conv(reference, as_float64(make_conv_inputs(case, dtype, seed=seed)), grads, seed)


def assert_scan_agrees(
    backend: ModuleType,
    case: ScanCase,
    dtype: torch.dtype = torch.float32,
    layout: str = "token",
    *,
    grads: bool = True,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> None:
    """Compare outputs and all gradients with the reference in float64 on the same rounded
    inputs."""
    inputs = make_scan_inputs(case, dtype, layout, seed, device)
    got = run_scan(backend, inputs, grads, seed)
    want = _scan_oracle(case, dtype, grads, seed)
    if grads and "native" in backend.__name__:
        # an arrangement of the backend's own: the gradients tell whether it is right
        assert not got["checkpoints"].isnan().any(), "a part of the checkpoints was not written"
        want = want | {"checkpoints": got["checkpoints"].double()}
    elif grads:
        every = _steps_of(backend, inputs.u.device) // checkpoint_steps(torch.device("cpu"))
        want = want | {"checkpoints": want["checkpoints"][:, :, ::every]}
    assert_close(got, want)


def assert_conv_agrees(
    backend: ModuleType,
    case: ConvCase,
    dtype: torch.dtype = torch.float32,
    layout: str = "token",
    *,
    grads: bool = True,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> None:
    """Compare outputs and all gradients with the reference in float64 on the same rounded
    inputs."""
    inputs = make_conv_inputs(case, dtype, layout, seed, device)
    assert_close(run_conv(backend, inputs, grads, seed), _conv_oracle(case, dtype, grads, seed))
