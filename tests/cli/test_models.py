"""``rgbt-fusion models``: every preset with its figures, and filters that leave out the others."""

import json

import pytest

from rgbt_fusion.cli import main
from rgbt_fusion.models.presets import MODELS, list_models
from rgbt_fusion.weights.pretrained import AUTHORS_FILES, PRETRAINED


def run(capsys, *arguments: str) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as left:
        main(["models", *arguments])
    written = capsys.readouterr()
    return left.value.code, written.out, written.err


def names(capsys, *arguments: str) -> list[str]:
    status, out, _ = run(capsys, *arguments, "--json")
    assert status == 0
    return [row["name"] for row in json.loads(out)]


def test_every_preset_has_its_line(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    status, out, err = run(capsys)
    assert (status, err) == (0, "")
    lines = {line.split()[0]: line for line in out.splitlines()[1:]}
    assert list(lines) == list_models()
    assert lines["ainet_vitb_256"].split()[1:8] == [
        "AINet", "128", "/", "256", "133.6", "M", "84.96",
    ]  # fmt: skip
    assert "in the package" in lines["ainet_tiny_128"]
    assert "AINet (Lu et al." in lines["ainet_vitb_256_released"]
    assert "none: rgbt-fusion train" in lines["ainet_vits_256"]


def test_words_choose_by_name(capsys):
    assert names(capsys, "AINet", "384") == [
        name for name in MODELS if "ainet" in name and "384" in name
    ]


def test_figures_choose_by_size(capsys):
    small = names(capsys, "--most-parameters", "30", "--most-gmacs", "10")
    assert "ostrack_vits_256" in small
    assert "two_stream_vits_256" not in small
    assert "ostrack_vitb_256" not in small


def test_weights_choose_what_can_be_run(capsys):
    assert set(names(capsys, "--weights")) == {*PRETRAINED, *AUTHORS_FILES}


def test_the_json_builds_the_preset_again(capsys):
    (row,) = json.loads(run(capsys, "ainet_tiny_128_compact", "--json")[1])
    assert row["options"] == {"inner_width": 8}
    assert row["settings"]["dim"] == 128
    assert row["weights"] == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["aient"], "got 'aient'; did you mean 'ainet'? no preset is left"),
        (["--most-gmacs", "0"], "no preset is left"),
        (["--most-gmacs", "nan"], "--most-gmacs must be a finite number"),
    ],
)
def test_a_filter_that_leaves_nothing_is_refused(capsys, arguments, message):
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert message in err
