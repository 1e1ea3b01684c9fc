"""Compile the native CPU kernels: a build hook, and `python hatch_build.py` for a working tree.

The library links nothing but libc and is loaded through ctypes, so one wheel serves every Python
and torch version of its platform. Without a working C compiler the package is built all the same,
as a pure wheel that needs PyTorch alone.

`RGBT_FUSION_PLATFORM` names another platform of `PLATFORMS` to build for, with the compiler in the
package ziglang, or `pure` for no compiled kernels at all; `build_wheels.py` uses it.
"""

import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # compiling in place needs no hatchling
    BuildHookInterface = object

PACKAGE = Path(__file__).parent / "src" / "rgbt_fusion"
SOURCES = PACKAGE / "ops" / "native"
WEIGHTS = PACKAGE / "weights"
PLATFORM_VARIABLE = "RGBT_FUSION_PLATFORM"

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


@dataclass(frozen=True)
class Platform:
    """Where the library will run.

    Attributes:
        tag: the platform tag of its wheel.
        library: name of the library's file there.
        levels: the instruction sets to compile for, with the flags of each.
        zig_target: the platform as the package ziglang names it; None for the compiler of this
            machine.
    """

    tag: str
    library: str
    levels: dict[str, list[str]]
    zig_target: str | None = None


ONLY_BASELINE = {"baseline": []}
PLATFORMS = {
    "manylinux-x86_64": Platform(
        "manylinux_2_17_x86_64.manylinux2014_x86_64",
        "librgbt_fusion_cpu.so",
        LEVELS,
        "x86_64-linux-gnu.2.17",
    ),
    "manylinux-aarch64": Platform(
        "manylinux_2_17_aarch64.manylinux2014_aarch64",
        "librgbt_fusion_cpu.so",
        ONLY_BASELINE,
        "aarch64-linux-gnu.2.17",
    ),
    "musllinux-x86_64": Platform(
        "musllinux_1_2_x86_64", "librgbt_fusion_cpu.so", LEVELS, "x86_64-linux-musl"
    ),
    "musllinux-aarch64": Platform(
        "musllinux_1_2_aarch64", "librgbt_fusion_cpu.so", ONLY_BASELINE, "aarch64-linux-musl"
    ),
    "macos-x86_64": Platform(
        "macosx_11_0_x86_64", "librgbt_fusion_cpu.dylib", LEVELS, "x86_64-macos.11.0"
    ),
    "macos-arm64": Platform(
        "macosx_11_0_arm64", "librgbt_fusion_cpu.dylib", ONLY_BASELINE, "aarch64-macos.11.0"
    ),
    "windows-x86_64": Platform("win_amd64", "rgbt_fusion_cpu.dll", LEVELS, "x86_64-windows-gnu"),
}
"""The platforms that `make wheels` builds for, by the names that `RGBT_FUSION_PLATFORM` takes."""


LONGEST_S = 3600
"""When a call of the compiler is given up. At its first call for a platform ziglang also compiles
that platform's C library, which takes many minutes on a busy machine."""


class CannotCompileError(Exception):
    """There is no compiler that makes the library; the message says why."""


def chosen_platform() -> Platform:
    """Return the platform to build for: the one in the environment, or this machine.

    Raises:
        CannotCompileError: no compiled kernels are wanted, or none can be made.
    """
    name = os.environ.get(PLATFORM_VARIABLE)
    if name == "pure":
        raise CannotCompileError(f"{PLATFORM_VARIABLE} is pure")
    if name and name not in PLATFORMS:
        known = ", ".join(["pure", *PLATFORMS])
        raise SystemExit(f"{PLATFORM_VARIABLE} must be one of {known}, got {name!r}")
    return PLATFORMS[name] if name else this_machine()


def this_machine() -> Platform:
    """Return the platform that this process runs on."""
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64"):
        levels = LEVELS
    elif machine in ("aarch64", "arm64"):
        levels = ONLY_BASELINE
    else:
        raise CannotCompileError(f"the kernels know x86-64 and 64-bit ARM, not {machine}")
    tag = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    suffix = ".dylib" if sys.platform == "darwin" else ".so"
    return Platform(tag, f"librgbt_fusion_cpu{suffix}", levels)


def _compiler(target: Platform) -> list[str]:
    if target.zig_target:
        return [sys.executable, "-m", "ziglang", "cc", "-target", target.zig_target]
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
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S)
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotCompileError(str(error)) from error
    if done.returncode:
        raise CannotCompileError(f"{shlex.join(command)} failed:\n{done.stderr[-2000:]}")


