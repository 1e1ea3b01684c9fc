"""Throw made-up calls at each entry of the native kernels (`make fuzz`).

    python tests/ops/fuzz.py [INPUTS [ENTRY...]]     10,000 for each of all entries by default

The kernels and the target, ``fuzz_native.c``, are compiled by Clang with libFuzzer,
AddressSanitizer and UndefinedBehaviorSanitizer. Each entry starts from the inputs in
``fuzz_corpus/``, which reach every line that was ever reached; the first finding ends the run, and
its input lies in the working folder. What libFuzzer says as it goes lies in ``fuzz_*/ENTRY.log``
among the temporary files until the end. ``FUZZ_SEED`` names the seed, ``FUZZ_KEEP=1`` writes the
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
# The comparisons in the loops of the kernels tell libFuzzer nothing: what they compare are sizes
# that the target made up. Following them takes a third of the time.
CHECKED = [
    f"-fsanitize={SANITIZERS},fuzzer-no-link",
    "-fno-sanitize-recover=undefined",
    "-fno-sanitize-coverage=trace-cmp",
]
OPTIONS = [
    "-max_len=96",
    "-len_control=0",
    "-timeout=60",
    "-rss_limit_mb=4096",
    "-print_final_stats=1",
    # what one process finds, none else adds to, and its own inputs need no reading again
    "-reload=0",
    # the statistics of rare coverage take a fifth of the time and reach no more of these targets
    "-entropic=0",
]
# Memory that stays in the caches. A stack that is left is never used here: threads are joined where
# they are started, and nothing keeps the address of a local.
ADDRESS_OPTIONS = "quarantine_size_mb=8:malloc_context_size=4:detect_stack_use_after_return=0"
# one element of state is enough for a second thread; a shift of a sign is a mask of lanes
FLAGS = ["-std=gnu11", "-O2", "-g", "-w", "-ffp-contract=fast", "-fno-math-errno", "-DSMALL=1"]


# what the target and the checks need: Clang below 15 has no _Float16 on x86, and libFuzzer is a
# package of its own
PROBE = """#include <stddef.h>
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    return (_Float16)(float)size < (_Float16)0.0f;
}
"""


def newest_clang() -> str:
    """Return the newest Clang on the PATH that builds targets like ours, or what CLANG names."""
    if named := os.environ.get("CLANG"):
        return named
    numbered = [f"clang-{version}" for version in range(30, 13, -1)]
    there = [path for path in map(shutil.which, [*numbered, "clang"]) if path]
    for path in there:
        if builds_targets(path):
            return path
    refused = f"; there is {', '.join(there)}, without one of these" if there else ""
    needed = "Clang 15 or newer with libFuzzer (Debian: clang-19 and libclang-rt-19-dev)"
    raise SystemExit(f"this needs {needed}{refused}")


def builds_targets(compiler: str) -> bool:
    """Return whether a compiler makes a program of a target that uses half precision."""
    command = [compiler, f"-fsanitize={SANITIZERS},fuzzer", "-x", "c", "-", "-o", os.devnull]
    return subprocess.run(command, input=PROBE, capture_output=True, text=True).returncode == 0


def run(command: list[str]) -> None:
    """Run a command and end with its error."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-3000:]}")


def compile_targets(folder: Path, entries: list[str]) -> dict[str, Path]:
    """Compile the kernels once and a program for each entry."""
    clang = newest_clang()
    compiler = [clang, *FLAGS, f"-I{SOURCES}", "-c"]
    jobs = {folder / "cpu.o": [*CHECKED, str(SOURCES / "cpu.c")]}
    for level, extra in LEVELS.items():
        level_of = [*extra, f"-DLEVEL={level}", str(SOURCES / "level.c")]
        jobs[folder / f"{level}.o"] = [*CHECKED, *level_of]
    kernels = [str(path) for path in jobs]
    for entry in entries:
        # what makes the calls is not under test, and most of the time would go into checking it
        jobs[folder / f"{entry}.o"] = [f"-DENTRY={entry.upper()}", str(TARGET)]
    commands = [[*compiler, *what, "-o", str(path)] for path, what in jobs.items()]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(run, commands))
    programs = {}
    for entry in entries:
        programs[entry] = folder / entry
        link = [clang, f"-fsanitize={SANITIZERS},fuzzer", str(folder / f"{entry}.o"), *kernels]
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
    options = [f"-runs={inputs}", f"-seed={os.environ.get('FUZZ_SEED', '1')}", *OPTIONS]
    environment = {**os.environ, "ASAN_OPTIONS": ADDRESS_OPTIONS}
    log = folder / f"{entry}.log"
    with log.open("w") as told:
        done = subprocess.run([program, *options, corpus], stderr=told, env=environment)
    lines = log.read_text().splitlines()
    if done.returncode:
        raise SystemExit("\n".join([f"{entry}: a finding", *lines[-60:]]))
    if os.environ.get("FUZZ_KEEP"):
        keep_corpus(entry, program, corpus)
    covered = next(line for line in reversed(lines) if "cov:" in line)
    speed = next(line for line in lines if "average_exec_per_sec" in line).split()[-1]
    print(f"{entry}: no finding, {' '.join(covered.split()[:7])}, {speed} per second", flush=True)


def main(inputs: int, entries: list[str]) -> None:
    """Compile and run the entries one after the other."""
    with tempfile.TemporaryDirectory(prefix="fuzz_") as folder:
        programs = compile_targets(Path(folder), entries)
        for entry in entries:
            fuzz(entry, programs[entry], inputs, Path(folder))


if __name__ == "__main__":
    chosen = sys.argv[2:] or list(ENTRIES)
    if not set(chosen) <= set(ENTRIES):
        raise SystemExit(__doc__)
    main(int((sys.argv[1:] or ["10000"])[0]), chosen)
