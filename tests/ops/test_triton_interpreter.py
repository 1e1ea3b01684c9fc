"""The Triton kernels against the float64 oracle, in Triton's interpreter: no card is needed, and little is fast."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed")

SCANS = ("length 3", "one channel a group", "length 65")
CONVOLUTIONS = 3

SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
import torch
import agreement
from rgbt_fusion.ops import _triton

scans = [case for case in agreement.SCAN_CASES if case.name in {scans!r}]
if len(scans) != {count}:
    raise SystemExit("a case was renamed")
for case in scans:
    agreement.assert_scan_agrees(_triton, case, torch.float32, "token")
agreement.assert_scan_agrees(_triton, scans[0], torch.float32, "channel")
for case in agreement.CONV_CASES[:{convolutions}]:
    agreement.assert_conv_agrees(_triton, case, torch.float32, "token")
print("agrees")
"""


def test_the_kernels_agree_with_float64():
    script = SCRIPT.format(folder=str(Path(__file__).parent), scans=SCANS, count=len(SCANS), convolutions=CONVOLUTIONS)
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "agrees" in done.stdout
