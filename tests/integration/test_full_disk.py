"""Training, evaluation, the study, conversion, export and films on a disk that becomes full.

`make test` fills it at a few of the writes of three of them, `make soak` at every write of all: the
error names what could not be written, what was there is whole, and with room again the work is
finished with the same result.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
EVERY = os.environ.get("RGBT_FUSION_FULL_DISK") == "1"
JOBS = ("convert", "film", "eval")
LONG_JOBS = ("train", "validate", "study", "track", "plot", "export", "int8", "download")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no disk to fill: not on Linux")
@pytest.mark.timeout(36000)
def test_a_full_disk_is_told_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        pytest.skip("no C compiler")
    library = tmp_path / "full_disk.so"
    source = TESTS / "full_disk.c"
    subprocess.run([compiler, "-shared", "-fPIC", source, "-o", library, "-ldl"], check=True)
    jobs = JOBS + LONG_JOBS if EVERY else JOBS
    most = "0" if EVERY else "3"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": "1",
        "LD_PRELOAD": str(library),
    }
    (tmp_path / "work").mkdir()
    script = [str(TESTS / "full_disk.py"), str(tmp_path / "work"), most, *jobs]
    command = [sys.executable, "-W", "ignore", *script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == set(jobs)
    for name, one in found.items():
        assert "error" not in one, f"{name}: {one['error']}"
        assert one["filled"] >= min(3, one["writes"])
