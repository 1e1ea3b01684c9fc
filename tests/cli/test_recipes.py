"""``rgbt-fusion recipes``: every recipe in one line, and one of them as a file to change."""

import pytest

from rgbt_fusion.cli import main
from rgbt_fusion.training import list_recipes, read_config


def run(capsys, *arguments: str) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as left:
        main(["recipes", *arguments])
    written = capsys.readouterr()
    return left.value.code, written.out, written.err


def test_every_recipe_has_its_line(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    status, out, _ = run(capsys)
    assert status == 0
    lines = {line.split()[0]: line.split()[1:] for line in out.splitlines()[1:]}
    assert list(lines) == list_recipes()
    assert lines["ainet_vitb_256_vtuav"] == ["ainet_vitb_256", "vtuav_st", "56250", "16"]


def test_a_printed_recipe_is_a_file_to_train_from(capsys, tmp_path):
    status, out, _ = run(capsys, "ainet_tiny_128_synthetic")
    assert status == 0
    file = tmp_path / "mine.toml"
    file.write_text(out)
    assert read_config(file) == read_config("ainet_tiny_128_synthetic")


def test_a_misspelt_recipe_is_answered_with_the_nearest(capsys):
    status, out, err = run(capsys, "ainet_tiny_synthetic")
    assert (status, out) == (2, "")
    assert "did you mean 'ainet_tiny_128_synthetic'" in err
