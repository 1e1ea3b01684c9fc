"""Everything that writes files, on a disk that becomes full: at the first write, at the second, ...

python full_disk.py FOLDER MOST JOB... prints what was found, as JSON by job. MOST is how many of
a job's writes are tried, evenly spread; 0 tries all. The library of ``full_disk.c`` must have been
loaded before this starts.
"""

import ctypes
import json
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import cv2
import torch

from killed_writers import Job, check, make_job, names, start, wait

DISK = ctypes.CDLL(None)
DISK.full_disk_begin.argtypes = [ctypes.c_char_p, ctypes.c_long]
DISK.full_disk_writes.restype = ctypes.c_long


def on_full_disk(job: Job, writes: int, told: Path | None = None) -> Job:
    """Return the job on a disk that has room for so many writes (-1: for all).

    Args:
        job: what runs.
        writes: how many succeed.
        told: where to put the number of writes that there were.
    """

    def run(folder: Path) -> None:
        DISK.full_disk_begin(str(folder.resolve()).encode(), writes)
        try:
            job.run(folder)
        finally:
            count = DISK.full_disk_writes()
            DISK.full_disk_begin(b"", -1)
            if told:
                told.write_text(str(count))

    return job._replace(run=run)


def run(job: Job, folder: Path, log: Path) -> int:
    """Run a job in a process of its own and return its status."""
    folder.mkdir(parents=True, exist_ok=True)
    return wait(start(job, folder, log))


def fill_at_every_write(job: Job, base: Path, most: int) -> dict[str, Any]:
    """Fill the disk at each write in turn, and see that it is told and nothing is half-written."""
    base.mkdir()
    log = base / "log"
    told = base / "writes"
    whole = base / "whole"
    status = run(on_full_disk(job, -1, told), whole, log)
    check(status == 0, f"ended with {status}: {log.read_text()}")
    expected = job.result(whole)
    count = int(told.read_text())
    check(count > 0, "no write was seen")
    places = range(count)
    if most and count > most:
        places = [round(k * (count - 1) / (most - 1)) for k in range(most)]
    silent = 0
    for writes in places:
        folder = base / f"full_{writes}"
        status = run(on_full_disk(job, writes), folder, log)
        where = f"after {writes} of {count} writes"
        text = log.read_text()
        if status == 0:
            # what is only for convenience may be left out, and nothing else
            check(job.result(folder) == expected, f"{where}: status 0 and another result")
            silent += 1
        else:
            check(status == 1, f"{where}: ended with {status}: {text}")
            # OpenCV does not say why
            named = "No space left" in text or "cannot be written" in text
            check(named, f"{where}: the fault is not named: {text}")
        # whatever is there under its own name is whole
        job.result(folder)
        left = [name for name in names(folder) if ".part" in name]
        check(not left, f"{where}: left behind: {left}")
        # with room again it is finished
        status = run(job, folder, log)
        check(status == 0, f"{where}: not repeated: {log.read_text()}")
        check(job.result(folder) == expected, f"{where}: repeated with another result")
        check(names(folder) == names(whole), f"{where}: other files: {names(folder)}")
    return {"writes": count, "filled": len(places), "silent": silent}


def main() -> None:
    base = Path(sys.argv[1])
    temporary = base / "temporary"
    temporary.mkdir()
    tempfile.tempdir = os.environ["TMPDIR"] = str(temporary)
    most = int(sys.argv[2])
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    found: dict[str, Any] = {}
    for name in sys.argv[3:]:
        job = make_job(name, base / "material" / name)
        try:
            found[name] = fill_at_every_write(job, base / name, most)
        except Exception:
            found[name] = {"error": traceback.format_exc()}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
