"""The kernels touch no byte outside their tensors, each of which lies between forbidden pages."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ops.agreement import (
    CONV_CASES,
    LAYOUTS,
    SCAN_CASES,
    ConvCase,
    ScanCase,
    make_conv_inputs,
    make_scan_inputs,
    run_conv,
    run_scan,
)
from ops.guarded import CAN_FORBID, PAGE, guarded, guarded_bytes, guarded_like
from rgbt_fusion.ops.native import backend as native

pytestmark = [
    pytest.mark.skipif(bool(native.why_missing()), reason="no compiled CPU kernels"),
    pytest.mark.skipif(not CAN_FORBID, reason="the system forbids no pages"),
]

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@pytest.fixture
def library() -> Iterator[native._Library]:
    """The loaded kernels; the instruction set in use is put back afterwards."""
    loaded = native.loaded_library()
    level = loaded.level
    yield loaded
    loaded.level = level


# Where memory ends at a forbidden page, test_native.py compares the results, too.


@pytest.mark.parametrize("case", SCAN_CASES, ids=str)
def test_a_scan_reads_and_writes_nothing_before_its_tensors(
    library: native._Library, case: ScanCase
) -> None:
    for level in range(len(library.levels)):
        library.level = level
        for number, layout in enumerate(LAYOUTS):
            dtype = DTYPES[(level + number) % len(DTYPES)]
            run_scan(guarded(at_end=False), make_scan_inputs(case, dtype, layout))


@pytest.mark.parametrize("case", CONV_CASES, ids=str)
def test_a_convolution_reads_and_writes_nothing_before_its_tensors(
    library: native._Library, case: ConvCase
) -> None:
    for level in range(len(library.levels)):
        library.level = level
        for number, layout in enumerate(LAYOUTS):
            dtype = DTYPES[(level + number) % len(DTYPES)]
            run_conv(guarded(at_end=False), make_conv_inputs(case, dtype, layout))


@pytest.mark.parametrize("count", (1, 7, PAGE - 1, PAGE, PAGE + 1))
def test_guarded_memory_is_whole(count: int) -> None:
    for at_end in (True, False):
        memory = guarded_bytes(count, at_end=at_end)
        ctypes.memset(memory, 1, count)
        assert memory.raw == b"\x01" * count
        edge = ctypes.addressof(memory) + (count if at_end else 0)
        assert edge % PAGE == 0


@pytest.mark.parametrize("at_end", (True, False))
def test_a_guarded_copy_has_the_values_and_the_strides(at_end: bool) -> None:
    wide = torch.arange(60.0).view(3, 20)[:, 4:13]
    for x in (wide, wide.T, wide[:1].expand(5, 9), torch.ones(2, 3, dtype=torch.bfloat16)):
        copy = guarded_like(x, at_end=at_end)
        assert torch.equal(copy, x) and copy.stride() == x.stride()
        assert copy.untyped_storage().nbytes() <= x.untyped_storage().nbytes()


@pytest.mark.parametrize(("at_end", "offset"), [(True, 12), (False, -1)])
def test_one_byte_outside_ends_the_process(at_end: bool, offset: int) -> None:
    script = f"""
import ctypes
from ops.guarded import guarded_bytes

start = ctypes.addressof(memory := guarded_bytes(12, at_end={at_end}))
ctypes.string_at(start, 12)
print("inside", flush=True)
ctypes.string_at(start + {offset}, 1)
"""
    tests = str(Path(__file__).resolve().parents[1])
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([tests, *sys.path])},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "inside\n"
    assert done.returncode in (-signal.SIGSEGV, -signal.SIGBUS)
