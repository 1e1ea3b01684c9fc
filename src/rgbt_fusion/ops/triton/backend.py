"""The Triton backend: launches the kernels and adds up their partial sums.

The kernels are those of ``scan_kernels.py``, ``sum_kernels.py`` and ``conv_kernels.py``.
Every sum has a fixed order: what several programs contribute to goes to memory once per program and
is added up afterwards. The number of programs depends on the device, so results may differ in the
last bits from one GPU model to another, never from run to run.
"""

import math
import os
import time
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._guards import detect_fake_mode
from torch._subclasses.fake_tensor import FakeTensor

from rgbt_fusion.ops.inputs import (
    CHECKPOINT_STEPS,
    ConvGradients,
    ConvInputs,
    ScanGradients,
    ScanInputs,
    ScanResults,
)
from rgbt_fusion.ops.triton.launching import (
    launch,
    launch_on,
    note_scratch,
    note_sum,
    replay_or_record,
)

__all__ = [
    "conv_backward",
    "conv_forward",
    "conv_why_not",
    "scan_backward",
    "scan_forward",
    "scan_why_not",
]

OLDEST_TRITON = (3, 3)
"""Older ones cannot compile the kernels."""

RETRY_SECONDS = 60.0
"""For so long, a test launch that failed is not made again."""

FORWARD_WARPS = 16
BACKWARD_WARPS = 8
"""Programs per multiprocessor; the backward kernel fills the register file with eight."""

FEW_WARPS = 4
"""With fewer programs per multiprocessor it idles.

Then chunks of the sequence pay for their extra pass.
"""

HIDING_WARPS = 8
"""With fewer programs per multiprocessor it waits for memory, unless every program loads ahead."""

LEAST_BLOCK = 8
"""The shortest chunk of the forward pass in steps: below it, what a program starts with weighs
more."""

MOST_LOOKED_BACK = 48
"""With so many chunks each finds its own first state; with more, a kernel of its own finds all."""

WIDE_STATES = 16
"""The most states of which twice the channels fit into the registers of the forward kernel."""

SUM_ROWS = 8
"""Steps of a program that adds up the gradients of B and C."""

CONV_TILE = 128
CONV_STEPS = 8
"""Channels of a program of the convolution, four per lane, and steps in its registers."""

_OPTIONS = {"num_warps": 1, "num_stages": 1, "enable_fp_fusion": True}
_ALL_REGISTERS = {} if torch.version.hip else {"maxnreg": 255}
"""NVIDIA's assembler stops at 168 registers per lane now and then, and spills the rest."""


def scan_why_not(inputs: ScanInputs) -> list[str]:
    """Say why the scan cannot run on these inputs; empty if it can."""
    return why_not(inputs.u)


def conv_why_not(inputs: ConvInputs) -> list[str]:
    """Say why the convolution cannot run on these inputs; empty if it can."""
    return why_not(inputs.x)


def why_not(x: Tensor) -> list[str]:
    if x.dtype == torch.float64:
        return ["computes in float32, the inputs are float64"]
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if x.device.type != "cuda" and not (interpreted and x.device.type == "cpu"):
        return [f"runs on CUDA and ROCm devices, the inputs are on {x.device.type}"]
    error = why_not_installed()
    if error is None and not interpreted:
        error = _launch_error(x)
    return [error] if error else []


@cache
def why_not_installed() -> str | None:
    """Say why no Triton that can compile the kernels is there; None if one is."""
    try:
        import triton

        if _version(triton.__version__) < OLDEST_TRITON:
            wanted = ".".join(map(str, OLDEST_TRITON))
            return f"needs Triton {wanted} or newer, {triton.__version__} is installed"
        _kernels()
    except Exception as error:  # an installed Triton can fail to import in many ways
        return f"triton cannot be imported: {error}"
    return None


def _version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


class _Kernels(NamedTuple):
    """The modules of kernels; they import Triton."""

    scan: ModuleType
    conv: ModuleType
    sums: ModuleType


