"""Trackers side by side: on the held-out world, on sequences of one's own, with one modality
hidden."""

import json
import re

import pytest

from evaluation_material import write_dataset
from rgbt_fusion.cli import main
from rgbt_fusion.weights.checkpoints import save_checkpoint
from rgbt_fusion.weights.pretrained import PRETRAINED, create_model


def run(*arguments: object) -> object:
    with pytest.raises(SystemExit) as left:
        main(["compare", *map(str, arguments)])
    return left.value.code


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "mine.safetensors"
    save_checkpoint(create_model("ostrack_tiny_128", depth=1), path)
    return path


def test_beside_template_matching_and_single_modalities(weights, tmp_path, capsys):
    out, numbers = tmp_path / "boxes", tmp_path / "numbers.json"
    arguments = ["--model", weights, "--rgb-model", weights, "--sequences", 1, "--frames", 2]
    assert run(*arguments, "--halves", "--out", out, "--json", numbers) == 0
    told = capsys.readouterr().out
    assert "6 sequences, 12 frames of the held-out synthetic world" in told
    assert "| thermal_crossover | 1 |" in told
    halves = [
        f"{name}, {shown} shown"
        for name in ("mine", "template matching")
        for shown in ("RGB", "TIR")
    ]
    names = ["template matching", "trained on RGB alone", *halves]
    for name in names:
        assert re.search(rf"^mine minus {re.escape(name)}: [+-]0\.\d{{3}}$", told, re.M)
    started = (
        "mine, TIR shown, template matching, TIR shown: started on the box of the thermal image"
    )
    assert started in told
    assert "boxes differ in 1 of 6 sequences, by up to" in told
    assert "hold together for 6 comparisons (max-t)" in told
    found = json.loads(numbers.read_text())
    low, high = (found["mine"]["intervals"]["MSR"][end] for end in ("low", "high"))
    assert low <= found["mine"]["success"] <= high
    assert len(found["mine"]["above"]) == 6
    assert list(found) == ["mine", *names]
    assert found["mine"]["groups"].keys() == {
        "none",
        "night",
        "glare",
        "thermal_crossover",
        "misalignment",
        "missing",
    }
    assert (out / "mine_RGB_shown" / "synthetic_none_0.txt").is_file()
    # the boxes are there already
    assert run(*arguments, "--out", out) == 0
    assert capsys.readouterr().out.splitlines()[0] == told.splitlines()[0]


def test_on_real_sequences(tmp_path, weights, capsys):
    write_dataset(tmp_path / "mine", {"walk": 3})
    assert run("--model", weights, "--data", tmp_path / "mine") == 0
    told = capsys.readouterr().out
    assert "1 sequences, 3 frames of mine" in told
    assert "| walk | 1 |" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--checkpoint", "absent.safetensors"],
            "--checkpoint must be a file, got absent.safetensors",
        ),
        (["--model", "magic"], "package.module:function, got 'magic'"),
        (["--model", "ncc", "--data", "absent"], "absent"),
        (["--size-growth", "0.5"], "--size-growth must be a number of at least 1, got 0.5"),
        (
            ["--model", "ncc", "--smallest-px", "2"],
            "--smallest-px must come with a network, not with ncc",
        ),
    ],
)
def test_mistakes_end_in_one_line(arguments, message, capsys):
    assert run(*arguments) == 2
    assert message in capsys.readouterr().err


def test_weights_that_the_package_lacks_are_named(monkeypatch, capsys):
    monkeypatch.setitem(PRETRAINED, "ainet_tiny_128", "absent.safetensors")
    assert run("--sequences", 1, "--frames", 2) == 2
    assert "absent.safetensors" in capsys.readouterr().err
