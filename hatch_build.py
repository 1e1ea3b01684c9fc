"""Compile the native CPU kernels: a build hook, and `python hatch_build.py` for a working tree.

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
    """Compile the kernels and put the library at ``target`` in one step.

    There is one object for each instruction set; all are linked into one library.

    Raises:
        CannotCompileError: there is no compiler, or it fails.
    """
    compiler = _compiler()
    flags = [*FLAGS, *shlex.split(os.environ.get("CFLAGS", ""))]
    with tempfile.TemporaryDirectory() as folder:
        dispatcher = Path(folder) / "dispatcher.o"
        objects = [dispatcher]
        commands = [_compiling(compiler, flags, "cpu.c", dispatcher)]
        for level, extra in _levels().items():
            compiled = Path(folder) / f"{level}.o"
            objects.append(compiled)
            level_flags = [*flags, *extra, f"-DLEVEL={level}"]
            commands.append(_compiling(compiler, level_flags, "level.c", compiled))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(_run, commands))
        linked = Path(folder) / LIBRARY
        _run(_linking(compiler, objects, linked))
        # a process that has the old library mapped keeps it: the new one is another file
        target.parent.mkdir(parents=True, exist_ok=True)
        new = target.with_suffix(".new")
        shutil.copyfile(linked, new)
        new.replace(target)


def _compiling(compiler: list[str], flags: list[str], source: str, target: Path) -> list[str]:
    return [*compiler, *flags, "-c", str(SOURCES / source), "-o", str(target)]


def _linking(compiler: list[str], objects: list[Path], target: Path) -> list[str]:
    shared = "-dynamiclib" if sys.platform == "darwin" else "-shared"
    return [*compiler, shared, *map(str, objects), "-o", str(target), "-lpthread", "-lm"]


class CustomBuildHook(BuildHookInterface):
    """Adds the compiled library to the wheel; where that fails, says so and leaves a pure wheel."""

    folder: Path | None = None

    def initialize(self, version: str, build_data: dict) -> None:
        """Compile beside the sources for an editable install, else into a folder of its own."""
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
        platform_tag = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform_tag}"
        if self.folder:
            build_data["force_include"][str(target)] = f"rgbt_fusion/ops/native/{LIBRARY}"

    def finalize(self, version: str, build_data: dict, artifact_path: str) -> None:
        """Remove the folder; the wheel has its copy."""
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)


if __name__ == "__main__":
    compile_library(SOURCES / LIBRARY)
    print(f"compiled {SOURCES / LIBRARY}")
