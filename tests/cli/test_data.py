"""The check of a dataset, from the command line: one clear line for each thing that is wrong."""

import re
from pathlib import Path

import numpy as np
import pytest

from rgbt_fusion.cli import main

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")


def run(*arguments: object) -> object:
    with pytest.raises(SystemExit) as left:
        main(["data", *map(str, arguments)])
    return left.value.code


@pytest.fixture
def dataset(tmp_path) -> Path:
    for name in ("good", "odd"):
        for folder in ("visible", "infrared"):
            (tmp_path / name / folder).mkdir(parents=True)
            for k in range(4):
                cv2.imwrite(
                    str(tmp_path / name / folder / f"{k}.png"), np.full((24, 32), k, dtype=np.uint8)
                )
        for file in ("visible.txt", "infrared.txt"):
            write_boxes(tmp_path / name / file)
    return tmp_path


def write_boxes(path: Path, **rows: list[float]) -> None:
    table = np.tile([3.0, 4, 5, 6], (4, 1))
    for row, box in rows.items():
        table[int(row[3:])] = box
    np.savetxt(path, table, delimiter=",")


def test_a_dataset_in_order(dataset, capsys):
    assert run("check", dataset) == 0
    written = capsys.readouterr()
    assert written.out == "RGBT234: 2 sequences, 8 frames, 8 boxes, 0 without target, 0 problems\n"
    assert written.err == "layout rgbt234, found out; --layout names another\n"
    assert run("check", dataset, "--layout", "rgbt234", "--images", "size") == 0
    assert capsys.readouterr().err == ""


def damage(dataset: Path, what: str) -> None:
    odd = dataset / "odd"
    image = odd / "visible" / "2.png"
    if what == "damaged":
        image.write_bytes(b"no image")
    elif what == "cut off":
        image.write_bytes(image.read_bytes()[:-20])
    elif what == "empty":
        image.write_bytes(b"")
    elif what == "missing":
        image.unlink()
    elif what == "extra":
        cv2.imwrite(str(odd / "visible" / "9.png"), np.zeros((24, 32), np.uint8))
    elif what == "size":
        cv2.imwrite(str(image), np.zeros((30, 32), np.uint8))
    elif what == "no images":
        for path in (odd / "infrared").iterdir():
            path.unlink()
    elif what == "no boxes":
        (odd / "visible.txt").write_text("")
    elif what == "words":
        (odd / "visible.txt").write_text("1,2,3,4\n1,two,3,4\n")
    elif what == "columns":
        (odd / "visible.txt").write_text("1,2,3\n")
    elif what == "outside":
        write_boxes(odd / "visible.txt", row2=[40, 4, 5, 6])
    elif what == "no size":
        write_boxes(odd / "visible.txt", row0=[3, 4, 0, 6])


@pytest.mark.parametrize(
    ("what", "status", "message"),
    [
        ("damaged", 1, "odd: image: .*2.png cannot be decoded: it is damaged, or no PNG, .* file"),
        ("cut off", 1, "odd: image: .*2.png is cut off: [0-9]+ bytes without an end of image"),
        ("empty", 1, "odd: image: .*2.png is empty"),
        (
            "missing",
            1,
            "odd: sequence: .*visible must hold an image for each of 4 annotations, got 3",
        ),
        ("extra", 0, "odd: notice: 1 images of visible beyond the last annotated one are left out"),
        ("size", 1, r"odd: size: .*2.png is 32x30, most are 32x24 \(1 differ\)"),
        ("no images", 1, "odd: sequence: .*infrared must hold images, but is empty"),
        ("no boxes", 1, "odd: sequence: .*visible.txt must hold numbers, but it is empty"),
        (
            "words",
            1,
            "odd: sequence: .*visible.txt, line 2: must hold numbers only, got '1 two 3 4'",
        ),
        (
            "columns",
            1,
            "odd: sequence: .*visible.txt, line 1: must have 4 or 8 numbers, got 3: '1 2 3'",
        ),
        ("outside", 1, r"odd: box: 1 boxes \(frames 3\) outside the image of 32x24 \(colour\)"),
        (
            "no size",
            1,
            r"odd: box: .*visible.txt, line 1: the first box .* has no size: \[3.0, 4.0, .*",
        ),
    ],
)
def test_each_thing_that_is_wrong_is_one_line(dataset, capsys, what, status, message):
    damage(dataset, what)
    assert run("check", dataset) == status
    lines = capsys.readouterr().out.splitlines()[1:]
    assert len([line for line in lines if re.fullmatch(message, line)]) == 1
    assert all("notice" in line for line in lines if not re.fullmatch(message, line))


def test_only_some_sequences_and_problems(dataset, capsys):
    for name in "0123":
        (dataset / "odd" / "visible" / f"{name}.png").write_bytes(b"")
    assert run("check", dataset, "--most", "2") == 1
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 4
    assert out[-1] == "and 2 more; --most 0 shows all"
    assert run("check", dataset, "--most", "0") == 1
    assert len(capsys.readouterr().out.splitlines()) == 5
    (dataset / "list.txt").write_text("good\n")
    assert run("check", dataset, "--sequences", dataset / "list.txt") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{root}/gone"], "root must be a folder with sequences, got"),
        (
            ["{root}/good/visible"],
            "holds no complete sequence of any layout; name its layout: gtot, ",
        ),
        (["{root}", "--layout", "imagenet"], "layout must be one of 'gtot', .* got 'imagenet'"),
        (["{root}", "--images", "all"], "images must be 'decode', 'size' or 'none', got 'all'"),
        (["{root}", "--threads", "0"], "--threads must be at least 1, got 0"),
        (["{root}", "--most", "-1"], "--most must be at least 0, got -1"),
        (["{root}", "--sequences", "{root}/gone.txt"], "gone.txt cannot be read: No such file"),
    ],
)
def test_a_wrong_call_is_one_line(dataset, capsys, arguments, message):
    assert run("check", *(text.format(root=dataset) for text in arguments)) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert re.search(message, written.err.splitlines()[-1])
