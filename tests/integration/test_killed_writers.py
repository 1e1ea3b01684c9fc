"""Everything that writes files in a way of its own: killed at random moments, and started twice at
once. Nothing is lost, half-written or left behind.

`make test` kills each once, `make soak` ten times.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "killed_writers.py"
KILLS = int(os.environ.get("RGBT_FUSION_KILLED_WRITERS", "1"))

JOBS = ("train", "eval", "convert", "download", "film", "track", "plot", "export")
LONG_JOBS = ("validate", "study", "int8")


@pytest.mark.timeout(36000)
def test_killed_and_started_twice(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    jobs = JOBS if KILLS == 1 else JOBS + LONG_JOBS
    command = [sys.executable, "-W", "ignore", str(SCRIPT), str(tmp_path), str(KILLS)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "0", *jobs], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == set(jobs)
    for name, one in found.items():
        assert "error" not in one, f"{name}: {one['error']}"
        assert one["killed"] == KILLS
