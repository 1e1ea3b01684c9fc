"""Run the tests of the ops on kernels that check each access to memory (`make sanitize`).

The kernels are compiled with AddressSanitizer and UndefinedBehaviorSanitizer into a copy of the
sources, which is imported in place of the installed package. The first report ends the run with an
error. More arguments go to pytest.
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from shutil import copytree, ignore_patterns

ROOT = Path(__file__).resolve().parents[1]
SANITIZERS = "-fsanitize=address,undefined -fno-sanitize-recover=undefined"
# the kernels of Triton and the cross compiler for ARM are no C of this process
LEFT_OUT = ("test_triton_compile.py", "test_triton_interpreter.py", "test_foreign_platforms.py")


def libraries(compiler: list[str]) -> str:
    """Return the run-time libraries of the sanitizers, which Python must load before all others."""
    found = []
    for name in ("libasan.so", "libubsan.so"):
        command = [*compiler, f"-print-file-name={name}"]
        path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        if not Path(path).is_absolute():
            raise SystemExit(f"{compiler[0]} has no {name}: this needs GCC with its sanitizers")
        found.append(path)
    return " ".join(found)


def main() -> int:
    """Compile, run the tests and return their exit status."""
    compiler = os.environ.get("CC", "gcc").split()
    with tempfile.TemporaryDirectory() as folder:
        copytree(ROOT / "src", Path(folder, "src"), ignore=ignore_patterns("*.so", "__pycache__"))
        Path(folder, "hatch_build.py").write_text((ROOT / "hatch_build.py").read_text())
        compiling = {
            **os.environ,
            "CC": f"{' '.join(compiler)} {SANITIZERS}",
            # checks of -O3 code take minutes to compile
            "CFLAGS": "-O1 -g -fno-omit-frame-pointer",
        }
        subprocess.run([sys.executable, "hatch_build.py"], cwd=folder, env=compiling, check=True)
        running = {
            **os.environ,
            "PYTHONPATH": str(Path(folder, "src")),
            "LD_PRELOAD": libraries(compiler),
            # Python itself keeps memory until it ends
            "ASAN_OPTIONS": "detect_leaks=0",
            "UBSAN_OPTIONS": "print_stacktrace=1",
        }
        files = sorted((ROOT / "tests" / "ops").glob("test_*.py"))
        chosen = sys.argv[1:] or [str(file) for file in files if file.name not in LEFT_OUT]
        command = [sys.executable, "-m", "pytest", "-q", "--timeout", "3600", *chosen]
        return subprocess.run(command, cwd=ROOT, env=running).returncode


if __name__ == "__main__":
    if sysconfig.get_platform().startswith("macosx"):
        raise SystemExit("this needs GCC on Linux")
    sys.exit(main())
