"""``rgbt-fusion train`` and ``distill``: settings from the command line, errors in one line."""

import json

import pytest

from one_training import PLAIN_DATA, SMALL
from rgbt_fusion.cli import main
from rgbt_fusion.cli.train import changed
from rgbt_fusion.training.checkpoints import read_checkpoint
from rgbt_fusion.weights.checkpoints import load_model

QUICK = [
    *(
        "--set",
        "steps=2",
        "--set",
        "batch_size=2",
        "--set",
        "log_every=1",
        "--set",
        "optimiser.warmup_steps=0",
    ),
    *("--set", "overrides=" + json.dumps(SMALL).replace(": ", " = ").replace('"', "")),
    *(
        "--set",
        f"data.sequences={PLAIN_DATA['sequences']}",
        "--set",
        "data.workers=0",
        "--set",
        "data.challenges=['none']",
    ),
    *("--data", "synthetic", "--device", "cpu"),
]


def run(capsys, *arguments: str) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    written = capsys.readouterr()
    return left.value.code, written.out, written.err


def test_a_recipe_is_trained_with_changes(capsys, tmp_path):
    status, out, err = run(
        capsys, "train", "ainet_tiny_128_synthetic", "--out", str(tmp_path / "run"), *QUICK
    )
    assert (status, out) == (
        0,
        f"2 steps done; the model is {tmp_path / 'run' / 'model.safetensors'}\n",
    )
    assert [line.split()[:2] for line in err.splitlines()] == [["1/2", "loss"], ["2/2", "loss"]]
    assert "samples/s" in err
    settings = json.loads((tmp_path / "run" / "config.json").read_text())
    assert settings["optimiser"]["learning_rate"] == 1e-3
    assert settings["overrides"] == SMALL
    assert load_model(tmp_path / "run" / "model.safetensors").settings.dim == 16


def test_synthetic_data_needs_no_second_setting(capsys, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("model = 'ostrack_tiny_128'\n[data]\nlayout = 'lasher'\nworkers = 0\n")
    changes = [word for word in QUICK if word not in ("--data", "synthetic")]
    status, _, err = run(capsys, "train", str(file), "--out", str(tmp_path / "run"), *changes)
    assert status == 2
    assert "data must be the folder of a dataset of layout 'lasher'" in err
    assert run(capsys, "train", str(file), "--out", str(tmp_path / "run"), *QUICK)[0] == 0
    content = read_checkpoint(tmp_path / "run" / "checkpoint.pt")
    assert content["config"]["data"]["layout"] == "synthetic"
    recipe = ["train", "ainet_tiny_128_synthetic", "--out", str(tmp_path / "without")]
    assert run(capsys, *recipe, *changes)[0] == 0


def test_ctrl_c_says_how_to_go_on(capsys, tmp_path, monkeypatch):
    import os
    import signal

    from rgbt_fusion.cli import train as command

    def press(lines, now):
        if now.step == 1:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(command._Lines, "__call__", press)
    arguments = ["train", "ainet_tiny_128_synthetic", "--out", str(tmp_path / "run"), *QUICK]
    status, _, err = run(capsys, *arguments, "--set", "steps=9")
    assert status == 130
    assert "Ctrl-C ended the training after step 2 of 9; " in err
    assert "run the same command or call again to go on" in err
    monkeypatch.undo()
    status, out, _ = run(capsys, *arguments, "--set", "steps=4", "--set", "validation.every=4")
    assert status == 0
    assert out.startswith("4 steps done")
    assert f"{tmp_path / 'run' / 'best.safetensors'}" in out


def test_a_file_is_trained_and_distilled(capsys, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("model = 'two_stream_tiny_128'\n")
    assert run(capsys, "train", str(file), "--out", str(tmp_path / "teacher"), *QUICK)[0] == 0
    file.write_text("model = 'one_stream_student_tiny_128'\nlayers = 'all'\n")
    teacher = str(tmp_path / "teacher" / "model.safetensors")
    status, out, _ = run(
        capsys,
        "distill",
        str(file),
        "--teacher",
        teacher,
        "--out",
        str(tmp_path / "student"),
        *QUICK,
        "--threads",
        "1",
    )
    assert status == 0
    assert out.startswith("2 steps done")
    assert "feature" in (tmp_path / "student" / "log.csv").read_text().splitlines()[0]
    assert read_checkpoint(tmp_path / "student" / "checkpoint.pt")["config"]["layers"] == "all"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent"], "config must be a file or one of the recipes"),
        (["ainet_tiny_128_synthetic", "--set", "stepps=3"], "unknown key stepps"),
        (["ainet_tiny_128_synthetic", "--set", "steps"], "--set must be KEY=VALUE, got 'steps'"),
        (
            ["ainet_tiny_128_synthetic", "--set", "steps=many"],
            "steps must be a whole number, got 'many'",
        ),
        (
            ["ainet_tiny_128_synthetic", "--set", "steps.more=3"],
            "--set must name a setting, got 'steps.more'",
        ),
        (["ainet_tiny_128_synthetic", "--threads", "0"], "--threads must be at least 1, got 0"),
        (["ainet_tiny_128_synthetic", "--start-from", "absent.pth"], "absent.pth"),
    ],
)
def test_a_wrong_call_ends_in_one_line_before_anything_is_written(
    capsys, tmp_path, arguments, message
):
    status, out, err = run(
        capsys, "train", *arguments, "--out", str(tmp_path / "run"), "--data", "synthetic"
    )
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "run").exists()


def test_changes_are_made_in_toml():
    table = changed(
        {"optimiser": {"clip_norm": 1.0}},
        ["optimiser.learning_rate = 1e-3", "model=x", "frozen=['a.']"],
    )
    assert table == {
        "optimiser": {"clip_norm": 1.0, "learning_rate": 1e-3},
        "model": "x",
        "frozen": ["a."],
    }
