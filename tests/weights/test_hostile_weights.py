"""Files of weights made to hang or to eat the machine are refused or loaded at a small price.

`make test` shows one in ten of them, `make soak` all.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import hostile_weights

EVERY = int(os.environ.get("RGBT_FUSION_HOSTILE_EVERY", "10"))
CPU_SECONDS = 2.0
MEGABYTES = 300


def test_there_are_enough_of_them_and_no_two_are_alike() -> None:
    contents = [content for _, content in hostile_weights.files()]
    assert len(contents) >= 300
    assert len(set(contents)) == len(contents)


@pytest.mark.timeout(3600)
def test_each_is_refused_with_a_reason_or_loaded_at_a_small_price(tmp_path: Path) -> None:
    """Processor time and memory above those of a process that has imported torch."""
    command = [sys.executable, "-W", "ignore", hostile_weights.__file__, str(tmp_path), str(EVERY)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) >= 300 // EVERY
    for one in found:
        assert not one["errors"], one
        assert one["seconds"] <= CPU_SECONDS, one
        assert one["megabytes"] <= MEGABYTES, one
        for reader in ("load_model", "load_checkpoint", "convert"):
            assert one[reader]
