"""Run the tests where something is missing: optional packages, a compiler, or threads.

    python tests/matrix.py ops    the op tests in each situation (part of `make test`)
    python tests/matrix.py all    the whole suite in each situation (`make test-matrix`)
    python tests/matrix.py versions [PYTHON...]
                                  the op tests with each Python and torch of `VERSIONS`

It also builds a wheel, installs it outside the source tree, and checks there which backend "auto"
takes. A version that cannot be had here is said to be not run.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OPS = ["tests/ops", "tests/layers/test_mamba.py", "tests/layers/test_difference_fusion_mamba.py"]
VERSIONS = (
    ("3.10", "2.13.0"),
    ("3.11", "2.13.0"),
    ("3.12", "2.13.0"),
    ("3.13", "2.13.0"),
    ("3.11", "2.6.0"),
)
"""Python and torch: every Python with the newest torch that is known to work, and the oldest torch
that the package accepts."""

BLOCKED = "triton,mamba_ssm,causal_conv1d,mambapy,selective_scan_cuda"

CHOSEN = """
import pathlib, torch, rgbt_fusion
from rgbt_fusion import backend_report, selective_scan
home = pathlib.Path(rgbt_fusion.__file__).resolve()
if pathlib.Path({root!r}) in home.parents:
    raise SystemExit(f"the source tree was imported, not the wheel: {{home}}")
chosen = {{op: report["chosen"] for op, report in backend_report().items()}}
if set(chosen.values()) != {{{expected!r}}}:
    raise SystemExit(f"auto must take {expected}, takes {{chosen}}; reasons: {{backend_report()}}")
A, B = -torch.rand(8, 4), torch.randn(2, 4, 5)
selective_scan(torch.randn(2, 8, 5), torch.rand(2, 8, 5), A, B, B, backend={expected!r})
print(f"installed wheel: auto takes {{chosen}}")
"""


def build_and_install(site: Path, *, compiler: bool) -> Path:
    """Build a wheel, unpack it into ``site``, and return its path."""
    wheels = site.parent / f"{site.name}-wheel"
    environment = {**os.environ}
    if not compiler:
        environment["CC"] = str(ROOT / "no-such-compiler")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    command = [*pip, "-w", str(wheels), str(ROOT)]
    subprocess.run(command, check=True, env=environment, cwd=site.parent)
    (wheel,) = wheels.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    return wheel


def check_wheel(site: Path, expected: str) -> None:
    """Check in a process outside the source tree which backend the unpacked wheel chooses."""
    script = CHOSEN.format(root=str(ROOT), expected=expected)
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        check=True,
        cwd=site,
        env={**os.environ, "PYTHONPATH": str(site)},
    )


def run_tests(title: str, selection: list[str], **environment: str) -> None:
    """Run pytest in a changed environment; stop everything on a failure."""
    print(f"\n== {title} ==", flush=True)
    command = [sys.executable, "-m", "pytest", "-q", "--strict-skips", "-m", "not slow", *selection]
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, **environment})


def check_wheels(folder: Path) -> Path:
    """Check a wheel without and, where there is a compiler, one with the compiled kernels.

    Returns:
        The folder that the wheel without kernels is unpacked in.
    """
    pure = folder / "pure"
    wheel = build_and_install(pure, compiler=False)
    if not wheel.name.endswith("-py3-none-any.whl"):
        raise SystemExit(f"without a compiler the wheel must be pure Python, got {wheel.name}")
    check_wheel(pure, "vectorised")
    if has_compiler():
        compiled = folder / "compiled"
        build_and_install(compiled, compiler=True)
        check_wheel(compiled, "native")
    else:
        print("no compiler on this machine: the native wheel is not checked")
    return pure


def has_compiler() -> bool:
    """Say whether the build hook would find a compiler."""
    names = (os.environ.get("CC", "cc"), "gcc", "clang")
    return any(shutil.which(name) for name in names)


def run_versions(pythons: list[str]) -> int:
    """Run the op tests with each version in an environment of its own; return the status.

    Args:
        pythons: only these; all where there are none.
    """
    told = []
    for python, torch in VERSIONS:
        if not pythons or python in pythons:
            outcome = run_version(python, torch)
            told.append(f"Python {python}, torch {torch}: {outcome}")
    print("\n".join(["", *told]))
    return int(any("failed" in line for line in told))


def run_version(python: str, torch: str) -> str:
    """Run the op tests with one version and return what came of it in a few words."""
    print(f"\n== Python {python}, torch {torch} ==", flush=True)
    interpreter = shutil.which(f"python{python}")
    # a shim may be there without its Python
    if not interpreter or subprocess.run([interpreter, "-V"], capture_output=True).returncode:
        return f"not run, there is no python{python} here"
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([interpreter, "-m", "venv", folder], check=True)
        own = str(Path(folder, "bin", "python"))
        install = [own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if subprocess.run([*install, f"torch=={torch}"]).returncode:
            return f"not run, pip finds no torch {torch}"
        needed = ["pytest", "pytest-timeout", "hatchling", "hatch-fancy-pypi-readme"]
        subprocess.run([*install, f"torch=={torch}", *needed, str(ROOT)], check=True)
        tests = [own, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", *OPS]
        done = subprocess.run(tests, cwd=ROOT)
    return "passed" if done.returncode == 0 else "failed"


def main(selection: list[str]) -> None:
    """Check the wheels, then run the selected tests in every situation."""
    with tempfile.TemporaryDirectory() as folder:
        pure = check_wheels(Path(folder))
        run_tests("optional packages blocked", selection, RGBT_FUSION_BLOCKED=BLOCKED)
        no_kernel = {"PYTHONPATH": str(pure), "RGBT_FUSION_EXPECT_NO_NATIVE": "1"}
        run_tests("no compiled kernel", selection, **no_kernel)
        run_tests("one thread", selection, OMP_NUM_THREADS="1")


if __name__ == "__main__":
    if sys.argv[1:2] == ["versions"]:
        sys.exit(run_versions(sys.argv[2:]))
    if sys.argv[1:] not in (["ops"], ["all"]):
        raise SystemExit(__doc__)
    main(OPS if sys.argv[1] == "ops" else ["tests"])
