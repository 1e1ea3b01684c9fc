"""A first box that no tracker can start on names its file and line, at whichever door it comes in.

The doors are the commands that take boxes from a dataset; a box that was typed names its option.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluation_material import write_dataset
from rgbt_fusion.cli import main

BAD_BOXES = {
    "no size": ("5,5,0,0", "must be finite with width and height above 0"),
    "nan": ("nan,nan,nan,nan", "must be finite with width and height above 0"),
    "outside": ("900,5,10,10", "must lie in the frame of 64 x 48 pixels"),
    "fractions": ("0.1,0.2,0.1,0.2", "which look like fractions of the frame"),
}


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[object, str]:
    """Run a command; return its status and all that it says."""
    with pytest.raises(SystemExit) as left:
        main([*map(str, arguments)])
    said = capsys.readouterr()
    return left.value.code, said.out + said.err


def begin(root: Path, name: str, box: str, *, empty: int = 0) -> Path:
    """Let a sequence begin with a box, behind some empty lines; return the first file."""
    for file in ("visible.txt", "infrared.txt"):
        path = root / name / file
        others = path.read_text().splitlines()[1:]
        path.write_text("\n" * empty + "\n".join([box, *others]) + "\n")
    return root / name / "visible.txt"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data", {"a": 3, "b": 3})


EVAL = ("eval", "--benchmark", "rgbt234", "--model", "ncc")
COMPARE = ("compare", "--model", "ncc")
DOORS: dict[str, Callable[[Path, Path], tuple[object, ...]]] = {
    "eval": lambda root, out: (*EVAL, "--root", root, "--out", out),
    "compare": lambda root, out: (*COMPARE, "--data", root, "--out", out),
    "track": lambda root, out: (
        *("track", root / "a", "--layout", "rgbt234", "--model", "ncc", "--txt", out / "a.txt"),
    ),
}


@pytest.mark.parametrize("box", BAD_BOXES)
@pytest.mark.parametrize("door", DOORS)
def test_every_door_names_file_and_line(
    door: str, box: str, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, rule = BAD_BOXES[box]
    file = begin(dataset, "a", text, empty=2)
    status, said = command(capsys, *DOORS[door](dataset, tmp_path / "out"))
    assert status, said
    assert f"{file}, line 3: the box to start on must" in said
    assert rule.removeprefix("must ") in said
    assert "box_xywh_px" not in said and "--init" not in said


@pytest.fixture
def refused_by_track(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """What ``track`` says with some options to a first box without size."""
    begin(dataset, "a", "5,5,0,0")

    def refused(*options: str) -> str:
        status, said = command(capsys, *DOORS["track"](dataset, tmp_path), *options)
        assert status == 2
        return said

    return refused


def test_a_typed_box_names_its_option(refused_by_track: Callable[..., str]) -> None:
    said = refused_by_track("--init", "5,5,0,0")
    assert "--init must be finite with width and height above 0" in said
    assert "visible.txt" not in said


def test_the_thermal_file_is_named_where_thermal_is_taken(
    dataset: Path, refused_by_track: Callable[..., str]
) -> None:
    said = refused_by_track("--arrangement", "tir-only")
    assert f"{dataset / 'a' / 'infrared.txt'}, line 1: the box to start on" in said


def test_data_check_names_both_files(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = begin(dataset, "a", "5,5,0,0")
    status, said = command(capsys, "data", "check", dataset, "--layout", "rgbt234")
    assert status == 1
    assert f"a: box: {file}, line 1: the first box (colour) has no size" in said
    thermal = file.with_name("infrared.txt")
    assert f"a: box: {thermal}, line 1: the first box (second modality) has no size" in said


@pytest.mark.parametrize(
    ("box", "said_of_it"),
    [("5,5,0,0", "a has no box to start on in {}"), ("900,5,9,9", "{}: the box to start on must")],
)
def test_the_validation_of_a_training_names_file_and_line(
    box: str,
    said_of_it: str,
    dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = begin(dataset, "a", box)
    settings = {
        "steps": 1,
        "batch_size": 1,
        "overrides": {"depth": 1, "dim": 16, "num_heads": 1},
        "data.workers": 0,
        "data.layout": "rgbt234",
        "optimiser.warmup_steps": 0,
        "validation.every": 1,
        "validation.frames": 2,
    }
    options = [("--set", f"{name}={toml(value)}") for name, value in settings.items()]
    names = tmp_path / "names.txt"
    names.write_text("a\n")
    places = ("--data", dataset, "--validation-names", names, "--out", tmp_path / "run")
    flat = [text for option in options for text in option]
    status, said = command(capsys, "train", "ainet_tiny_128_synthetic", *places, *flat)
    assert status, said
    assert said_of_it.format(f"{file}, line 1") in said


def toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}={one}" for name, one in value.items()) + "}"
    return json.dumps(value)


def test_a_file_of_json_is_named_without_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_dataset(tmp_path / "data", {"a": 3}, layout="antiuav410")
    (file,) = root.glob("a/*.json")
    boxes = json.loads(file.read_text())
    boxes["gt_rect"][0] = [5, 5, 0, 0]
    file.write_text(json.dumps(boxes))
    options = ("--benchmark", "antiuav410", "--model", "ncc", "--root", root)
    status, said = command(capsys, "eval", *options, "--out", tmp_path / "out")
    assert status, said
    assert f"{file}: the box to start on must be finite" in said
