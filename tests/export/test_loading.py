"""A program with the ops of this library loads in a process that has imported nothing of it."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rgbt_fusion import MambaBlock
from rgbt_fusion.export.agreement import ExportError
from rgbt_fusion.export.loading import load_program


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "block.pt2"
    torch.manual_seed(0)
    block = MambaBlock(16).eval()
    torch.export.save(torch.export.export(block, (torch.zeros(1, 6, 16),)), path)
    return path


@pytest.mark.parametrize(
    "load",
    [
        "from rgbt_fusion.export.loading import load_program; load_program(path)",
        "import torch, rgbt_fusion.export.loading; torch.export.load(path)",
    ],
    ids=["by the function", "by torch after the import"],
)
def test_a_program_loads_in_a_new_process(program: Path, load: str) -> None:
    script = f"import sys; path = sys.argv[1]; {load}"
    command = [sys.executable, "-W", "ignore", "-c", script, str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_loaded_program_computes_what_the_module_does(program: Path) -> None:
    torch.manual_seed(0)
    block = MambaBlock(16).eval()
    tokens = torch.randn(1, 6, 16)
    with torch.no_grad():
        assert torch.equal(load_program(program).module()(tokens), block(tokens))


def test_what_is_no_program_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"path must be the file .*, got .*missing\.pt2"):
        load_program(tmp_path / "missing.pt2")
    other = tmp_path / "other.pt2"
    other.write_bytes(b"not an archive")
    with pytest.raises(ExportError, match=r"other\.pt2 is not a program that torch"):
        load_program(other)