@cache
def _kernels() -> _Kernels:
    from rgbt_fusion.ops.triton import conv_kernels, scan_kernels, sum_kernels

    return _Kernels(scan_kernels, conv_kernels, sum_kernels)


_tested: dict[int, tuple[float, str | None]] = {}
"""By device: when a test launch was made, and what was wrong."""


def _launch_error(x: Tensor) -> str | None:
    """Test once whether kernels run on the device of ``x``: a Triton that imports may not.

    A failure may pass, as a lack of memory does, so it is tried again after a while. Nothing is
    launched under FakeTensorMode, where memory has no address, nor while a CUDA graph is captured,
    of which the launch would become a part: what was not tested then counts as fine.
    """
    device = x.device.index or 0
    when, error = _tested.get(device, (-math.inf, None))
    is_known = device in _tested and (error is None or time.monotonic() < when + RETRY_SECONDS)
    if is_known or not _may_launch(x):
        return error
    error = _test_launch(device)
    _tested[device] = (time.monotonic(), error)
    return error


def _may_launch(x: Tensor) -> bool:
    fake = isinstance(x, FakeTensor) or detect_fake_mode() is not None
    return not fake and not torch.cuda.is_current_stream_capturing()


def _test_launch(device: int) -> str | None:
    """Scan four steps whose result is known, by the kernel that real scans use."""
    try:
        one = torch.ones(1, 1, 4, 4, device=f"cuda:{device}")
        inputs = ScanInputs(
            u=one,
            delta=one,
            A=torch.zeros(1, 4, 4, device=one.device),
            B=one[..., None, :],
            C=one[..., None, :],
            readout=None,
            D=None,
            z=None,
            delta_bias=None,
            order=None,
            initial_state=None,
            delta_softplus=False,
            merge=False,
        )
        out = torch.full_like(one, math.nan)
        nothing = one.new_empty(1, 1, 0, 4, 4)
        scan_forward(inputs, ScanResults(out, torch.zeros_like(one), nothing))
        # Without decay, each of four states counts the steps.
        expected = 4.0 * torch.arange(1, 5, device=one.device)[:, None].expand(4, 4)
        is_right = torch.equal(out[0, 0], expected)
    except Exception as error:  # compiler, driver and launch errors have no common type
        return f"a test launch of a Triton kernel failed: {type(error).__name__}: {error}"
    return None if is_right else "a test launch of a Triton kernel gave a wrong result"


@cache
def _multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count


@cache
def _lanes(device: torch.device) -> int:
    return 64 if device.type == "cuda" and torch.version.hip and _is_cdna(device) else 32


def _is_cdna(device: torch.device) -> bool:
    return str(getattr(torch.cuda.get_device_properties(device), "gcnArchName", "")).startswith(
        "gfx9"
    )


def power_of_two(n: int) -> int:
    return 1 << max(n - 1, 0).bit_length()


def _stride(x: Tensor, axis: int) -> int:
    return 0 if x.shape[axis] == 1 else x.stride(axis)


def _token(name: str, x: Tensor | None) -> dict[str, Any]:
    """Return the arguments for ``(R?, B, L, D)``: itself, three strides, and the row stride.

    The row stride is compiled into the kernel.
    """
    r = b = row = d = 0
    if x is not None:
        r, b, row, d = (_stride(x, axis) for axis in range(4))
    short = name.removesuffix("_out") if name == "grad_out" else name
    return {
        name: x,
        f"{short}_r": r,
        f"{short}_b": b,
        f"{short.upper()}_ROW": row,
        f"{short}_d": d,
    }


def _states(name: str, x: Tensor, row_name: str | None = None) -> dict[str, Any]:
    """Return the arguments for a tensor ``(R?, B, L, G, N)``."""
    r, b, row, g, n = (_stride(x, axis) for axis in range(5))
    return {
        name: x,
        f"{name}_r": r,
        f"{name}_b": b,
        row_name or f"{name.upper()}_ROW": row,
        f"{name}_g": g,
        f"{name}_n": n,
    }


