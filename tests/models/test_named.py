"""Networks that a user names as package.module:function."""

from pathlib import Path

import pytest

from rgbt_fusion.models.named import build_named, names_code

MODULE = """
from torch import nn

class Mine(nn.Module):
    template_size, search_size, search_factor = 64, 128, 4.0
    def __init__(self, width=2):
        super().__init__()
        self.width = width
    def forward(self, template, search, state=None):
        ...

def build_mine(width=2):
    return Mine(width)

def build_other():
    return nn.Linear(1, 1)

def build_wide(width):
    return Mine(width)

network = Mine()
width = 5
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine_for_test.py").write_text(MODULE)
    (tmp_path / "lacking_for_test.py").write_text("import not_installed_anywhere\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("mine:build", True),
        ("mine.trackers:Build", True),
        ("ainet_tiny_128", False),
        ("runs/mine.safetensors", False),
        ("https://example.org/mine.safetensors", False),
        ("C:\\mine.pth", False),
    ],
)
def test_only_this_form_names_code(name: str, code: bool) -> None:
    assert names_code(name) is code


def test_a_function_of_the_working_folder_is_called_with_its_arguments(folder: Path) -> None:
    assert build_named("mine_for_test:build_mine", width=5).width == 5
    assert build_named("mine_for_test:Mine").width == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere_for_test:build", "nowhere_for_test:build must name a module .* is no nowhere"),
        ("mine_for_test:build_mne", "did you mean 'build_mine'?"),
        ("mine_for_test:build_other", "got Linear without template_size, search_size"),
        (
            "mine_for_test:build_wide",
            "must be callable without arguments: missing a required argument: 'width'",
        ),
        ("mine_for_test:network", "function or class that builds the network, got a network of"),
        ("mine_for_test:width", "that builds the network, got a value of type int"),
        ("mine_for_test", "name must be package.module:function, got 'mine_for_test'"),
    ],
)
def test_what_is_wrong_with_a_name_is_said(folder: Path, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_named(name)


def test_what_a_module_lacks_itself_is_not_taken_for_the_module(folder: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        build_named("lacking_for_test:build")
