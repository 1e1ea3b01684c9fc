"""Compile the Triton kernels without a GPU, exactly as the backend would launch them, and count
their machine code.

A launch is recorded in place of being made, with tensors that have shapes but no memory; its
arguments are specialised as Triton would and compiled for any card. The table of all cases:

    python tests/ops/triton_offline.py            sm_80, sm_89, sm_90 and gfx942
    python tests/ops/triton_offline.py 90 100     the ones named
"""

import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from rgbt_fusion.ops.inputs import (
    CHECKPOINT_STEPS,
    ConvGradients,
    ConvInputs,
    ScanGradients,
    ScanInputs,
    ScanResults,
)
from rgbt_fusion.ops.triton import backend as triton_backend
from rgbt_fusion.ops.triton import conv_kernels, scan_kernels, sum_kernels

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
AMD = "gfx942"
TYPES = {
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.float32: "*fp32",
    torch.int64: "*i64",
}
OPTIONS = ("num_warps", "num_stages", "enable_fp_fusion", "maxnreg")
Card = int | str


class Launch(NamedTuple):
    """A kernel and what it would have been called with."""

    kernel: Any
    arguments: dict[str, Any]

    def work(self, lanes: int) -> int:
        """State-elements (of the convolution: channels times steps) that a lane computes in one
        turn of the loop."""
        a = self.arguments
        states, steps = (a["NP"], 4) if "NP" in a else (1, a["STEPS"])
        return a["TILE"] * states * steps // lanes


class Code(NamedTuple):
    """What the compiler made of a launch."""

    registers: int
    stack: int
    loops: list[Counter[str]]
    """Instructions of each innermost loop, by name."""
    work: int
    names: set[str]
    """Every instruction that occurs."""
    looking_back: int = 0
    """How many of the loops, the first ones, pass over chunks and not over elements."""
    shared: int = 0
    """Bytes of shared memory per program."""

    def per_element(self, name: str | None = None) -> float:
        """Instructions (called ``name``) in the loops per state-element: each is passed once by
        every element."""
        loops = self.loops[self.looking_back :]
        return sum(loop.total() if name is None else loop[name] for loop in loops) / self.work


@contextmanager
def recorded_launches(multiprocessors: int = 0, lanes: int = 32) -> Iterator[list[Launch]]:
    """Record launches instead of making them, on an imaginary card."""
    launches: list[Launch] = []

    class Recorder:
        def __init__(self, kernel: Any) -> None:
            self.kernel = kernel

        def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
            return lambda **arguments: launches.append(Launch(self.kernel, arguments))

    with mock.patch.multiple(
        triton_backend, _multiprocessors=lambda _: multiprocessors, _lanes=lambda _: lanes
    ):
        patches = [
            mock.patch.object(module, name, Recorder(kernel))
            for module in (scan_kernels, sum_kernels, conv_kernels)
            for name, kernel in vars(module).items()
            if name.endswith("_kernel")
        ]
        for patch in patches:
            patch.start()
        try:
            yield launches
        finally:
            for patch in patches:
                patch.stop()


class Case(NamedTuple):
    """A call of the ops; the fields not given are those of the figures: bfloat16, N = 16, every
    option on."""

    dtype: torch.dtype = torch.bfloat16
    length: int = 3840
    channels: int = 1536
    state: int = 16
    segments: int = 0
    readout: bool = False
    channel_major: bool = False
    multiprocessors: int = 8
    """8: one warp after another, narrow; 0: enough programs for wide tiles; 100: few programs, so
chunks."""

    def scan_inputs(self) -> ScanInputs:
        """Inputs as a Mamba block has them: u and z are halves of one projection, B and C slices of
        another."""
        length, d, n = self.length, self.channels, self.state
        xz, projected = self.empty(1, 1, length, 2 * d), self.empty(1, 1, length, 96 + 2 * n)
        A = torch.empty(1, d, n, device="meta")
        return ScanInputs(
            u=xz[..., :d],
            delta=self.empty(1, 1, length, d),
            A=A,
            B=projected[..., 96 : 96 + n].unsqueeze(3),
            C=projected[..., 96 + n :].unsqueeze(3),
            readout=A if self.readout else None,
            D=A[..., 0].contiguous(),
            z=xz[..., d:],
            delta_bias=A[..., 0].contiguous(),
            order=self.order(),
            initial_state=None,
            delta_softplus=True,
            merge=False,
        )

    def conv_inputs(self) -> ConvInputs:
        x = self.empty(1, 1, self.length, 2 * self.channels)[..., : self.channels]
        weight = torch.empty(1, self.channels, 4, device="meta")
        return ConvInputs(x, weight, weight[..., 0].contiguous(), self.order(), silu=True)

    def empty(self, *size: int) -> Tensor:
        if self.channel_major:
            return torch.empty(
                *size[:2], size[3], size[2], dtype=self.dtype, device="meta"
            ).transpose(2, 3)
        return torch.empty(size, dtype=self.dtype, device="meta")

    def order(self) -> Tensor | None:
        return (
            torch.empty(1, 1, self.segments, dtype=torch.int64, device="meta")
            if self.segments
            else None
        )


