"""The contract of the tree: who may import whom, what every layer brings along, what may not
disappear."""

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import rgbt_fusion

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "rgbt_fusion"
FILES = sorted(SOURCE.rglob("*.py"))

# Which rooms a room may import from, besides itself and checks, which everybody may; "room.file"
# is one file.
MAY_IMPORT = {
    "checks": set(),
    "shapes": set(),
    "typed_module": set(),
    "boxes": {"shapes"},
    "files": set(),
    "frames": {"files", "boxes", "shapes"},
    "alignment": {"files", "frames"},
    "ops": {"shapes"},
    "layers": {"ops", "shapes", "typed_module"},
    "compat": {"ops", "layers"},
    "losses": {"boxes", "shapes", "typed_module"},
    "models": {"layers", "ops", "shapes", "typed_module", "frames.types"},
    "weights": {"models", "files"},
    "synthetic": {"frames"},
    "data": {"frames", "files", "synthetic"},
    "tracking": {
        "frames", "boxes", "shapes", "models.interface", "models.inference",
        "models.tracking_settings",
    },
    "evaluation": {"frames", "files", "data", "synthetic", "tracking.interface"},
    "video": {"frames", "files", "data", "models", "tracking", "alignment"},
    "training": {
        "frames", "files", "boxes", "layers", "losses", "models", "weights", "synthetic", "data",
        "tracking", "evaluation", "alignment", "typed_module",
    },
    "export": {
        "boxes", "shapes", "frames", "ops", "models", "synthetic", "tracking", "weights", "files",
    },
    "benchmarking": {"ops", "layers", "losses", "shapes", "files"},
}  # fmt: skip
EVERYBODY = {"checks", "__version__"}
# Packages that only some files may import.
ONLY_IN = {
    "triton": "ops/triton",
    "mamba_ssm": "ops/mamba_ssm",
    "causal_conv1d": "ops/mamba_ssm",
    "selective_scan_cuda": "ops/mamba_ssm",
}
OPTIONAL = (
    "triton",
    "mamba_ssm",
    "causal_conv1d",
    "cv2",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "onnxscript",
)
FORBIDDEN_NAMES = {"utils", "common", "helpers", "core", "base", "engine", "registry"}


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path, *, top_level: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_one_way(path):
    own = room(path)
    if own == "cli":
        return
    if own == "__init__":
        return  # the table of public names
    modules = {name.split(".", 1)[1] for name in imports(path) if name.startswith("rgbt_fusion.")}
    # `from rgbt_fusion import x` reaches x through the public table; inside the package modules are
    # named.
    allowed = MAY_IMPORT[own] | EVERYBODY | {own}
    wrong = {
        name for name in modules if not any(f"{name}.".startswith(f"{one}.") for one in allowed)
    }
    assert not wrong, f"{own} must not import {sorted(wrong)}"


@pytest.mark.parametrize("package", ONLY_IN)
def test_optional_packages_are_imported_in_one_place(package):
    users = {
        str(path.relative_to(SOURCE))
        for path in FILES
        if any(name.split(".")[0] == package for name in imports(path))
    }
    assert all(user.startswith(ONLY_IN[package]) for user in users), users


def test_optional_packages_are_imported_where_they_are_used():
    for path in FILES:
        if path.parent.name == "triton":
            continue
        top = {name.split(".")[0] for name in imports(path, top_level=True)}
        assert not top & set(OPTIONAL), (
            f"{path.name} imports {top & set(OPTIONAL)} when it is imported"
        )


def test_no_file_has_a_name_that_says_nothing():
    assert not {path.stem for path in FILES} & FORBIDDEN_NAMES


