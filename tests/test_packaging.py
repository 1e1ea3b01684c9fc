"""What the build hook makes of a source tree: a wheel with the compiled kernels, or a pure one that
still installs."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import rgbt_fusion

ROOT = Path(__file__).resolve().parents[1]
COMPILED = shutil.ignore_patterns("*.so", "*.dylib", "*.dll", "__pycache__")
SOURCES = ("pyproject.toml", "hatch_build.py", "LICENSE", "README.md")

HAS_COMPILER = os.name == "posix" and any(
    shutil.which(name) for name in (os.environ.get("CC") or "cc", "gcc", "clang")
)

RUN_A_SCAN = """
import pathlib, sys, torch
from rgbt_fusion.ops.native import backend as native
from rgbt_fusion.ops.inputs import ScanInputs, ScanResults
home = pathlib.Path(native.__file__).resolve()
if not home.is_relative_to(pathlib.Path(sys.argv[1]).resolve()):
    raise SystemExit(f"imported {home}, not the unpacked wheel")
if native.why_missing():
    raise SystemExit(native.why_missing())
ones = torch.ones(1, 1, 3, 2)
group = ones[..., None, :1]
inputs = ScanInputs(ones, ones, -torch.ones(1, 2, 1), group, group, *[None] * 6, False, False)
results = ScanResults(torch.empty(1, 1, 3, 2), torch.empty(1, 1, 2, 1), torch.empty(1, 1, 0, 1, 2))
native.scan_forward(inputs, results)
print(results.out[0, 0, :, 0].tolist())
"""


@pytest.fixture(scope="module")
def source_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy what a wheel is made of, so that a build touches nothing of the working tree."""
    if not (ROOT / "hatch_build.py").exists():
        pytest.skip("the tests run outside the source tree")
    tree = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        shutil.copy(ROOT / name, tree / name)
    shutil.copytree(ROOT / "src", tree / "src", ignore=COMPILED)
    return tree


