"""``rgbt-fusion plot``: one picture per call, where it is asked for."""

import pytest

from rgbt_fusion.cli import main
from training.test_plots import write_run

pytest.importorskip("matplotlib", reason="matplotlib is not installed")


def run(capsys, *arguments: object) -> tuple[object, str]:
    with pytest.raises(SystemExit) as left:
        main(["plot", *map(str, arguments)])
    return left.value.code, capsys.readouterr().err


def test_a_training_gets_its_picture_and_keeps_it_new(capsys, tmp_path):
    folder = write_run(tmp_path / "run", validated=True)
    for _ in range(2):
        assert run(capsys, folder) == (0, f"wrote {folder / 'training.png'}\n")
    assert (folder / "training.png").read_bytes().startswith(b"\x89PNG")


def test_several_trainings_go_into_one_file(capsys, tmp_path):
    runs = [write_run(tmp_path / name, validated=True) for name in ("one", "two")]
    status, err = run(capsys, *runs)
    assert status == 2
    assert "--out must be given for several trainings, got 2 without" in err
    picture = tmp_path / "both.svg"
    assert run(capsys, *runs, "--out", picture)[0] == 0
    assert "<svg" in picture.read_text()
    status, err = run(capsys, *runs, "--out", picture)
    assert (status, "give --force" in err) == (2, True)
    status, err = run(capsys, *runs, "--out", tmp_path / "both.pgn")
    assert "did you mean '.png'" in err


def test_a_folder_without_a_log_is_named(capsys, tmp_path):
    status, err = run(capsys, tmp_path)
    assert status == 2
    assert err == f"error: {tmp_path / 'log.csv'}: No such file or directory\n"
