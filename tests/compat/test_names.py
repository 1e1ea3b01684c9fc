"""Which names are served, when, and what is left behind."""

import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from rgbt_fusion import MambaBlock, compat
from rgbt_fusion.compat.names import EXTENSIONS, PACKAGES

FOREIGN = ("mamba_ssm", "causal_conv1d", *EXTENSIONS)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Every test starts without the real packages and ends with the modules it found."""
    if any(importlib.util.find_spec(name) for name in FOREIGN):
        pytest.skip("the real packages are installed")
    before = dict(sys.modules)
    yield
    compat.uninstall()
    foreign = {name for name in sys.modules if name.partition(".")[0] in FOREIGN}
    assert not foreign - set(before)


def served(name: str) -> bool:
    module = importlib.import_module(name)
    assert module.__spec__ is not None
    return module.__spec__.origin == "rgbt_fusion.compat"


def test_nothing_is_served_before_it_is_asked_for() -> None:
    for name in FOREIGN:
        with pytest.raises(ImportError):
            importlib.import_module(name)


@pytest.mark.parametrize("name", [*EXTENSIONS, *PACKAGES])
def test_every_name_is_served_and_documented(name: str) -> None:
    compat.install()
    assert served(name)
    module = sys.modules[name]
    for attribute in (EXTENSIONS | PACKAGES)[name]:
        assert getattr(module, attribute).__doc__


def test_a_package_is_reached_by_attribute_and_by_spec() -> None:
    compat.install()
    assert importlib.util.find_spec("mamba_ssm") is not None
    import mamba_ssm  # pyright: ignore

    assert mamba_ssm.ops.triton.selective_state_update.selective_state_update
    assert "rgbt" in mamba_ssm.__version__
    assert issubclass(mamba_ssm.Mamba, MambaBlock)


@pytest.mark.parametrize(
    "statement",
    [
        "from mamba_ssm import Mamba2",
        "from mamba_ssm.ops.triton.ssd_combined import mamba_split_conv1d_scan_combined",
        "from mamba_ssm.ops.selective_scan_interface import bimamba_inner_fn",
        "import mamba_ssm.modules.mamba2",
        "import mamba_ssm.ops.triton.mamba3",
        "import selective_scan_cuda_nrow",
        "from selective_scan_cuda import nonsense",
    ],
)
def test_what_is_not_served_raises_import_error(statement: str) -> None:
    compat.install()
    with pytest.raises(ImportError):
        exec(statement, {})


CLIENT = """
import importlib
import importlib.util

try:
    from mamba_ssm.ops.triton.ssd_combined import (
        mamba_chunk_scan_combined,
        mamba_split_conv1d_scan_combined,
    )
except ImportError:
    mamba_chunk_scan_combined = mamba_split_conv1d_scan_combined = None
try:
    from mamba_ssm.modules.mamba2 import Mamba2
except ImportError:
    Mamba2 = None
try:
    import selective_scan_cuda_nrow
except ImportError:
    selective_scan_cuda_nrow = None
import mamba_ssm