def _parameter(name: str, x: Tensor | None, short: str | None = None) -> dict[str, Any]:
    """Return the arguments for a contiguous tensor, of which only the leading stride varies."""
    return {name: x, f"{short or name}_r": 0 if x is None else _stride(x, 0)}


def _order(order: Tensor | None, length: int, block: int = CHECKPOINT_STEPS) -> dict[str, Any]:
    """Return the arguments for the order table.

    SPAN is how many consecutive steps of a block surely lie in consecutive rows.
    """
    if order is None:
        return {
            "order": None,
            "order_r": 0,
            "order_b": 0,
            "segment": length,
            "SPAN": block,
        }
    segment = length // order.shape[2]
    span = next(span for span in (block, 4, 1) if segment % span == 0)
    return {
        "order": order,
        "order_r": _stride(order, 0),
        "order_b": _stride(order, 1),
        "segment": segment,
        "SPAN": span,
    }


class _Plan(NamedTuple):
    """How a scan is cut into programs."""

    directions: int
    batch: int
    length: int
    channels: int
    groups: int
    states: int
    padded: int
    tile: int
    tiles_per_group: int
    chunks: int
    chunk_blocks: int
    block: int
    """Steps of a block: of what lies between two checkpoints, or less where chunks are shorter."""
    few: bool
    """Too few programs to hide the wait for memory behind one another."""
    wide: bool
    """Twice the channels a program: a tenth fewer instructions, where there is plenty to do."""
    replicated: bool
    """Some lanes compute what others compute, too, or share a sum of products with them."""

    @classmethod
    def make(cls, inputs: ScanInputs, warps: int, *, is_forward: bool) -> "_Plan":
        """Cut ``inputs`` so that every multiprocessor has ``warps`` programs, if it can be.

        The forward pass alone may take chunks shorter than what lies between two checkpoints, and
        wide tiles.
        """
        _, batch, length, channels = inputs.u.shape
        groups, states = inputs.B.shape[3:]
        padded = max(4, power_of_two(states))
        per_group = channels // groups
        device = inputs.u.device
        lanes = _lanes(device)
        processors = _multiprocessors(device)
        tile = min(16 * lanes // padded, 4 * lanes, power_of_two(per_group))
        tile = max(4, tile)
        programs = inputs.directions * batch * groups * -(-per_group // tile)
        block = CHECKPOINT_STEPS
        blocks = -(-length // block)
        chunk_blocks = blocks
        if programs < FEW_WARPS * processors:
            wanted = -(-warps * processors // programs)
            if is_forward:
                block = _block_steps(length, wanted)
                blocks = -(-length // block)
            chunk_blocks = -(-blocks // min(blocks, wanted))
        chunks = -(-blocks // chunk_blocks)
        fits = padded <= WIDE_STATES and per_group >= 2 * tile
        aligned = states == 1 or states % 4 == 0
        wide = is_forward and fits and programs >= 2 * HIDING_WARPS * processors
        if wide:
            tile = 2 * tile
        return cls(
            directions=inputs.directions,
            batch=batch,
            length=length,
            channels=channels,
            groups=groups,
            states=states,
            padded=padded,
            tile=tile,
            tiles_per_group=-(-per_group // tile),
            chunks=chunks,
            chunk_blocks=chunk_blocks,
            block=block,
            few=programs * chunks < HIDING_WARPS * processors,
            wide=wide,
            replicated=not aligned or tile * padded < 16 * lanes,
        )

    @property
    def per_group(self) -> int:
        return self.channels // self.groups

    @property
    def tiles(self) -> int:
        return self.groups * self.tiles_per_group

    def grid(self, chunks: int) -> tuple[int]:
        return (self.tiles * chunks * self.batch * self.directions,)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that every kernel of the scan takes."""
        return {
            "D": self.channels,
            "per_group": self.per_group,
            "tiles": self.tiles,
            "chunks": self.chunks,
            "batch": self.batch,
            "N": self.states,
            "NP": self.padded,
            "TILE": self.tile,
            **_OPTIONS,
            # A lane that fuses its own product into a sum rounds only those of the others: they
            # would not get the same bits, and it were left to chance whose are stored.
            "enable_fp_fusion": not self.replicated,
        }

    def walk(self, inputs: ScanInputs) -> dict[str, Any]:
        """Return the arguments of the kernels that walk the sequence."""
        return {
            **self.arguments(),
            **_order(inputs.order, self.length, self.block),
            **_token("delta", inputs.delta),
            **_parameter("A", inputs.A),
            **_parameter("bias", inputs.delta_bias),
            "L": self.length,
            "chunk_blocks": self.chunk_blocks,
            "BLOCK": self.block,
            "SOFTPLUS": inputs.delta_softplus,
            "EVEN": self.length % 4 == 0,
        }

    def per_chunk(self, like: Tensor, *sizes: int) -> Tensor:
        return note_scratch(like.new_empty((self.directions, self.batch, self.chunks, *sizes)))


def _reads(inputs: ScanInputs) -> dict[str, Any]:
    """Return the arguments that drive the state."""
    return {**_token("u", inputs.u), **_states("B", inputs.B)}


def _writes(inputs: ScanInputs) -> dict[str, Any]:
    """Return the arguments that the state is read with."""
    return {
        **_states("C", inputs.C),
        **_token("z", inputs.z),
        **_parameter("readout", inputs.readout),
    }


def scan_launches(inputs: ScanInputs) -> int:
    """Return how many kernels the forward pass launches."""
    plan = _Plan.make(inputs, FORWARD_WARPS, is_forward=True)
    if plan.chunks == 1:
        return 1
    return 2 if plan.chunks <= MOST_LOOKED_BACK else 3


def _block_steps(length: int, wanted: int) -> int:
    """Return how many steps a block has, if a sequence shall have ``wanted`` chunks."""
    steps = power_of_two(-(-length // wanted))
    return min(max(steps, LEAST_BLOCK), CHECKPOINT_STEPS)


def scan_forward(inputs: ScanInputs, results: ScanResults) -> None:
    """Scan in one launch, or in three over chunks of the sequence where channels are few."""
    tensors = (*inputs[: len(_SCAN_TENSORS)], *results)
    flags = (inputs.delta_softplus, inputs.merge)

    def call(tensors: Sequence[Any]) -> None:
        given = ScanInputs(*tensors[: len(_SCAN_TENSORS)], *flags)
        _scan_forward(given, ScanResults(*tensors[len(_SCAN_TENSORS) :]))

    replay_or_record(tensors, ("scan", *flags, *_tuning(inputs.u)), call)


def _tuning(x: Tensor) -> tuple[int, ...]:
    """Return what decides, besides the inputs, how work is cut."""
    return (
        FORWARD_WARPS,
        BACKWARD_WARPS,
        FEW_WARPS,
        HIDING_WARPS,
        LEAST_BLOCK,
        MOST_LOOKED_BACK,
        _multiprocessors(x.device),
        _lanes(x.device),
    )


_SCAN_TENSORS = ScanInputs._fields[:-2]
"""The inputs of a scan that are tensors."""


def _scan_forward(inputs: ScanInputs, results: ScanResults) -> None:
    scan = _kernels().scan
    plan = _Plan.make(inputs, FORWARD_WARPS, is_forward=True)
    out = _per_direction(results.out, plan.directions)
    walk = {**plan.walk(inputs), **_reads(inputs)}
    with launch_on(inputs.u):
        chunk_states = chunk_steps = None
        if plan.chunks > 1:
            chunk_states = plan.per_chunk(inputs.A, plan.channels, plan.states)
            chunk_steps = plan.per_chunk(inputs.A, plan.channels)
            chunk = {"chunk_states": chunk_states, "chunk_steps": chunk_steps}
            launch(scan.forward_summary_kernel, plan.grid(plan.chunks), **walk, **chunk)
            if plan.chunks > MOST_LOOKED_BACK:
                chunk_states = _scan_chunks(
                    plan, inputs, inputs.initial_state, chunk, reverse=False
                )
                chunk_steps = None
        launch(
            scan.scan_forward_kernel,
            plan.grid(plan.chunks),
            **walk,
            **_writes(inputs),
            **_parameter("skip", inputs.D),
            **_parameter("start", inputs.initial_state),
            **_token("out", out),
            chunk_states=chunk_states,
            chunk_steps=chunk_steps,
            checkpoints=results.checkpoints if results.checkpoints.shape[2] else None,
            last=results.last_state,
            KEEP_EVERY=CHECKPOINT_STEPS // plan.block,
            AHEAD=plan.few,
            **(_ALL_REGISTERS if plan.few or plan.wide else {}),
        )
    _add_directions(results.out, out)


def _scan_chunks(
    plan: _Plan,
    inputs: ScanInputs,
    start: Tensor | None,
    chunk: dict[str, Tensor],
    *,
    reverse: bool,
) -> Tensor:
    """Return the state that each chunk starts from."""
    scan = _kernels().scan
    starts = plan.per_chunk(inputs.A, plan.channels, plan.states)
    launch(
        scan.chunk_scan_kernel,
        plan.grid(1),
        **plan.arguments(),
        **_parameter("A", inputs.A),
        **_parameter("start", start),
        **chunk,
        chunk_starts=starts,
        REVERSE=reverse,
    )
    return starts


def scan_backward(
    inputs: ScanInputs,
    checkpoints: Tensor,
    grad_out: Tensor,
    grad_last_state: Tensor | None,
    grads: ScanGradients,
) -> None:
    """Run the adjoint in one launch, or in three over chunks, and add up what they leave."""
    given = (*inputs[: len(_SCAN_TENSORS)], checkpoints, grad_out, grad_last_state)
    flags = (inputs.delta_softplus, inputs.merge)

    def call(tensors: Sequence[Any]) -> None:
        *scanned, kept, out, last = tensors[: len(given)]
        found = ScanGradients(*tensors[len(given) :])
        _scan_backward(ScanInputs(*scanned, *flags), kept, out, last, found)

    facts = ("scan backward", *flags, *_tuning(inputs.u))
    replay_or_record((*given, *grads), facts, call)


def _scan_backward(
    inputs: ScanInputs,
    checkpoints: Tensor,
    grad_out: Tensor,
    grad_last_state: Tensor | None,
    grads: ScanGradients,
) -> None:
    scan = _kernels().scan
    plan = _Plan.make(inputs, BACKWARD_WARPS, is_forward=False)
    grid = plan.grid(plan.chunks)
    walk = {**plan.walk(inputs), **_writes(inputs), **_token("grad_out", grad_out)}
    parts = _Parts.allocate(plan, inputs, grads)
    with launch_on(inputs.u):
        chunk_adjoints = None
        if plan.chunks > 1:
            chunk = {
                "chunk_states": plan.per_chunk(inputs.A, plan.channels, plan.states),
                "chunk_steps": plan.per_chunk(inputs.A, plan.channels),
            }
            launch(scan.adjoint_summary_kernel, grid, **walk, **chunk)
            chunk_adjoints = _scan_chunks(plan, inputs, grad_last_state, chunk, reverse=True)
        launch(
            scan.scan_backward_kernel,
            grid,
            **walk,
            **_reads(inputs),
            **_parameter("skip", inputs.D),
            **_token("du", parts.u),
            **_token("ddelta", parts.delta),
            **_token("dz", parts.z),
            checkpoints=checkpoints,
            last_adjoint=grad_last_state,
            chunk_adjoints=chunk_adjoints,
            kept=parts.kept,
            gated=parts.gated,
            dB=parts.B,
            dC=parts.C,
            WHOLE=plan.per_group % plan.tile == 0,
        )
        parts.add_up(plan, grads)


class _Parts(NamedTuple):
    """What the programs of the backward kernel write, before it is added up."""

    u: Tensor
    """``(R, B, L, D)``"""
    delta: Tensor
    z: Tensor | None
    B: Tensor
    """``(R, B, G, tiles, L, NP)``"""
    C: Tensor
    kept: Tensor
    """``(programs, states kept in a block, TILE, NP)``.

    At the end the first three hold what a program adds up for its channels: dA, the gradient of its
    first state, dreadout.
    """
    gated: Tensor
    """``(programs, steps of a block, TILE)``; at the end the first two hold dbias and dskip."""

    @classmethod
    def allocate(cls, plan: _Plan, inputs: ScanInputs, grads: ScanGradients) -> "_Parts":
        (programs,) = plan.grid(plan.chunks)
        per_tile = (plan.directions, plan.batch, plan.groups, plan.tiles_per_group)

        def new(*shape: int) -> Tensor:
            return note_scratch(inputs.A.new_empty(shape))

        z = None
        if grads.z is not None:
            z = _per_direction(grads.z, plan.directions)
        return cls(
            u=_per_direction(grads.u, plan.directions),
            delta=_per_direction(grads.delta, plan.directions),
            z=z,
            B=new(*per_tile, plan.length, plan.padded),
            C=new(*per_tile, plan.length, plan.padded),
            kept=new(programs, CHECKPOINT_STEPS // 4, plan.tile, plan.padded),
            gated=new(programs, CHECKPOINT_STEPS, plan.tile),
        )

    def add_up(self, plan: _Plan, grads: ScanGradients) -> None:
        """Write the gradients: in one launch, and one per input of tokens that directions share."""
        stretches = -(-plan.length // SUM_ROWS)
        token_programs = plan.directions * plan.batch * plan.groups * stretches
        channel_programs = plan.directions * plan.tiles

        def is_shared(grad: Tensor | None) -> bool:
            return grad is not None and grad.shape[0] < plan.directions

        launch(
            _kernels().sums.add_up_kernel,
            (token_programs + channel_programs,),
            tokens_B=self.B,
            tokens_C=self.C,
            kept=self.kept,
            gated=self.gated,
            **_states("dB", grads.B, "dB_row"),
            **_states("dC", grads.C, "dC_row"),
            dA=grads.A,
            dstart=grads.initial_state,
            dreadout=grads.readout,
            dbias=grads.delta_bias,
            dskip=grads.D,
            L=plan.length,
            D=plan.channels,
            per_group=plan.per_group,
            tiles=plan.tiles,
            chunks=plan.chunks,
            batch=plan.batch,
            groups=plan.groups,
            directions=plan.directions,
            SHARED_B=is_shared(grads.B),
            SHARED_C=is_shared(grads.C),
            SHARED_A=is_shared(grads.A),
            SHARED_START=is_shared(grads.initial_state),
            SHARED_READOUT=is_shared(grads.readout),
            SHARED_BIAS=is_shared(grads.delta_bias),
            SHARED_SKIP=is_shared(grads.D),
            N=plan.states,
            NP=plan.padded,
            TILE=plan.tile,
            BLOCK=CHECKPOINT_STEPS,
            ROWS=SUM_ROWS,
            **_OPTIONS,
        )
        _add_directions(grads.u, self.u)
        _add_directions(grads.delta, self.delta)
        if grads.z is not None and self.z is not None:
            _add_directions(grads.z, self.z)


def _per_direction(result: Tensor, directions: int) -> Tensor:
    """Return where the directions write: ``result``, or a copy each if it is their sum."""
    if result.shape[0] == directions:
        return result
    return note_scratch(result.new_empty((directions, *result.shape[1:])))


def _add_directions(result: Tensor, parts: Tensor) -> None:
    if parts is not result:
        note_sum(result, parts)


class _ConvPlan(NamedTuple):
    """How a convolution is cut into programs."""

    directions: int
    batch: int
    length: int
    channels: int
    taps: int
    tiles: int
    chunks: int
    chunk_steps: int

    @classmethod
    def make(cls, inputs: ConvInputs) -> "_ConvPlan":
        """Cut ``inputs`` into stretches that are worth their halo and give every warp work."""
        _, batch, length, channels = inputs.x.shape
        tiles = -(-channels // CONV_TILE)
        wanted = FORWARD_WARPS * _multiprocessors(inputs.x.device)
        steps = power_of_two(length * inputs.directions * batch * tiles // max(wanted, 1))
        steps = min(max(steps, CONV_STEPS), 256)
        return cls(
            directions=inputs.directions,
            batch=batch,
            length=length,
            channels=channels,
            taps=inputs.weight.shape[2],
            tiles=tiles,
            chunks=-(-length // steps),
            chunk_steps=steps,
        )

    @property
    def grid(self) -> tuple[int]:
        return (self.tiles * self.chunks * self.batch * self.directions,)

    def arguments(self, inputs: ConvInputs) -> dict[str, Any]:
        """Return the arguments that both kernels take."""
        return {
            **_token("x", inputs.x),
            **_parameter("weight", inputs.weight),
            **_parameter("bias", inputs.bias),
            **_order(inputs.order, self.length),
            "L": self.length,
            "D": self.channels,
            "tiles": self.tiles,
            "chunks": self.chunks,
            "batch": self.batch,
            "chunk_steps": self.chunk_steps,
            "W": self.taps,
            "HALO": -(-(self.taps - 1) // 4) * 4,
            "STEPS": CONV_STEPS,
            "TILE": CONV_TILE,
            "SILU": inputs.silu,
            **_OPTIONS,
        }


def conv_forward(inputs: ConvInputs, out: Tensor) -> None:
    """Convolve in one launch."""

    def call(tensors: Sequence[Any]) -> None:
        *given, to = tensors
        _conv_forward(ConvInputs(*given, inputs.silu), to)

    facts = ("conv", inputs.silu, *_tuning(inputs.x))
    replay_or_record((*inputs[: len(_CONV_TENSORS)], out), facts, call)


_CONV_TENSORS = ConvInputs._fields[:-1]
"""The inputs of a convolution that are tensors."""


def _conv_forward(inputs: ConvInputs, out: Tensor) -> None:
    conv = _kernels().conv
    plan = _ConvPlan.make(inputs)
    with launch_on(inputs.x):
        launch(conv.conv_forward_kernel, plan.grid, **plan.arguments(inputs), **_token("out", out))


def conv_backward(inputs: ConvInputs, grad_out: Tensor, grads: ConvGradients) -> None:
    """Correlate in one launch and add up what the stretches contribute to the taps and the bias."""
    plan = _ConvPlan.make(inputs)
    dx = _per_direction(grads.x, plan.directions)
    stretches = (plan.directions, plan.batch, plan.chunks, plan.channels)
    dweight = inputs.weight.new_empty((*stretches, plan.taps))
    dbias = None if grads.bias is None else inputs.weight.new_empty(stretches)

    def call(tensors: Sequence[Any]) -> None:
        *given, out, to, to_weight, to_bias = tensors
        with launch_on(out):
            launch(
                _kernels().conv.conv_backward_kernel,
                plan.grid,
                **plan.arguments(ConvInputs(*given, inputs.silu)),
                **_token("grad_out", out),
                **_token("dx", to),
                dweight=to_weight,
                dbias=to_bias,
            )

    facts = ("conv backward", inputs.silu, *_tuning(inputs.x))
    given = inputs[: len(_CONV_TENSORS)]
    replay_or_record((*given, grad_out, dx, dweight, dbias), facts, call)
    _add_directions(grads.x, dx)
    _add_stretches(grads.weight, dweight, plan)
    if grads.bias is not None and dbias is not None:
        _add_stretches(grads.bias, dbias, plan)


def _add_stretches(grad: Tensor, parts: Tensor, plan: _ConvPlan) -> None:
    """Add up ``(R, B, chunks, D, ...)`` to ``(R?, D, ...)``."""
    if grad.shape[0] < plan.directions:
        torch.sum(parts, (0, 1, 2), out=grad[0])
    else:
        torch.sum(parts, (1, 2), out=grad)