def build(tree: Path, target: Path, **environment: str) -> tuple[zipfile.ZipFile, str]:
    """Build a wheel with hatchling; return it and what the build said."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    done = subprocess.run(
        command, cwd=tree, env=os.environ | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = target.glob("*.whl")
    return zipfile.ZipFile(wheel), done.stdout + done.stderr


def libraries(wheel: zipfile.ZipFile) -> list[str]:
    return [name for name in wheel.namelist() if name.endswith((".so", ".dylib", ".dll"))]


@pytest.mark.skipif(not HAS_COMPILER, reason="no C compiler")
def test_a_compiler_makes_one_wheel_for_every_python(source_tree: Path, tmp_path: Path) -> None:
    wheel, said = build(source_tree, tmp_path)
    name = str(wheel.filename)
    assert re.search(r"-py3-none-(linux|macosx)_\w+\.whl$", name), f"{name}: {said}"
    assert len(libraries(wheel)) == 1
    assert not list(source_tree.rglob("*.so")), "a wheel build must leave the sources alone"
    wheel.extractall(tmp_path / "site")
    done = subprocess.run(
        [sys.executable, "-c", RUN_A_SCAN, str(tmp_path / "site")],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    # h_1 = 1, h_2 = 1/e + 1, h_3 = 1/e^2 + 1/e + 1
    assert eval(done.stdout) == pytest.approx([1.0, 1.3678794, 1.5032147], abs=1e-6)


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({"PATH": "", "CC": ""}, "no C compiler is on the PATH"),
        ({"CC": "no-such-compiler"}, "no-such-compiler"),
        ({"CC": "false"}, "failed"),
    ],
    ids=["no compiler", "missing compiler", "failing compiler"],
)
def test_without_a_compiler_the_wheel_is_pure(
    source_tree: Path, tmp_path: Path, environment: dict[str, str], complaint: str
) -> None:
    wheel, said = build(source_tree, tmp_path, **environment)
    assert str(wheel.filename).endswith("-py3-none-any.whl")
    assert libraries(wheel) == []
    assert "no compiled CPU kernels" in said
    assert complaint in said


def test_what_is_no_code_is_in_the_wheel(source_tree: Path, tmp_path: Path) -> None:
    """Recipes, pages and trained weights are read at run time: a wheel without them would fail far
    from here."""
    package = source_tree / "src" / "rgbt_fusion"
    weights = package / "weights" / "some.safetensors"
    weights.parent.mkdir(exist_ok=True)
    weights.write_bytes(b"weights")
    try:
        wheel, _ = build(source_tree, tmp_path, PATH="", CC="")
    finally:
        weights.unlink()
    sources = {".py", ".c", ".h"}
    data = {path for path in package.rglob("*") if path.is_file() and path.suffix not in sources}
    expected = {
        f"rgbt_fusion/{path.relative_to(package).as_posix()}"
        for path in data
        if "__pycache__" not in path.parts
    }
    assert {"rgbt_fusion/py.typed", "rgbt_fusion/recipes/ainet_tiny_128_synthetic.toml"} <= expected
    assert expected | {"rgbt_fusion/weights/some.safetensors"} <= set(wheel.namelist())


def test_what_is_about_this_project_is_not_in_the_wheel(source_tree: Path, tmp_path: Path) -> None:
    wheel, _ = build(source_tree, tmp_path, PATH="", CC="")
    folders = {name.split("/")[0] for name in wheel.namelist()}
    assert {name for name in folders if not name.endswith(".dist-info")} == {"rgbt_fusion"}
    assert not [name for name in wheel.namelist() if "study" in name]


def test_without_a_library_the_backend_says_how_to_get_it(tmp_path: Path) -> None:
    """A copy of the package without the library names the command; nothing else about it fails."""
    shutil.copytree(ROOT / "src" / "rgbt_fusion", tmp_path / "rgbt_fusion", ignore=COMPILED)
    script = "from rgbt_fusion.ops.native import backend; print(backend.why_missing())"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert "pip install --force-reinstall --no-deps" in done.stdout, done.stderr
    assert done.stdout.count("\n") == 1


def test_a_wheel_says_what_is_in_it(source_tree: Path, tmp_path: Path) -> None:
    """PEP 770: a bill of materials lies in the wheel and names what is no code of ours."""
    wheel, _ = build(source_tree, tmp_path, RGBT_FUSION_PLATFORM="pure")
    (name,) = (name for name in wheel.namelist() if "/sboms/" in name)
    bill = json.loads(wheel.read(name))
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["version"] == rgbt_fusion.__version__
    weights = {
        Path(entry).stem: hashlib.sha256(wheel.read(entry)).hexdigest()
        for entry in wheel.namelist()
        if entry.endswith(".safetensors")
    }
    assert weights, "the wheel holds no weights"
    listed = {
        component["name"]: component["hashes"][0]["content"]
        for component in bill["components"]
        if component["type"] == "machine-learning-model"
    }
    assert listed == weights


@pytest.mark.skipif(not HAS_COMPILER, reason="no C compiler")
def test_two_builds_in_different_folders_have_the_same_bytes(
    source_tree: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(source_tree, elsewhere)
    first, _ = build(source_tree, tmp_path / "first", SOURCE_DATE_EPOCH="1700000000")
    second, _ = build(elsewhere, tmp_path / "second", SOURCE_DATE_EPOCH="1700000000")
    assert Path(str(first.filename)).read_bytes() == Path(str(second.filename)).read_bytes()


def test_a_platform_that_nobody_knows_is_refused(source_tree: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    environment = os.environ | {"RGBT_FUSION_PLATFORM": "amiga"}
    done = subprocess.run(command, cwd=source_tree, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "must be one of pure, manylinux-x86_64" in done.stderr + done.stdout
    assert not list(tmp_path.iterdir())


def test_an_installation_is_compared_with_its_record(source_tree: Path, tmp_path: Path) -> None:
    wheel, _ = build(source_tree, tmp_path / "wheel", RGBT_FUSION_PLATFORM="pure")
    site = tmp_path / "site"
    wheel.extractall(site)

    def verify() -> subprocess.CompletedProcess[str]:
        script = "from rgbt_fusion.cli import main; main(['verify'])"
        return subprocess.run(
            [sys.executable, "-c", script],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
        )

    done = verify()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("recorded files, 0 findings\n")
    package = site / "rgbt_fusion"
    with (package / "boxes.py").open("a") as file:
        file.write("# a line more\n")
    (package / "py.typed").unlink()
    (package / "layers" / "more.py").write_text("")
    done = verify()
    assert done.returncode == 1
    *findings, last = done.stdout.splitlines()
    assert sorted(findings) == [
        "cannot be read: rgbt_fusion/py.typed (No such file or directory)",
        "changed: rgbt_fusion/boxes.py",
        "not recorded: rgbt_fusion/layers/more.py",
    ]
    assert last.endswith("recorded files, 3 findings")