def test_public_names_are_those_recorded():
    recorded = json.loads((ROOT / "tests" / "api_surface.json").read_text())
    assert sorted(rgbt_fusion.__all__) == recorded, (
        "update tests/api_surface.json, and the changelog with it"
    )
    for name in rgbt_fusion.__all__:
        assert getattr(rgbt_fusion, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        rgbt_fusion.nonsense  # noqa: B018


def test_tools_see_the_names_that_are_loaded_lazily():
    tree = ast.parse((SOURCE / "__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.asname
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {*rgbt_fusion.__all__, *ROOMS} - {"__version__"}


ROOMS = {path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in FILES} - {"__init__"}


def test_the_subpackages_show_and_load_when_asked_for():
    assert set(dir(rgbt_fusion)) == {*rgbt_fusion.__all__, *ROOMS}
    for name in ROOMS:
        assert getattr(rgbt_fusion, name).__name__ == f"rgbt_fusion.{name}"
    script = "import sys, rgbt_fusion; rgbt_fusion.layers; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


LAYER_FILES = sorted(
    path.stem for path in (SOURCE / "layers").glob("*.py") if path.stem != "__init__"
)
# What a layer is made of, rather than a layer that fuses: documented with the layer that uses it.
PARTS = {
    "layer_order": "order_dynamic_fusion_mamba",
    "ordered_mamba": "order_dynamic_fusion_mamba",
    "streams": "index",
    "template_mask": "candidate_elimination",
    "token_selection": "candidate_elimination",
}
# Classes of the shelf that are parts of another layer and not public by themselves.
PART_CLASSES = {
    "DropPath",
    "MLP",
    "OrderedMamba",
    "PooledOrderPredictor",
    "Prompter",
    "ReleasedOrderPredictor",
    "SelfAttention",
    "TransformerBlock",
}


@pytest.mark.parametrize("layer", LAYER_FILES)
def test_every_layer_brings_its_test_and_its_page(layer):
    assert (ROOT / "tests" / "layers" / f"test_{layer}.py").exists()
    assert (ROOT / "docs" / "layers" / f"{PARTS.get(layer, layer)}.md").exists()


def public_modules(*folders: str) -> list[type[Any]]:
    """The layers or losses that files of these folders name in ``__all__``."""
    found: set[type[Any]] = set()
    for folder in folders:
        for path in (SOURCE / folder).glob("*.py"):
            if path.stem == "__init__":
                continue
            module = importlib.import_module(f"rgbt_fusion.{folder}.{path.stem}")
            for name in module.__all__:
                value = getattr(module, name)
                if isinstance(value, type) and issubclass(
                    value, rgbt_fusion.typed_module.TypedModule
                ):
                    found.add(value)
    return sorted(found, key=lambda one: one.__name__)


@pytest.mark.parametrize("one", public_modules("layers", "losses"), ids=lambda one: one.__name__)
def test_every_layer_and_loss_is_public_and_typed(one):
    if one.__name__ not in PART_CLASSES:
        assert getattr(rgbt_fusion, one.__name__, None) is one
    options = set(inspect.signature(one).parameters)
    names_for_channels = {"channels", "width", "d_model", "embed_dim", "hidden_size"}
    if one.__name__ != "MambaBlock":  # whose names are those of mamba_ssm.Mamba
        assert not options & names_for_channels, "the channel argument is called dim"
    for name, option in inspect.signature(one).parameters.items():
        assert option.annotation is not str, f"{name} must be a Literal"


@pytest.mark.parametrize("layer", LAYER_FILES)
def test_the_acronym_is_the_last_line_of_its_file(layer):
    module = importlib.import_module(f"rgbt_fusion.layers.{layer}")
    aliases = {
        name: value.__name__
        for name, value in vars(module).items()
        if isinstance(value, type)
        and value.__module__ == module.__name__
        and name != value.__name__
    }
    lines = (SOURCE / "layers" / f"{layer}.py").read_text().splitlines()
    if aliases:
        ((acronym, full),) = aliases.items()
        assert lines[-1] == f"{acronym} = {full}"
        assert getattr(rgbt_fusion, acronym) is getattr(rgbt_fusion, full)


def test_every_op_and_loss_brings_its_test():
    for folder in ("losses",):
        for path in (SOURCE / folder).glob("*.py"):
            if path.stem != "__init__":
                assert (ROOT / "tests" / folder / f"test_{path.stem}.py").exists(), path.stem


def test_importing_a_layer_needs_no_optional_package():
    script = (
        "import sys\n"
        f"for name in {OPTIONAL!r}: sys.modules[name] = None\n"
        "import torch\n"
        "from rgbt_fusion import DFM, OFM\n"
        "DFM(8)(torch.randn(1, 3, 8), torch.randn(1, 3, 8))\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True)


def test_importing_the_package_imports_nothing():
    script = "import sys, rgbt_fusion; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_version_is_in_the_changelog_and_the_citation():
    assert re.search(
        r"## \[(Unreleased|" + re.escape(rgbt_fusion.__version__) + r")\]",
        (ROOT / "CHANGELOG.md").read_text(),
    )
    assert f"version: {rgbt_fusion.__version__}" in (ROOT / "CITATION.cff").read_text()


def test_nothing_names_a_place_on_somebodys_machine():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    pattern = re.compile(r"(/home/\w|/root/|/Users/\w|[A-Z]:\\Users)")
    for name in listed.stdout.split():
        path = ROOT / name
        if (
            path.suffix in {".py", ".md", ".toml", ".json", ".txt", ".c", ".h"}
            and path != Path(__file__).resolve()
        ):
            assert not pattern.search(path.read_text()), name
