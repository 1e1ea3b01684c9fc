"""The native kernels on other platforms: cross-compiled, and run by an emulator.

In every run 64-bit ARM, where the kernels are made of NEON, compiled from the sources. Where
`RGBT_FUSION_WHEELS` names a folder of wheels (`make wheels`), the library of each wheel too.
"""

import ctypes
import os
import runpy
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from ops.agreement import (
    CONV_CASES,
    SCAN_CASES,
    ConvCase,
    ScanCase,
    assert_conv_agrees,
    assert_scan_agrees,
)
from rgbt_fusion.ops.native import backend as native

ROOT = Path(__file__).resolve().parents[2]
BUILD = runpy.run_path(str(ROOT / "hatch_build.py"))
WHEELS = os.environ.get("RGBT_FUSION_WHEELS")
FROM_SOURCES = "64-bit ARM"
LAUNCHERS = {
    FROM_SOURCES: ["qemu-aarch64"],
    "manylinux-x86_64": ["env"],
    "manylinux-aarch64": ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"],
    "musllinux-x86_64": ["/lib/ld-musl-x86_64.so.1"],
    "musllinux-aarch64": ["qemu-aarch64", "/lib/ld-musl-aarch64.so.1"],
    "windows-x86_64": ["wine64"],
}
"""What runs a program of a platform on 64-bit x86 Linux. macOS has no emulator here."""


@dataclass(frozen=True)
class Foreign:
    """A program of another platform, and how it is started.

    Attributes:
        command: the program behind its launcher.
        levels: how many instruction sets its library holds, of those that this machine runs.
    """

    command: list[str]
    levels: int


