"""The study from the command line: tables of what was tried, and one clear line for a mistake."""

import json

import pytest

from benchmarks.__main__ import main
from benchmarks.study.records import append_trial
from benchmarks.study.variants import IMPERFECT_CAMERA_VARIANTS, VARIANTS, choose_variants
from study_material import IMPERFECT, trial


def run(*arguments: object) -> object:
    with pytest.raises(SystemExit) as left:
        main(["study", *map(str, arguments)])
    return left.value.code


@pytest.fixture
def results(tmp_path):
    path = tmp_path / "results.jsonl"
    for name, success in (("student", 0.4), ("distilled", 0.5), ("prompter", 0.6)):
        for seed in (1, 2):
            append_trial(path, trial(name, seed, success + (2 * seed - 3) / 100))
    return path


def test_tables_and_plots_without_training(results, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert run("--table", results, "--plots", tmp_path / "plots") == 0
    out = capsys.readouterr().out
    assert "| one-stream student, distilled | 1, 2 | 0.500 (0.490 to 0.510) |" in out
    assert "| the distilled student against its teacher | 0.500 (0.490 to 0.510) |" in out
    assert "| -0.100 |" in out
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == [
        "study-distillation.png",
        "study-success.png",
    ]


def test_tables_into_a_page(results, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("<!-- study -->\n<!-- /study -->\n")
    assert run("--table", results, "--into", page) == 0
    assert "the distilled student against the same alone" in page.read_text()
    assert capsys.readouterr().out == ""


def test_tables_and_plots_of_imperfect_cameras(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    path = tmp_path / "results.jsonl"
    for seed in (1, 2):
        append_trial(path, trial("rgb", seed, 0.4, IMPERFECT))
        append_trial(path, trial("tir", seed, 0.3, IMPERFECT))
        aligned = trial("sum", seed, 0.5, IMPERFECT)
        append_trial(path, trial("sum", seed, 0.2, IMPERFECT, aligned=aligned))
    assert run("--table", path, "--plots", tmp_path / "plots") == 0
    out = capsys.readouterr().out
    assert "| plain sum, aligned | 9 of 9 | night +0.100 | +0.100 | +0.100 | yes |" in out
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == [
        "study-imperfect-cameras.png",
        "study-success.png",
    ]


def test_a_small_study(tmp_path, capsys):
    sizes = [
        "--steps",
        1,
        "--batch-size",
        2,
        "--backbone-steps",
        1,
        "--sequences",
        1,
        "--frames",
        2,
    ]
    assert (
        run("--out", tmp_path, "--seeds", "3", "--variants", "sum", *sizes, "--device", "cpu") == 0
    )
    written = capsys.readouterr()
    assert "plain sum, seed 3: success 0." in written.err
    assert "| plain sum | 3 |" in written.out
    (line,) = (tmp_path / "results.jsonl").read_text().splitlines()
    assert json.loads(line)["settings"]["steps"] == 1


@pytest.mark.parametrize(
    ("arguments", "settings", "variants"),
    [
        ([], (False, 0.0, 0.0), None),
        (["--imperfect-cameras"], (True, 0.4, 0.15), IMPERFECT_CAMERA_VARIANTS),
        (
            ["--imperfect-cameras", "--misalignment", "0", "--failing", "0.3"],
            (True, 0.0, 0.3),
            IMPERFECT_CAMERA_VARIANTS,
        ),
        (["--misalignment", "0.2", "--variants", "sum"], (False, 0.2, 0.0), ["sum"]),
        (["--imperfect-cameras", "--variants", "dfm"], (True, 0.4, 0.15), ["dfm"]),
        (["--imperfect-cameras", "--ablation"], (True, 0.4, 0.15), list(VARIANTS)),
    ],
)
def test_what_is_trained(arguments, settings, variants, tmp_path, monkeypatch):
    asked = []

    def study(out, variants, seeds, settings, **options):
        asked.append((variants, settings))
        return [trial("sum", 1, 0.5)]

    monkeypatch.setattr("benchmarks.study.trials.run_study", study)
    monkeypatch.setattr("benchmarks.study.command._show", lambda *shown: None)
    assert run("--out", tmp_path, *arguments) == 0
    ((names, made),) = asked
    assert (made.imperfect_cameras, made.misalignment, made.failing) == settings
    assert names == (choose_variants() if variants is None else list(variants))
    assert made.steps == 500


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--out must be given"),
        (
            ["--out", "there", "--seeds", "1;2"],
            "--seeds must be whole numbers with commas between them, got '1;2'",
        ),
        (["--out", "there", "--variants", "magic"], "variants must be among rgb, tir, sum"),
        (["--out", "there", "--steps", "0"], "steps must be at least 1, got 0"),
        (
            ["--out", "there", "--imperfect-cameras", "--misalignment", "3"],
            "misalignment must be a finite number in [0, 2], got 3",
        ),
        (["--out", "there", "results.jsonl"], "must come with --table"),
        (["--table"], "at least one trial, got none"),
    ],
)
def test_mistakes_end_in_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_ctrl_c_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def study(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("benchmarks.study.trials.run_study", study)
    assert run("--out", tmp_path, "--variants", "sum") == 130
    assert "stopped: run the same command again to resume" in capsys.readouterr().err