by_attribute = getattr(mamba_ssm, "Mamba2", None)
by_spec = importlib.util.find_spec("mamba_ssm.modules.mamba2")
served = mamba_ssm.Mamba, mamba_ssm.ops.selective_scan_interface.selective_scan_fn
"""


def test_a_client_with_a_slow_path_takes_it_for_what_is_not_served() -> None:
    compat.install()
    client: dict[str, Any] = {}
    exec(CLIENT, client)
    # a statement that asks for one name too many fails as a whole
    assert client["mamba_chunk_scan_combined"] is None
    for name in ("mamba_split_conv1d_scan_combined", "Mamba2", "selective_scan_cuda_nrow"):
        assert client[name] is None
    assert client["by_attribute"] is None
    assert client["by_spec"] is None
    assert all(client["served"])


def test_behind_uninstall_a_client_finds_nothing() -> None:
    compat.install()
    importlib.import_module("mamba_ssm.ops.triton.layer_norm")
    compat.uninstall()
    for name in FOREIGN:
        assert importlib.util.find_spec(name) is None
        with pytest.raises(ImportError):
            importlib.import_module(name)


def test_uninstall_leaves_the_modules_as_they_were() -> None:
    before = dict(sys.modules)
    path_before = list(sys.meta_path)
    sys.modules["selective_scan_cuda_core"] = None  # pyright: ignore[reportArgumentType]
    compat.install()
    compat.install()
    for name in FOREIGN:
        importlib.import_module(name)
    compat.uninstall()
    assert sys.modules.pop("selective_scan_cuda_core") is None
    assert {name: sys.modules[name] for name in before} == before
    assert sys.meta_path == path_before
    compat.uninstall()


def write_real_packages(folder: Path) -> None:
    (folder / "mamba_ssm").mkdir()
    (folder / "mamba_ssm" / "__init__.py").write_text("real = True\n")
    (folder / "causal_conv1d.py").write_text("real = True\n")
    for name in EXTENSIONS:
        (folder / f"{name}.py").write_text("real = True\n")


def test_real_packages_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_real_packages(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = dict(sys.modules)
    compat.install()
    assert dict(sys.modules) == before
    for name in FOREIGN:
        assert importlib.import_module(name).real
    with pytest.raises(ImportError):
        importlib.import_module("mamba_ssm.ops")
    report = compat.report()
    assert report.ours == ()
    assert report.theirs["selective_scan_cuda"] == "it imports"
    assert report.theirs["mamba_ssm"] == "found before ours"
    for name in FOREIGN:
        sys.modules.pop(name)


def test_a_broken_extension_is_replaced_and_its_error_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "selective_scan_cuda.py").write_text("raise OSError('undefined symbol')\n")
    monkeypatch.syspath_prepend(tmp_path)
    compat.install()
    assert served("selective_scan_cuda")
    assert "undefined symbol" in compat.report().refused["selective_scan_cuda"]


def test_a_clients_own_python_stays_on_our_extensions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    triton = tmp_path / "mamba_ssm" / "ops" / "triton"
    triton.mkdir(parents=True)
    for folder in (triton.parent.parent, triton.parent, triton):
        (folder / "__init__.py").write_text("import selective_scan_cuda\n")
    (triton / "layernorm.py").write_text("raise RuntimeError('0 active drivers')\n")
    monkeypatch.syspath_prepend(tmp_path)
    compat.install(replace=("mamba_ssm.ops.triton.layernorm",))
    package = importlib.import_module("mamba_ssm")
    assert package.__file__ is not None
    assert served("selective_scan_cuda")
    assert served("mamba_ssm.ops.triton.layernorm")
    with pytest.raises(ImportError):
        importlib.import_module("mamba_ssm.ops.selective_scan_interface")
    for name in [name for name in sys.modules if name.startswith("mamba_ssm")]:
        if name != "mamba_ssm.ops.triton.layernorm":
            del sys.modules[name]


def test_the_packages_can_be_left_out() -> None:
    compat.install(packages=False)
    assert served("causal_conv1d_cuda")
    with pytest.raises(ImportError):
        importlib.import_module("causal_conv1d")


def test_replace_must_be_served() -> None:
    with pytest.raises(ValueError, match=r"replace must hold names of .*, got 'mamba_ssm\.models'"):
        compat.install(replace=("mamba_ssm.models",))


def test_the_report_counts_calls_and_keeps_refusals() -> None:
    compat.install()
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn  # pyright: ignore

    u, A = torch.randn(1, 2, 5), -torch.rand(2, 3)
    B = torch.randn(1, 3, 5)
    selective_scan_fn(u, u, A, B, B)
    with pytest.raises(TypeError, match="A must be real"):
        selective_scan_fn(u, u, A.to(torch.complex64), B, B)
    report = compat.report()
    name = "mamba_ssm.ops.selective_scan_interface.selective_scan_fn"
    assert report.calls[name] == 2
    assert "complex" in report.refused[name]
    lines = str(report).splitlines()
    assert lines[0].startswith("ours: ") and f"called: {name}, 2 times" in lines


def test_our_backend_of_mamba_ssm_does_not_take_us_for_it() -> None:
    script = (
        "from rgbt_fusion import compat\n"
        "compat.install()\n"
        "from rgbt_fusion.ops import mamba_ssm\n"
        "assert 'served by rgbt_fusion.compat' in mamba_ssm._scan_import_error()\n"
        "assert 'served by rgbt_fusion.compat' in mamba_ssm._conv_import_error()\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True)


def test_a_script_runs_unmodified_and_the_report_follows(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("value = 3\n")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, torch, beside\n"
        "from mamba_ssm import Mamba\n"
        "x = torch.randn(1, 4, 8, device='cuda')\n"
        "y = Mamba(8).cuda()(x)\n"
        "print(tuple(y.shape), y.device, sys.argv[1:], beside.value, __name__)\n"
    )
    command = [sys.executable, "-m", "rgbt_fusion.compat", str(script), "--steps", "2"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == "(1, 4, 8) cpu ['--steps', '2'] 3 __main__\n"
    assert "ours: " in done.stderr and "called: on_cpu: cuda device" in done.stderr
    command = [sys.executable, "-m", "rgbt_fusion.compat", "-m", "beside"]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    without = subprocess.run(command[:3], capture_output=True, text=True, check=False)
    assert without.returncode == 1 and "usage: " in without.stderr