def launches_of(case: Case, op: str, lanes: int = 32) -> dict[str, Launch]:
    """Record what ``op`` ("scan forward", "scan backward", "conv forward", "conv backward")
    launches, by kernel."""
    with recorded_launches(case.multiprocessors, lanes) as launches:
        if op.startswith("scan"):
            inputs = case.scan_inputs()
            out = torch.empty(inputs.u.shape, dtype=case.dtype, device="meta")
            blocks = -(-case.length // CHECKPOINT_STEPS)
            checkpoints = inputs.A.new_empty(1, 1, blocks, case.state, case.channels)
            last = inputs.A.new_empty(1, 1, case.channels, case.state)
            if op == "scan forward":
                triton_backend.scan_forward(inputs, ScanResults(out, last, checkpoints))
            else:
                gradients = ScanGradients._make(
                    None
                    if getattr(inputs, name) is None
                    else torch.empty_like(getattr(inputs, name))
                    for name in ScanGradients._fields
                )
                triton_backend.scan_backward(inputs, checkpoints, out, None, gradients)
        else:
            inputs = case.conv_inputs()
            out = torch.empty(inputs.x.shape, dtype=case.dtype, device="meta")
            if op == "conv forward":
                triton_backend.conv_forward(inputs, out)
            else:
                gradients = ConvGradients(
                    *(None if x is None else torch.empty_like(x) for x in inputs[:3])
                )
                triton_backend.conv_backward(inputs, out, gradients)
    return {launch.kernel.__name__.removesuffix("_kernel"): launch for launch in launches}


def compile_launch(launch: Launch, card: Card) -> Code:
    """Compile a launch for an NVIDIA card (its compute capability, 90) or an AMD one (its name,
    "gfx942")."""
    arguments = dict(launch.arguments)
    options = {name: arguments.pop(name) for name in OPTIONS if name in arguments}
    amd = isinstance(card, str)
    if amd:
        options.pop("maxnreg", None)
    signature, constants, aligned = {}, {}, {}
    for i, parameter in enumerate(launch.kernel.params):
        value = arguments.pop(parameter.name)
        if isinstance(value, Tensor):
            signature[parameter.name] = TYPES[value.dtype]
        elif parameter.is_constexpr or value is None or value == 1:
            signature[parameter.name], constants[(i,)] = "constexpr", value
            continue
        else:
            signature[parameter.name] = "i32" if abs(value) < 2**31 else "i64"
        if isinstance(value, Tensor) or value % 16 == 0:
            aligned[(i,)] = [["tt.divisibility", 16]]
    if arguments:
        raise TypeError(f"{launch.kernel.__name__} has no parameters {sorted(arguments)}")
    source = ASTSource(launch.kernel, signature, constants, aligned)
    target = GPUTarget("hip", card, 64) if amd else GPUTarget("cuda", card, 32)
    compiled = triton.compile(source, target=target, options=options)
    looking_back = 0
    is_last = launch.kernel.__name__ == "scan_forward_kernel"
    if is_last and launch.arguments.get("chunk_steps") is not None:
        looking_back = 2  # four chunks at a time, then one by one
    if amd:
        code = _read_amd(compiled.asm["amdgcn"], launch.work(64))
    else:
        code = _read_nvidia(compiled.asm["cubin"], launch.work(32))
        code = code._replace(shared=compiled.metadata.shared)
    return code._replace(looking_back=looking_back)


def _read_nvidia(cubin: bytes, work: int) -> Code:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = _run("cuobjdump", "-res-usage", file.name)
        listing = _run("nvdisasm", "-c", file.name)
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    if found is None:
        raise ValueError(f"cuobjdump did not report registers: {usage}")
    names: list[str] = []
    labels: dict[str, int] = {}
    jumps: list[tuple[int, str]] = []
    for line in listing.splitlines():
        if label := re.match(r"\s*(\.L\w+):", line):
            labels[label[1]] = len(names)
        elif instruction := re.match(
            r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z]\w*)(.*)", line
        ):
            if instruction[1] == "BRA" and (to := re.search(r"\((\.L\w+)\)", instruction[2])):
                jumps.append((len(names), to[1]))
            names.append(instruction[1])
    return Code(int(found[1]), int(found[2]), _innermost(names, labels, jumps), work, set(names))


