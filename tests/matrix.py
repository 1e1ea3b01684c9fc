"""The test matrix: other versions of Python and torch, and runs where something is missing.

    python tests/matrix.py ops    the op tests where something is missing (part of `make test`)
    python tests/matrix.py all    the whole suite in each situation (`make test-matrix`)
    python tests/matrix.py versions [PYTHON...]
                                  the op tests with each Python and torch of `VERSIONS`
    python tests/matrix.py rows   print the name of each row of the matrix
    python tests/matrix.py row NAME...
                                  run these rows alone: a host that runs jobs side by side starts
                                  one for each name

`SITUATIONS` are: without packages that bring kernels, without a compiler, on one thread. `ops` and
`all` also build a wheel, install it outside the source tree, and check there which backend "auto"
takes.

A version has an environment of its own without any of the extras, made in the folder for temporary
files and removed at the end: up to 12 GB where torch comes with the libraries of CUDA. A version
that cannot be had here is said to be not run.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OPS = ["tests/ops", "tests/layers/test_mamba.py", "tests/layers/test_difference_fusion_mamba.py"]
VERSIONS = {
    "python3.10-torch2.13.0": ("3.10", "2.13.0"),
    "python3.11-torch2.13.0": ("3.11", "2.13.0"),
    "python3.12-torch2.13.0": ("3.12", "2.13.0"),
    "python3.13-torch2.13.0": ("3.13", "2.13.0"),
    "python3.11-torch2.6.0": ("3.11", "2.6.0"),
}
"""Python and torch by the name of the row: every Python with the newest torch that is known to
work, and the oldest torch that the package accepts."""

BLOCKED = "triton,mamba_ssm,causal_conv1d,mambapy,selective_scan_cuda"
SITUATIONS = ("without-other-kernels", "without-compiler", "one-thread")

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


def run_versions(names: list[str]) -> int:
    """Run the op tests with each version in an environment of its own; return the status.

    Args:
        names: rows of `VERSIONS`.
    """
    told = []
    # rows share what they download
    with tempfile.TemporaryDirectory() as cache:
        for name in names:
            python, torch = VERSIONS[name]
            outcome = run_version(python, torch, Path(cache))
            told.append(f"Python {python}, torch {torch}: {outcome}")
    print("\n".join(["", *told]))
    return int(any("failed" in line for line in told))


def run_version(python: str, torch: str, cache: Path) -> str:
    """Run the op tests with one version and return what came of it in a few words."""
    print(f"\n== Python {python}, torch {torch} ==", flush=True)
    interpreter = find_interpreter(python)
    if interpreter is None:
        return f"not run, there is no python{python} on the PATH or among the versions of pyenv"
    environment = os.environ | {"PIP_CACHE_DIR": str(cache)}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([interpreter, "-m", "venv", folder], check=True)
        own = str(Path(folder, "bin", "python"))
        install = [own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if subprocess.run([*install, f"torch=={torch}"], env=environment).returncode:
            return f"not run, pip finds no torch {torch}"
        needed = ["pytest", "pytest-timeout", "hatchling", "hatch-fancy-pypi-readme"]
        together = [*install, f"torch=={torch}", *needed, str(ROOT)]
        subprocess.run(together, check=True, env=environment)
        report = Path(folder, "report.xml")
        options = ["-q", "-p", "no:cacheprovider", "-m", "not slow", f"--junitxml={report}"]
        done = subprocess.run([own, "-m", "pytest", *options, *OPS], cwd=ROOT)
        counted = count_tests(report) if report.exists() else "no test was run"
    return f"{'passed' if done.returncode == 0 else 'failed'} ({counted})"


def find_interpreter(python: str) -> str | None:
    """Return the path of an interpreter of this version that runs, or None."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates = [shutil.which(f"python{python}")]
    candidates += sorted(pyenv.glob(f"versions/{python}.*/bin/python{python}"), reverse=True)
    for candidate in candidates:
        # pyenv leaves a shim on the PATH for a Python that it has not switched on
        if candidate and not subprocess.run([candidate, "-V"], capture_output=True).returncode:
            return str(candidate)
    return None


def count_tests(report: Path) -> str:
    """Return what a JUnit report counts, in words."""
    (suite,) = ElementTree.parse(report).getroot().iter("testsuite")
    total, failures, errors, skipped = (
        int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")
    )
    failed = failures + errors
    seconds = float(suite.attrib["time"])
    passed = total - failed - skipped
    return f"{passed} passed, {failed} failed, {skipped} skipped in {seconds:.0f} s"


def run_situations(names: list[str], selection: list[str]) -> None:
    """Run the selected tests in these situations; stop everything on a failure."""
    with tempfile.TemporaryDirectory() as folder:
        if "without-other-kernels" in names:
            run_tests("optional packages blocked", selection, RGBT_FUSION_BLOCKED=BLOCKED)
        if "without-compiler" in names:
            pure = check_wheels(Path(folder))
            no_kernel = {"PYTHONPATH": str(pure), "RGBT_FUSION_EXPECT_NO_NATIVE": "1"}
            run_tests("no compiled kernel", selection, **no_kernel)
        if "one-thread" in names:
            run_tests("one thread", selection, OMP_NUM_THREADS="1")


def run_rows(names: list[str]) -> int:
    """Run rows of the matrix: whole situations, the op tests of versions; return the status."""
    unknown = sorted(set(names) - {*SITUATIONS, *VERSIONS})
    if unknown or not names:
        known = ", ".join([*SITUATIONS, *VERSIONS])
        raise SystemExit(f"a row must be one of {known}, got {', '.join(unknown) or 'none'}")
    run_situations([name for name in names if name in SITUATIONS], ["tests"])
    versions = [name for name in names if name in VERSIONS]
    return run_versions(versions) if versions else 0


def main(arguments: list[str]) -> int:
    """Run what the command line asks for; return the status."""
    match arguments:
        case ["ops"]:
            # the suite that `make test` ran before was on one thread
            run_situations([name for name in SITUATIONS if name != "one-thread"], OPS)
        case ["all"]:
            run_situations([*SITUATIONS], ["tests"])
        case ["versions", *pythons]:
            names = [name for name, row in VERSIONS.items() if not pythons or row[0] in pythons]
            if not names:
                raise SystemExit(f"no row has Python {', '.join(pythons)}")
            return run_versions(names)
        case ["rows"]:
            print("\n".join([*SITUATIONS, *VERSIONS]))
        case ["row", *names]:
            return run_rows(names)
        case _:
            raise SystemExit(__doc__)
    return 0


def end_in_order(*_: object) -> None:
    """End at a signal as at an error: what was made for the run is removed."""
    sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end_in_order)
    sys.exit(main(sys.argv[1:]))
