"""The command from two recordings to a file, a picture, or a refusal that leaves neither."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from alignment_material import SIZE, known_matrix, two_views
from rgbt_fusion.alignment.estimate import read_alignment
from rgbt_fusion.alignment.geometry import distance
from rgbt_fusion.cli import main

QUICK = ("--frames", 1, "--model", "similarity")


def run(capsys, *arguments: object) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as left:
        main(list(map(str, arguments)))
    written = capsys.readouterr()
    return left.value.code, written.out, written.err


def write(folder: Path, images) -> Path:
    folder.mkdir()
    for number, image in enumerate(images):
        seen = image[:, :, ::-1] if image.ndim == 3 else image
        cv2.imwrite(str(folder / f"{number}.png"), seen)
    return folder


@pytest.fixture
def related(tmp_path):
    rgb, tir = two_views(1, known_matrix())
    return write(tmp_path / "rgb", [rgb] * 3), write(tmp_path / "tir", [tir] * 3)


@pytest.fixture
def unrelated(tmp_path):
    rgb, _ = two_views(3, np.eye(3))
    _, tir = two_views(4, np.eye(3))
    return write(tmp_path / "rgb", [rgb]), write(tmp_path / "tir", [tir])


def test_two_recordings_become_a_file_and_a_picture(capsys, tmp_path, related):
    out, sheet = tmp_path / "align.json", tmp_path / "sheet.png"
    status, told, messages = run(
        capsys, "align", *related, *QUICK, "--out", out, "--preview", sheet
    )
    assert status == 0, told
    assert told.startswith("scale 1.20")
    assert messages.endswith(f"wrote {out}\n")
    found = read_alignment(out).tir_from_rgb
    assert distance(known_matrix(), found, SIZE) * SIZE[0] < 1
    assert cv2.imread(str(sheet)).shape[1] == 960


def test_what_is_not_sure_has_status_3_and_no_file(capsys, tmp_path, unrelated):
    out = tmp_path / "align.json"
    status, told, _ = run(capsys, "align", *unrelated, *QUICK, "--out", out)
    assert status == 3
    assert told.startswith(("not sure: too little", "not sure: two placements fit equally well"))
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model", "shift"), "--model must be one of 'similarity', 'affine', 'homography'"),
        (("--frames", 0), "--frames must be at least 1"),
        (("--max-offset", -1), "--max-offset must be at least 0"),
        (("--preview", "sheet.gif"), "the ending of --preview must be one of '.png'"),
        (("--out", "nowhere/align.json"), "nowhere must be a folder"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_read(
    capsys, tmp_path, monkeypatch, options, message
):
    monkeypatch.chdir(tmp_path)
    status, _, messages = run(capsys, "align", "rgb", "tir", *options)
    assert status == 2
    assert message in messages
    assert not list(tmp_path.iterdir())


def test_a_file_is_not_replaced_unless_asked(capsys, tmp_path, related):
    out = tmp_path / "align.json"
    out.write_text("mine")
    status, _, messages = run(capsys, "align", *related, "--out", out)
    assert (status, out.read_text()) == (2, "mine")
    assert "give --force to replace it" in messages


TRACK = ("--init", "100,80,60,60", "--model", "ncc", "--frames", 2)


def test_a_tracker_takes_the_file(capsys, tmp_path, related):
    known = tmp_path / "known.json"
    known.write_text(json.dumps({"tir_from_rgb": known_matrix().tolist()}))
    txt = tmp_path / "boxes.txt"
    status, _, messages = run(capsys, "track", *related, *TRACK, "--align", known, "--txt", txt)
    assert status == 0, messages
    assert messages.startswith("aligned: scale 1.200, turn +3.00 degrees")
    boxes = np.loadtxt(txt, delimiter=",")
    np.testing.assert_allclose(boxes[1], [100, 80, 60, 60], atol=1)


def test_a_tracker_goes_on_unaligned_where_it_is_not_sure(capsys, tmp_path, unrelated):
    txt = tmp_path / "boxes.txt"
    status, _, messages = run(
        capsys, "track", *unrelated, *TRACK[:-2], "--align", "auto", "--txt", txt
    )
    assert status == 0, messages
    assert messages.startswith("warning: goes on unaligned: t")
    assert txt.exists()


def test_a_tracker_takes_one_alignment(capsys, tmp_path, related):
    txt = tmp_path / "boxes.txt"
    options = ("--align", "auto", "--offset", "1,2", "--init", "100,80,60,60", "--txt", txt)
    status, _, messages = run(capsys, "track", *related, *options)
    assert status == 2
    assert "--align must not come with --offset" in messages


def test_results_that_were_made_elsewhere_cannot_be_aligned(capsys, tmp_path):
    options = ("--benchmark", "rgbt234", "--align", "auto")
    status, _, messages = run(capsys, "eval", tmp_path, *options)
    assert status == 2
    assert "--align and --missing must come with --model" in messages
