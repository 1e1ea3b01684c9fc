"""The native kernels on 64-bit ARM, where they are made of NEON: cross-compiled, and run by an
emulator."""

import ctypes
import runpy
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
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
COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
LARGE = 100_000
"""Tokens times channels above which a case takes the emulator too long."""
SCANS = [case for case in SCAN_CASES if case.length * case.channels < LARGE // 4]
CONVOLUTIONS = [case for case in CONV_CASES if case.length * case.channels < LARGE]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that runs one kernel on what it is handed, see ``foreign_kernel.c``."""
    for tool in (COMPILER, EMULATOR):
        if not shutil.which(tool):
            pytest.skip(f"no {tool}: the kernels are not run on 64-bit ARM")
    folder = tmp_path_factory.mktemp("arm")
    sources = ROOT / "src" / "rgbt_fusion" / "ops" / "native"
    files = [
        sources / "cpu.c",
        sources / "level.c",
        Path(__file__).with_name("foreign_kernel.c"),
    ]
    flags = runpy.run_path(str(ROOT / "hatch_build.py"))["FLAGS"]
    command = [
        COMPILER,
        *flags,
        "-DLEVEL=baseline",
        "-static",
        *files,
        "-o",
        folder / "program",
        "-lpthread",
        "-lm",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "program"


@pytest.fixture
def arm(program: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The native backend, each call of which runs in the emulator."""
    known: list[Tensor] = []

    def call(library: object, name: str, fields: Sequence[int]) -> None:
        memory = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in known}
        done = subprocess.run(
            [EMULATOR, program, name], input=_packed(memory, fields), capture_output=True
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

    monkeypatch.setattr(native, "_loaded", lambda: SimpleNamespace(level=0, parallel_for=0))
    monkeypatch.setattr(native, "_call", call)
    names = ("scan_forward", "scan_backward", "conv_forward", "conv_backward")
    return SimpleNamespace(**{name: knowing(getattr(native, name)) for name in names})


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
def test_scan_agrees_with_the_reference(arm: Any, case: ScanCase) -> None:
    assert_scan_agrees(arm, case, torch.float32, "token")


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_convolution_agrees_with_the_reference(arm: Any, case: ConvCase) -> None:
    assert_conv_agrees(arm, case, torch.float32, "token")


@pytest.mark.parametrize("layout", ("channel", "strided"))
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float16), ids=str)
def test_layouts_and_types_agree(arm: Any, dtype: torch.dtype, layout: str) -> None:
    for case in (SCANS[4], SCANS[-1]):
        assert_scan_agrees(arm, case, dtype, layout)
    for case in (CONVOLUTIONS[4], CONVOLUTIONS[-1]):
        assert_conv_agrees(arm, case, dtype, layout)


def test_threads_agree(arm: Any) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert_scan_agrees(
            arm, ScanCase("two threads", 64, 256, 16, batch=2), torch.float32, "token"
        )
    finally:
        torch.set_num_threads(before)
