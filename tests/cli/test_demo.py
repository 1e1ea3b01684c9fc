"""The first thing a newcomer sees: a film, a plot, scores and one page of all, without a
download."""

import base64
import json
import re

import pytest

from rgbt_fusion.cli import main
from rgbt_fusion.cli.demo import SCENES, _should_open
from rgbt_fusion.synthetic.world import SyntheticSequence
from rgbt_fusion.video.film import default_ending
from rgbt_fusion.weights.checkpoints import save_checkpoint
from rgbt_fusion.weights.pretrained import PRETRAINED, create_model

FILM = f"film{default_ending()}"


def run(*arguments: object) -> object:
    with pytest.raises(SystemExit) as left:
        main(["demo", *map(str, arguments)])
    return left.value.code


def test_a_film_a_plot_scores_and_a_page(tmp_path, capsys):
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    weights, out = tmp_path / "mine.safetensors", tmp_path / "out"
    save_checkpoint(create_model("ostrack_tiny_128", depth=1), weights)
    assert run("--model", weights, "--frames", 3, "--out", out, "--no-open") == 0
    told = capsys.readouterr().out
    assert told.startswith("| success | mine | template matching |")
    assert "15 frames in" in told
    assert {path.name for path in out.iterdir()} == {
        FILM,
        "index.html",
        "overlap.png",
        "scores.json",
    }

    scores = json.loads((out / "scores.json").read_text())
    assert list(scores) == [*(scene.title for scene in SCENES), "all"]
    assert all(0 < value["mine"] < 1 for value in scores.values())
    assert scores["by day"]["template matching"] > scores["by day"]["mine"]

    film = cv2.VideoCapture(str(out / FILM))
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 10  # of three frames of each scene, two are shown
    assert film.get(cv2.CAP_PROP_FRAME_WIDTH) == 800

    page = (out / "index.html").read_text()
    assert not re.search(r"\$[a-z]|https?:", page)
    pictures = json.loads(re.search(r"const pictures = (\[.*?\]),", page)[1])
    assert len(pictures) == 10
    assert base64.b64decode(pictures[0]).startswith(b"\xff\xd8")
    assert f"<td>by day</td><td>{scores['by day']['mine']:.3f}</td>" in page


def test_no_scene_is_one_that_training_shows():
    assert [scene.challenge for scene in SCENES] == [
        "none",
        "night",
        "glare",
        "thermal_crossover",
        "missing",
    ]
    shown = {SyntheticSequence(seed).plan.place for seed in range(200)}
    scenes = {
        SyntheticSequence(one.seed, challenge=one.challenge, held_out=True).plan.place
        for one in SCENES
    }
    assert not shown & scenes


def test_the_page_opens_where_somebody_looks_at_it(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    for name in ("CI", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not _should_open(None)
    assert _should_open(True)
    monkeypatch.setenv("DISPLAY", ":0")
    assert _should_open(None)
    assert not _should_open(False)
    monkeypatch.setenv("CI", "true")
    assert not _should_open(None)


def test_an_installation_without_weights_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(PRETRAINED, "ainet_tiny_128", "absent.safetensors")
    assert run("--out", tmp_path / "out") == 2
    err = capsys.readouterr().err
    assert "the trained weights of ainet_tiny_128 are not in this installation" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_number_of_frames_that_makes_no_film(tmp_path, capsys):
    assert run("--frames", 0, "--out", tmp_path / "out") == 2
    assert "--frames must be at least 1, got 0" in capsys.readouterr().err
