"""Find out in a quarter of an hour whether everything is right on a card, and how fast it is.

    # on a card: every stage, into a folder
    python benchmarks/gpu.py --out gpu

    # some of the stages
    python benchmarks/gpu.py --out gpu --stage parity --stage tracker

    # without a card: the same steps to the end, with a driver that computes nothing
    python benchmarks/gpu.py --out /tmp/rehearsal --rehearse

Each stage is a process of its own with a deadline (parity: several), and writes what it finds line
by line into ``OUT/STAGE.jsonl``: whatever happens, what was measured stays. What limits the card is
measured first, parity next. The status is 1 if anything failed or disagreed. mamba-ssm and
causal-conv1d take part where they are importable: build them from source beforehand.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

BUDGET_S = 14.5 * 60
"""For everything; a stage for which no time is left is not started."""

LEAST_S = 15.0

IN_TIME = "in time"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; 1 if anything failed or disagreed."""
    given = _parse(arguments)
    if given.worker is not None:
        return _work(given)
    os.environ["TRITON_INTERPRET"] = "0"
    from benchmarks.card.stages import STAGES

    given.out.mkdir(parents=True, exist_ok=True)
    chosen = given.stage or list(STAGES)
    unknown = [name for name in chosen if name not in STAGES]
    if unknown:
        sys.exit(f"--stage must be one of {', '.join(STAGES)}, got {unknown[0]}")
    start = time.monotonic()
    unfinished = 0
    for name in chosen:
        left_s = BUDGET_S - (time.monotonic() - start)
        if left_s < LEAST_S:
            _say(given.out, {"stage": name, "skipped": "no time is left"})
            unfinished += 1
            continue
        began = time.monotonic()
        ended = _run_stage(name, given, min(STAGES[name].deadline_s, left_s))
        unfinished += ended != IN_TIME
        _say(given.out, {"stage": name, "ended": ended, "s": round(time.monotonic() - began, 1)})
    return _summarise(given.out, chosen) or bool(unfinished)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of what is found")
    parser.add_argument("--stage", action="append", help="run this stage only; may be repeated")
    parser.add_argument(
        "--rehearse", action="store_true", help="run without a card: next to no work, no meaning"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--part", type=int, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _run_stage(name: str, given: argparse.Namespace, deadline_s: float) -> str:
    """Run the processes of a stage side by side, and end those that are late."""
    from benchmarks.card.run import CARD, REHEARSAL

    run = REHEARSAL if given.rehearse else CARD
    parts: list[int | None] = [None]
    if name == "parity":
        parts = list(range(run.parity_processes))
    processes = [_start(name, part, given) for part in parts]
    until = time.monotonic() + deadline_s
    late = 0
    for process in processes:
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            late += 1
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if late:
        return f"{late} of {len(processes)} processes ended at the deadline"
    failed = sum(process.returncode != 0 for process in processes)
    return f"{failed} of {len(processes)} processes failed" if failed else IN_TIME


def _start(name: str, part: int | None, given: argparse.Namespace) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, "--out", str(given.out), "--worker", name]
    if part is not None:
        command += ["--part", str(part)]
    if given.rehearse:
        command.append("--rehearse")
    # on a fake card nothing could agree: there the checks run in Triton's interpreter
    interpreted = given.rehearse and name == "parity"
    environment = os.environ | {
        "TRITON_INTERPRET": "1" if interpreted else "0",
        "TRITON_CACHE_DIR": os.environ.get("TRITON_CACHE_DIR", str(given.out / "compiled")),
        "OMP_NUM_THREADS": "1",
    }
    with (given.out / "stderr.txt").open("ab") as errors:
        return subprocess.Popen(command, env=environment, stderr=errors, start_new_session=True)


def _work(given: argparse.Namespace) -> int:
    """Run one stage, or one part of it, in this process."""
    from contextlib import nullcontext

    from benchmarks.card.fake import fake_card
    from benchmarks.card.run import CARD, REHEARSAL
    from benchmarks.card.stages import STAGES, write_rows

    run = REHEARSAL if given.rehearse else CARD
    part = () if given.part is None else (given.part,)
    needs_fake = given.rehearse and os.environ["TRITON_INTERPRET"] == "0"
    with (
        (given.out / f"{given.worker}.jsonl").open("a") as file,
        fake_card() if needs_fake else nullcontext(),
    ):

        def write(line: str) -> None:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())

        write_rows(STAGES[given.worker].rows(run, *part), write)
    return 0


def _say(out: Path, row: dict[str, Any]) -> None:
    line = json.dumps(row)
    print(line, flush=True)
    with (out / "log.jsonl").open("a") as file:
        file.write(line + "\n")


def _summarise(out: Path, stages: Sequence[str]) -> int:
    """Say what disagreed and what failed; 1 if there is anything."""
    bad = []
    for name in stages:
        rows = read_rows(out / f"{name}.jsonl")
        disagreeing = [row for row in rows if row.get("agrees") is False or "failed" in row]
        disagreeing += [row for row in rows if row.get("clean") is False]
        bad += disagreeing
        _say(out, {"stage": name, "rows": len(rows), "bad": len(disagreeing)})
    for row in bad:
        _say(out, row)
    empty = [name for name in stages if not (out / f"{name}.jsonl").is_file()]
    return bool(bad or empty)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a stage; the last line may be cut where the process was ended."""
    rows = []
    if path.is_file():
        for line in path.read_text().splitlines():
            with suppress(json.JSONDecodeError):
                rows.append(json.loads(line))
    return rows


if __name__ == "__main__":
    sys.exit(main())