def _read_amd(listing: str, work: int) -> Code:
    names: list[str] = []
    labels: dict[str, int] = {}
    jumps: list[tuple[int, str]] = []
    for line in listing.splitlines():
        if label := re.match(r"(\.LBB\w+):", line):
            labels[label[1]] = len(names)
        elif instruction := re.match(r"\t([a-z]\w+)\s*([^;]*)", line):
            if "branch" in instruction[1]:
                jumps.append((len(names), instruction[2].strip()))
            names.append(instruction[1])

    def entry(name: str) -> int:
        found = re.search(rf"\.{name}:\s+(\d+)", listing)
        if found is None:
            raise ValueError(f"the listing does not report {name}")
        return int(found[1])

    stack = (
        entry("private_segment_fixed_size") + entry("vgpr_spill_count") + entry("sgpr_spill_count")
    )
    # Blocks after the end of the program that jump back are not loops; a loop has at least a quad
    # of exponentials.
    loops = [
        loop
        for loop in _innermost(names, labels, jumps)
        if any(name.startswith("v_exp") for name in loop)
    ]
    return Code(entry("vgpr_count"), stack, loops, work, set(names))


def _run(tool: str, *arguments: str) -> str:
    return subprocess.run(
        [TOOLS / tool, *arguments], capture_output=True, text=True, check=True
    ).stdout


def _innermost(
    names: list[str], labels: dict[str, int], jumps: list[tuple[int, str]]
) -> list[Counter[str]]:
    loops = [
        (labels[label], at + 1) for at, label in jumps if label in labels and labels[label] < at
    ]
    inner = [a for a in loops if not any(a[0] <= b[0] and b[1] <= a[1] and a != b for b in loops)]
    return [Counter(names[start:end]) for start, end in inner]


CASES = {
    "scan forward": Case(),
    "scan forward, ordered": Case(segments=12),
    "scan forward, wide": Case(multiprocessors=0),
    "scan forward, chunks": Case(multiprocessors=100),
    "scan forward, float32": Case(dtype=torch.float32),
    "scan forward, float16": Case(dtype=torch.float16),
    "scan forward, N = 8": Case(state=8),
    "scan forward, N = 64": Case(state=64),
    "scan forward, length 127": Case(length=127),
    "scan forward, short segments": Case(segments=960),
    "scan forward, (B, D, L)": Case(channel_major=True),
    "scan forward, readout": Case(readout=True),
    "conv forward": Case(),
    "conv forward, ordered": Case(segments=12),
}
CASES |= {
    name.replace("forward", "backward"): case for name, case in CASES.items() if "wide" not in name
}


def main(cards: list[Card]) -> None:
    """Print a table of all cases."""
    print(f"Triton {triton.__version__}\n")
    print("| case | kernel | card | registers | stack | loop instructions | SHFL | MUFU |")
    print("|---|---|---|---|---|---|---|---|")
    for name, case in CASES.items():
        for card in cards:
            op = " ".join(name.split(",")[0].split()[:2])
            for kernel, launch in launches_of(
                case, op, 64 if isinstance(card, str) else 32
            ).items():
                code = compile_launch(launch, card)
                shuffles, functions = code.per_element("SHFL"), code.per_element("MUFU")
                figures = (
                    f"{code.registers} | {code.stack} | {code.per_element():.2f} | "
                    f"{shuffles:.2f} | {functions:.2f}"
                )
                print(f"| {name} | {kernel} | {card} | {figures} |", flush=True)


if __name__ == "__main__":
    main([int(card) if card.isdigit() else card for card in sys.argv[1:]] or [80, 89, 90, AMD])