def compile_library(platform: Platform, target: Path) -> None:
    """Compile the kernels for a platform and put the library at ``target`` in one step.

    There is one object for each instruction set; all are linked into one library.

    Raises:
        CannotCompileError: there is no compiler, or it fails.
    """
    compiler = [*_compiler(platform), *FLAGS, *shlex.split(os.environ.get("CFLAGS", ""))]
    with tempfile.TemporaryDirectory() as folder:
        dispatcher = Path(folder) / "dispatcher.o"
        objects = [dispatcher]
        commands = [_compiling(compiler, "cpu.c", dispatcher)]
        for level, extra in platform.levels.items():
            compiled = Path(folder) / f"{level}.o"
            objects.append(compiled)
            commands.append(
                _compiling([*compiler, *extra, f"-DLEVEL={level}"], "level.c", compiled)
            )
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(_run, commands))
        linked = Path(folder) / platform.library
        _run(_linking(platform, objects, linked))
        # a process that has the old library mapped keeps it: the new one is another file
        target.parent.mkdir(parents=True, exist_ok=True)
        new = target.with_suffix(".new")
        shutil.copyfile(linked, new)
        new.replace(target)


def _compiling(compiler: list[str], source: str, target: Path) -> list[str]:
    return [*compiler, "-c", str(SOURCES / source), "-o", str(target)]


def _linking(platform: Platform, objects: list[Path], target: Path) -> list[str]:
    command = [*_compiler(platform), *map(str, objects), "-o", str(target)]
    if platform.library.endswith(".dylib"):
        # without: the path of the temporary folder, another one in each build
        command += ["-dynamiclib", f"-Wl,-install_name,@rpath/{platform.library}"]
    else:
        command.append("-shared")
    if platform.zig_target:
        # without: all of the compiler's own library, unoptimised, and names that nobody asks for
        command += ["-Os", "-Wl,--gc-sections", "-s"]
    return [*command, "-lpthread", "-lm"]


def bill_of_materials(version: str, platform: Platform | None) -> str:
    """Return what is in a wheel, in CycloneDX's JSON (PEP 770): without times, so that equal
    contents give equal bytes.

    Args:
        version: of the package.
        platform: what the kernels were compiled for; None for a wheel without.
    """
    components = [_trained_weights(path) for path in sorted(WEIGHTS.glob("*.safetensors"))]
    if platform and platform.zig_target:
        components.append(_linked("compiler-rt", "MIT", "builtins of the C compiler"))
        if "windows" in platform.zig_target:
            components.append(_linked("mingw-w64", "ZPL-2.1", "start-up code and winpthreads"))
    package = {
        "type": "library",
        "name": "rgbt-fusion",
        "version": version,
        "purl": f"pkg:pypi/rgbt-fusion@{version}",
        "licenses": [{"license": {"id": "MIT"}}],
    }
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": package},
        "components": components,
    }
    return json.dumps(bill, indent=2) + "\n"


def _trained_weights(path: Path) -> dict:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {
        "type": "machine-learning-model",
        "name": path.stem,
        "description": "weights trained on synthetic sequences alone",
        "hashes": [{"alg": "SHA-256", "content": digest}],
        "licenses": [{"license": {"id": "MIT"}}],
    }


def _linked(name: str, license_id: str, what: str) -> dict:
    """Return a library of which parts are linked into the kernels."""
    return {
        "type": "library",
        "name": name,
        "description": f"{what}, as ziglang {metadata.version('ziglang')} brings it",
        "licenses": [{"license": {"id": license_id}}],
    }


class CustomBuildHook(BuildHookInterface):
    """Adds the compiled library to the wheel; where that fails, says so and leaves a pure wheel."""

    folder: Path | None = None

    def initialize(self, version: str, build_data: dict) -> None:
        """Compile beside the sources for an editable install, else into a folder of its own."""
        if self.target_name != "wheel":
            return
        if version == "editable":
            self._compile(SOURCES)
            return
        self.folder = Path(tempfile.mkdtemp(prefix="rgbt-fusion-"))
        platform = self._compile(self.folder)
        if platform:
            library = str(self.folder / platform.library)
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{platform.tag}"
            build_data["force_include"][library] = f"rgbt_fusion/ops/native/{platform.library}"
        bill = self.folder / "rgbt_fusion.cdx.json"
        bill.write_text(bill_of_materials(self.metadata.version, platform))
        build_data["sbom_files"].append(str(bill))

    def _compile(self, folder: Path) -> Platform | None:
        try:
            platform = chosen_platform()
            compile_library(platform, folder / platform.library)
        except CannotCompileError as error:
            if os.environ.get(PLATFORM_VARIABLE, "pure") != "pure":
                raise
            self.app.display_warning(
                f"rgbt_fusion: no compiled CPU kernels, the slower PyTorch ones will run: {error}"
            )
            return None
        return platform

    def finalize(self, version: str, build_data: dict, artifact_path: str) -> None:
        """Remove the folder; the wheel has its copy."""
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)


if __name__ == "__main__":
    machine = this_machine()
    compile_library(machine, SOURCES / machine.library)
    print(f"compiled {SOURCES / machine.library}")
