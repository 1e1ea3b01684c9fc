"""The Triton kernels against the float64 oracle, in Triton's interpreter: no card is needed, and
little is fast."""

import json
import os
import subprocess
import sys

import pytest

from ops import triton_interpreted

pytest.importorskip("triton", minversion="3.3", reason="Triton is not installed")


@pytest.fixture(scope="module")
def answers() -> dict[str, str | None]:
    """What is wrong with each case, if anything: all run in one process in which Triton
    interprets."""
    environment = {
        **os.environ,
        "TRITON_INTERPRET": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    command = [sys.executable, "-W", "ignore", "-m", "ops.triton_interpreted"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(map(json.loads, done.stdout.splitlines()))


@pytest.mark.parametrize("name", triton_interpreted.checks(everything=False))
def test_the_kernels_agree_with_float64(answers, name):
    assert answers[name] is None