LARGE = 100_000
"""Tokens times channels above which a case takes the emulator too long."""
SCANS = [case for case in SCAN_CASES if case.length * case.channels < LARGE // 4]
CONVOLUTIONS = [case for case in CONV_CASES if case.length * case.channels < LARGE]


@pytest.fixture(scope="module", params=LAUNCHERS)
def foreign(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Foreign:
    """A program that runs one kernel on what it is handed, see ``foreign_kernel.c``."""
    platform = request.param
    launcher = _launcher(platform)
    folder = tmp_path_factory.mktemp("foreign")
    program = folder / "program.exe"
    if platform == FROM_SOURCES:
        _compile_all_for_arm(program)
        return Foreign([*launcher, str(program)], 1)
    _compile_against_the_wheel(platform, program)
    levels = len(native.loaded_library().levels) if platform.endswith("x86_64") else 1
    return Foreign([*launcher, str(program)], levels)


def _launcher(platform: str) -> list[str]:
    launcher = LAUNCHERS[platform]
    if platform != FROM_SOURCES and not WHEELS:
        pytest.skip("RGBT_FUSION_WHEELS names no folder: the wheels are not run")
    # QEMU comes linked statically too; Debian keeps the 64-bit wine in a folder of its own
    found = (
        shutil.which(launcher[0])
        or shutil.which(f"{launcher[0]}-static")
        or shutil.which(launcher[0], path="/usr/lib/wine")
    )
    if not found:
        pytest.skip(f"no {launcher[0]}: the kernels are not run on {platform}")
    loader = launcher[-1]
    if loader.startswith("/lib/") and not Path(loader).exists():
        pytest.skip(f"no {loader}: the kernels are not run on {platform}")
    return [found, *launcher[1:]]


def _compile_all_for_arm(program: Path) -> None:
    compiler = "aarch64-linux-gnu-gcc"
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler}: the kernels are not run on {FROM_SOURCES}")
    sources = ROOT / "src" / "rgbt_fusion" / "ops" / "native"
    files = [sources / "cpu.c", sources / "level.c", Path(__file__).with_name("foreign_kernel.c")]
    flags = [*BUILD["FLAGS"], "-DLEVEL=baseline", "-static"]
    _compile([compiler, *flags, *map(str, files), "-o", str(program), "-lpthread", "-lm"])


def _compile_against_the_wheel(platform: str, program: Path) -> None:
    assert WHEELS is not None
    made_for = BUILD["PLATFORMS"][platform]
    (wheel,) = Path(WHEELS).glob(f"*-{made_for.tag}.whl")
    library = program.parent / made_for.library
    library.write_bytes(zipfile.ZipFile(wheel).read(f"rgbt_fusion/ops/native/{made_for.library}"))
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", made_for.zig_target, "-O2"]
    found_beside = [f"-L{program.parent}", "-lrgbt_fusion_cpu"]
    if library.suffix != ".dll":
        found_beside.append("-Wl,-rpath,$ORIGIN")
    source = Path(__file__).with_name("foreign_kernel.c")
    _compile([*compiler, str(source), "-o", str(program), *found_beside])


def _compile(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(params=(0, 1, 2))
def emulated(
    request: pytest.FixtureRequest, foreign: Foreign, monkeypatch: pytest.MonkeyPatch
) -> SimpleNamespace:
    """The native backend, each call of which runs in the emulator."""
    if request.param >= foreign.levels:
        pytest.skip("no such instruction set: the kernels are not run at this level")
    known: list[Tensor] = []

    def call(name: str, packed: bytes) -> None:
        memory = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in known}
        fields = struct.unpack(f"{len(packed) // 8}q", packed)
        done = subprocess.run(
            [*foreign.command, name], input=_packed(memory, fields), capture_output=True
        )
        assert done.returncode == 0, (
            f"{name} left the emulator with {done.returncode}: {done.stderr.decode()}"
        )
        at = 0
        for address, size in memory.items():
            ctypes.memmove(address, done.stdout[at : at + size], size)
            at += size

    def knowing(function: Callable[..., None]) -> Callable[..., None]:
        def run(*arguments: Any) -> None:
            known[:] = _tensors(arguments)
            function(*arguments)

        return run

    library = SimpleNamespace(level=request.param, parallel_for=0)
    monkeypatch.setattr(native, "loaded_library", lambda: library)
    monkeypatch.setattr(native, "call", call)
    names = ("scan_forward", "scan_backward", "conv_forward", "conv_backward")
    kernels = {name: knowing(getattr(native, name)) for name in names}
    return SimpleNamespace(__name__=native.__name__, **kernels)


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.untyped_storage().nbytes():
            yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _tensors(item)


def _packed(memory: dict[int, int], fields: Sequence[int]) -> bytes:
    """What the program reads. A field that lies in a region is a pointer: sizes and strides are far
    smaller."""
    regions = [
        struct.pack("q", size) + ctypes.string_at(address, size) for address, size in memory.items()
    ]
    pointers = [
        struct.pack("3q", i, region, field - address)
        for i, field in enumerate(fields)
        for region, (address, size) in enumerate(memory.items())
        if address <= field < address + size
    ]
    count = [struct.pack("q", len(group)) for group in (regions, fields, pointers)]
    return b"".join(
        [count[0], *regions, count[1], struct.pack(f"{len(fields)}q", *fields), count[2], *pointers]
    )


@pytest.mark.parametrize("case", SCANS, ids=str)
def test_scan_agrees_with_the_reference(emulated: Any, case: ScanCase) -> None:
    assert_scan_agrees(emulated, case, torch.float32, "token")


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_convolution_agrees_with_the_reference(emulated: Any, case: ConvCase) -> None:
    assert_conv_agrees(emulated, case, torch.float32, "token")


@pytest.mark.parametrize("layout", ("channel", "strided"))
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float16), ids=str)
def test_layouts_and_types_agree(emulated: Any, dtype: torch.dtype, layout: str) -> None:
    for case in (SCANS[4], SCANS[-1]):
        assert_scan_agrees(emulated, case, dtype, layout)
    for case in (CONVOLUTIONS[4], CONVOLUTIONS[-1]):
        assert_conv_agrees(emulated, case, dtype, layout)


def test_threads_agree(emulated: Any) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert_scan_agrees(
            emulated, ScanCase("two threads", 64, 256, 16, batch=2), torch.float32, "token"
        )
    finally:
        torch.set_num_threads(before)
