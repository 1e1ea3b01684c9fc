"""Throw made-up calls at each entry of the native kernels (`make fuzz`).

    python tests/ops/fuzz.py [INPUTS]     10,000 per entry by default

The kernels and the target, ``fuzz_native.c``, are compiled by Clang with libFuzzer,
AddressSanitizer and UndefinedBehaviorSanitizer. Each entry starts from the inputs in
``fuzz_corpus/``, which reach every line that was ever reached; the first finding ends the run, and
its input lies in the working folder. ``FUZZ_SEED`` names the seed, ``FUZZ_KEEP=1`` writes the
corpus back with what was found to reach more.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from hatch_build import LEVELS, SOURCES  # noqa: E402

TARGET = Path(__file__).with_name("fuzz_native.c")
CORPUS = Path(__file__).with_name("fuzz_corpus")
ENTRIES = ("scan_forward", "scan_backward", "conv_forward", "conv_backward")
SANITIZERS = "address,undefined"
# one element of state is enough for a second thread; a shift of a sign is a mask of lanes
FLAGS = ["-std=gnu11", "-O2", "-g", "-w", "-ffp-contract=fast", "-fno-math-errno", "-DSMALL=1"]


def clang() -> str:
    """Return the newest Clang on the PATH."""
    names = ["clang", *(f"clang-{version}" for version in range(30, 13, -1))]
    found = os.environ.get("CLANG") or next(filter(None, map(shutil.which, names)), None)
    if not found:
        raise SystemExit("this needs Clang with libFuzzer (Debian: clang and libclang-rt-dev)")
    return found


def run(command: list[str]) -> None:
    """Run a command and end with its error."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-3000:]}")


def compile_targets(folder: Path) -> dict[str, Path]:
    """Compile the kernels once and a program for each entry."""
    compiler = [clang(), *FLAGS, f"-I{SOURCES}", "-c"]
    checked = [f"-fsanitize={SANITIZERS},fuzzer-no-link", "-fno-sanitize-recover=undefined"]
    jobs = {folder / "cpu.o": [*checked, str(SOURCES / "cpu.c")]}
    for level, extra in LEVELS.items():
        level_of = [*extra, f"-DLEVEL={level}", str(SOURCES / "level.c")]
        jobs[folder / f"{level}.o"] = [*checked, *level_of]
    kernels = [str(path) for path in jobs]
    for entry in ENTRIES:
        # what makes the calls is not under test, and most of the time would go into checking it
        jobs[folder / f"{entry}.o"] = [f"-DENTRY={entry.upper()}", str(TARGET)]
    commands = [[*compiler, *what, "-o", str(path)] for path, what in jobs.items()]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(run, commands))
    programs = {}
    for entry in ENTRIES:
        programs[entry] = folder / entry
        link = [clang(), f"-fsanitize={SANITIZERS},fuzzer", str(folder / f"{entry}.o"), *kernels]
        run([*link, "-o", str(programs[entry]), "-lm", "-lpthread"])
    return programs


def read_corpus(entry: str, folder: Path) -> None:
    """Write the kept inputs, one line of hexadecimal digits each, as the files libFuzzer reads."""
    folder.mkdir()
    kept = CORPUS / f"{entry}.txt"
    for number, line in enumerate(kept.read_text().split() if kept.exists() else []):
        (folder / f"{number:05}").write_bytes(bytes.fromhex(line))


def keep_corpus(entry: str, program: Path, folder: Path) -> None:
    """Keep the fewest inputs that reach every line that all inputs of the folder reach."""
    fewest = folder.parent / f"{entry}-fewest"
    fewest.mkdir()
    command = [program, "-merge=1", "-use_counters=0", fewest, folder]
    subprocess.run(command, check=True, capture_output=True)
    lines = sorted(path.read_bytes().hex() for path in fewest.iterdir())
    CORPUS.mkdir(exist_ok=True)
    (CORPUS / f"{entry}.txt").write_text("\n".join(lines) + "\n")


def fuzz(entry: str, program: Path, inputs: int, folder: Path) -> None:
    """Run one entry and end at its first finding."""
    corpus = folder / f"{entry}-corpus"
    read_corpus(entry, corpus)
    options = [
        f"-runs={inputs}",
        f"-seed={os.environ.get('FUZZ_SEED', '1')}",
        "-max_len=96",
        "-len_control=0",
    ]
    options += ["-timeout=60", "-rss_limit_mb=4096", "-print_final_stats=1"]
    done = subprocess.run([program, *options, corpus], stderr=subprocess.PIPE, text=True)
    lines = done.stderr.splitlines()
    if done.returncode:
        raise SystemExit("\n".join([f"{entry}: a finding", *lines[-60:]]))
    if os.environ.get("FUZZ_KEEP"):
        keep_corpus(entry, program, corpus)
    covered = next(line for line in reversed(lines) if "cov:" in line)
    speed = next(line for line in lines if "average_exec_per_sec" in line).split()[-1]
    print(f"{entry}: no finding, {' '.join(covered.split()[:7])}, {speed} per second", flush=True)


def main(inputs: int) -> None:
    """Compile and run all entries one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        for entry, program in compile_targets(Path(folder)).items():
            fuzz(entry, program, inputs, Path(folder))


if __name__ == "__main__":
    main(int((sys.argv[1:] or ["10000"])[0]))
