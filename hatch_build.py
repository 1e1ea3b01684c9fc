"""Compile the native CPU kernels: a build hook of hatchling, and `python hatch_build.py` for a
working tree.

The library links nothing but libc and is loaded through ctypes, so one wheel serves every Python
and torch version of its platform. Without a working C compiler the package is built all the same,
as a pure wheel that needs PyTorch alone.
"""

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # compiling in place needs no hatchling
    BuildHookInterface = object

SOURCES = Path(__file__).parent / "src" / "rgbt_fusion" / "ops" / "native"
LIBRARY = "librgbt_fusion_cpu" + (".dylib" if sys.platform == "darwin" else ".so")

# No -ffast-math: NaN and infinity must come through. Single flags, because -march=x86-64-v4 needs a
# recent compiler.
FLAGS = [
    "-std=gnu11",
    "-O3",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-math-errno",
    "-ffp-contract=fast",
    "-w",
]
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
LEVELS = {
    "baseline": [],
    "avx2": AVX2,
    "avx512": [*AVX2, "-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq"],
}


class CannotCompileError(Exception):
    """There is no compiler that makes the library; the message says why."""


def _levels() -> dict[str, list[str]]:
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64"):
        return LEVELS
    if machine in ("aarch64", "arm64"):
        return {"baseline": []}
    raise CannotCompileError(f"the kernels know x86-64 and 64-bit ARM, not {machine}")


def _compiler() -> list[str]:
    if os.name != "posix":
        raise CannotCompileError("the kernels need GCC or Clang on Linux or macOS")
    if os.environ.get("CC"):
        return shlex.split(os.environ["CC"])
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            return [name]
    raise CannotCompileError("no C compiler is on the PATH (looked for $CC, cc, gcc, clang)")


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotCompileError(str(error)) from error
    if done.returncode:
        raise CannotCompileError(f"{shlex.join(command)} failed:\n{done.stderr[-2000:]}")


def compile_library(target: Path) -> None:
    """Compile one object for each instruction set, link them, and put the library at ``target`` in
    one step.

    Raises:
        CannotCompileError: no compiler, or it fails.
    """
    compiler, flags = _compiler(), [*FLAGS, *shlex.split(os.environ.get("CFLAGS", ""))]
    with tempfile.TemporaryDirectory() as folder:
        dispatcher = Path(folder) / "dispatcher.o"
        commands = [[*compiler, *flags, "-c", str(SOURCES / "cpu.c"), "-o", str(dispatcher)]]
        objects = [dispatcher]
        for level, extra in _levels().items():
            objects.append(Path(folder) / f"{level}.o")
            source = str(SOURCES / "level.c")
            commands.append(
                [
                    *compiler,
                    *flags,
                    *extra,
                    f"-DLEVEL={level}",
                    "-c",
                    source,
                    "-o",
                    str(objects[-1]),
                ]
            )
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(_run, commands))
        shared = ["-dynamiclib"] if sys.platform == "darwin" else ["-shared"]
        linked = Path(folder) / LIBRARY
        _run([*compiler, *shared, *map(str, objects), "-o", str(linked), "-lpthread", "-lm"])
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(linked, target.with_suffix(".new"))
        target.with_suffix(".new").replace(
            target
        )  # a process that has the old library mapped keeps it


class CustomBuildHook(BuildHookInterface):
    """Adds the compiled library to the wheel; on any failure leaves a pure wheel behind and says
    so."""

    folder: Path | None = None

    def initialize(self, version: str, build_data: dict) -> None:
        """Compile beside the sources for an editable install, into a folder of its own for a
        wheel."""
        if self.target_name != "wheel":
            return
        if version != "editable":
            self.folder = Path(tempfile.mkdtemp(prefix="rgbt-fusion-"))
        target = (self.folder or SOURCES) / LIBRARY
        try:
            compile_library(target)
        except CannotCompileError as error:
            self.app.display_warning(
                f"rgbt_fusion: no compiled CPU kernels, the slower PyTorch ones will run: {error}"
            )
            return
        build_data["pure_python"] = False
        build_data["tag"] = (
            f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
        )
        if self.folder:
            build_data["force_include"][str(target)] = f"rgbt_fusion/ops/native/{LIBRARY}"

    def finalize(self, version: str, build_data: dict, artifact_path: str) -> None:
        """Remove the folder; the wheel has its copy."""
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)


if __name__ == "__main__":
    compile_library(SOURCES / LIBRARY)
    print(f"compiled {SOURCES / LIBRARY}")
