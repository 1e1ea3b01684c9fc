"""Run the tests of the ops on kernels that check each access to memory (`make sanitize`).

    python tests/sanitize.py memory [PYTEST ARGUMENTS]
    python tests/sanitize.py threads [PYTEST ARGUMENTS]

The kernels are compiled with AddressSanitizer and UndefinedBehaviorSanitizer, or with
ThreadSanitizer, into a copy of the sources, which is imported in place of the installed package.
The first report ends the run with an error. Under ThreadSanitizer a test that starts Python is
skipped, and the end of the run says so: ``memory`` runs it, kernels and all.
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree, ignore_patterns

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Check:
    """What the kernels are compiled with, and how they are run.

    Attributes:
        sanitizers: flags of the compiler.
        cflags: more of them.
        libraries: that Python must load before all others.
        launcher: what the command begins with.
        start: Python to run before the tests.
        environment: options of the sanitizers.
    """

    sanitizers: str
    cflags: str
    libraries: tuple[str, ...]
    launcher: tuple[str, ...]
    start: str
    environment: dict[str, str]


# checks of -O3 code take minutes to compile
CFLAGS = "-O1 -g -fno-omit-frame-pointer"
CHECKS = {
    "memory": Check(
        sanitizers="-fsanitize=address,undefined -fno-sanitize-recover=undefined",
        cflags=CFLAGS,
        libraries=("libasan.so", "libubsan.so"),
        launcher=(),
        start="",
        # Python itself keeps memory until it ends
        environment={"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"},
    ),
    "threads": Check(
        sanitizers="-fsanitize=thread",
        # also the smallest call is cut into pieces for several threads
        cflags=f"{CFLAGS} -DSMALL=1",
        libraries=("libtsan.so",),
        # its shadow memory has a fixed place, which a random layout may have taken
        launcher=("setarch", "-R"),
        # the sanitizer does not see what torch's pool waits for: the kernels start threads of their
        # own, always three, and torch has one
        start="import torch; torch.set_num_threads(1); torch.get_num_threads = lambda: 3; "
        "torch.set_num_threads = lambda threads: None; "
        "from rgbt_fusion.ops.native import backend; backend.loaded_library().parallel_for = 0; ",
        environment={
            "TSAN_OPTIONS": "halt_on_error=1 exitcode=66 ignore_noninstrumented_modules=1",
            # in a Python that a test starts torch's pool runs the kernels, see above
            "RGBT_FUSION_ONE_PROCESS": "ThreadSanitizer leaves no room for the fork of one",
        },
    ),
}
# the kernels of Triton and of other platforms are no C of this process; guard pages end one
LEFT_OUT = (
    "test_triton_compile.py",
    "test_triton_emulated.py",
    "test_triton_interpreter.py",
    "test_triton_launching.py",
    "test_triton_layers_emulated.py",
    "test_triton_prompts.py",
    "test_foreign_platforms.py",
    "test_wheel_libraries.py",
    "test_guard_pages.py",
)


def libraries(compiler: list[str], names: tuple[str, ...]) -> str:
    """Return where the run-time libraries of the sanitizers are."""
    found = []
    for name in names:
        command = [*compiler, f"-print-file-name={name}"]
        path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        if not Path(path).is_absolute():
            raise SystemExit(f"{compiler[0]} has no {name}: this needs GCC with its sanitizers")
        found.append(path)
    return " ".join(found)


def main(check: Check, arguments: list[str]) -> int:
    """Compile, run the tests and return their exit status."""
    compiler = os.environ.get("CC", "gcc").split()
    with tempfile.TemporaryDirectory() as folder:
        copytree(ROOT / "src", Path(folder, "src"), ignore=ignore_patterns("*.so", "__pycache__"))
        Path(folder, "hatch_build.py").write_text((ROOT / "hatch_build.py").read_text())
        compiling = {
            **os.environ,
            "CC": f"{' '.join(compiler)} {check.sanitizers}",
            "CFLAGS": check.cflags,
        }
        subprocess.run([sys.executable, "hatch_build.py"], cwd=folder, env=compiling, check=True)
        running = {
            **os.environ,
            **check.environment,
            "PYTHONPATH": str(Path(folder, "src")),
            "LD_PRELOAD": libraries(compiler, check.libraries),
        }
        files = sorted((ROOT / "tests" / "ops").glob("test_*.py"))
        chosen = arguments or [str(file) for file in files if file.name not in LEFT_OUT]
        script = f"{check.start}import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"
        python = [*check.launcher, sys.executable, "-c", script]
        # what a sanitizer writes as it ends the process must not be captured
        command = [*python, "-q", "-rs", "--capture=sys", "--timeout", "3600", *chosen]
        return subprocess.run(command, cwd=ROOT, env=running).returncode


if __name__ == "__main__":
    if sysconfig.get_platform().startswith("macosx"):
        raise SystemExit("this needs GCC on Linux")
    if sys.argv[1:2] == [] or sys.argv[1] not in CHECKS:
        raise SystemExit(__doc__)
    sys.exit(main(CHECKS[sys.argv[1]], sys.argv[2:]))
