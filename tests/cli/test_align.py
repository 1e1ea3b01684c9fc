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
    for option in (("--align", "auto"), ("--fit",), ("--homography", "h.txt"), ("--times",)):
        status, _, messages = run(capsys, "eval", tmp_path, "--benchmark", "rgbt234", *option)
        assert status == 2
        assert f"{option[0]} must come with --model" in messages


def small_thermal_dataset(root: Path, frames: int = 3) -> tuple[Path, Path]:
    """A sequence twice, with thermal images as large as the colour images, and half as large."""
    from rgbt_fusion.synthetic.world import SyntheticSequence

    sequence = SyntheticSequence(3, frames=frames, challenge="none")
    for name, factor in (("whole", 1), ("small", 2)):
        for modality in ("rgb", "tir"):
            (root / name / "boy" / modality).mkdir(parents=True)
        for number, (rgb, tir) in enumerate(sequence):
            size = (tir.shape[1] // factor, tir.shape[0] // factor)
            seen = cv2.resize(tir, size, interpolation=cv2.INTER_AREA)
            folder = root / name / "boy"
            cv2.imwrite(str(folder / "rgb" / f"{number}.png"), rgb[:, :, ::-1])
            cv2.imwrite(str(folder / "tir" / f"{number}.png"), seen)
        truth = root / name / "boy" / "groundtruth.txt"
        np.savetxt(truth, sequence.truth.rgb, delimiter=",", fmt="%.2f")
    return root / "whole", root / "small"


HALF = "0.5 0 -0.25\n0 0.5 -0.25\n0 0 1\n"


def test_thermal_images_of_half_the_size_are_scored_as_those_of_the_whole(capsys, tmp_path):
    whole, small = small_thermal_dataset(tmp_path)
    half = tmp_path / "half.txt"
    half.write_text(HALF)
    options = ("eval", "--benchmark", "folder", "--model", "ncc", "--format", "csv")
    assert run(capsys, *options, "--root", whole, "--out", tmp_path / "a")[0] == 0
    for number, option in enumerate((("--fit",), ("--homography", half))):
        out = tmp_path / f"b{number}"
        status, _, messages = run(capsys, *options, "--root", small, "--out", out, *option)
        assert status == 0, messages
        np.testing.assert_allclose(
            np.loadtxt(out / "boy.txt", delimiter=","),
            np.loadtxt(tmp_path / "a" / "boy.txt", delimiter=","),
            atol=1.01,
        )
    # another alignment is another run
    out = tmp_path / "b1"
    half.write_text(HALF.replace("-0.25", "9"))
    status, _, messages = run(capsys, *options, "--root", small, "--out", out, "--homography", half)
    assert status == 2
    assert "were made with align" in messages
    status, _, messages = run(capsys, *options, "--root", small, "--out", tmp_path / "c")
    assert status == 2
    assert "give --fit, --homography or --align" in messages


def test_compare_and_train_take_the_same_options_and_name_them(capsys, tmp_path):
    _, small = small_thermal_dataset(tmp_path)
    data = ("--data", small)
    compared = ("compare", "--model", "ainet_tiny_128", *data, "--layout", "folder")
    status, told, messages = run(capsys, *compared, "--fit")
    assert (status, "1 sequences, 3 frames of small" in told) == (0, True), messages
    status, _, messages = run(capsys, *compared)
    assert (status, "give --fit, --homography or --align" in messages) == (2, True)

    half = tmp_path / "half.txt"
    half.write_text(HALF)
    settings = ("steps=1", "batch_size=1", "data.workers=0", "optimiser.warmup_steps=0")
    sets = [part for one in ('data.layout="folder"', *settings) for part in ("--set", one)]
    training = ("train", "ainet_tiny_128_synthetic", *data, *sets, "--device", "cpu")
    status, _, messages = run(capsys, *training, "--out", tmp_path / "run")
    assert status == 2
    assert "both modalities must have one size to train on" in messages
    assert "give --fit, --homography or --align" in messages
    status, _, messages = run(capsys, *training, "--out", tmp_path / "run2", "--homography", half)
    assert status == 0, messages
    # a training is resumed as it was begun
    status, _, messages = run(capsys, *training, "--out", tmp_path / "run2", "--fit")
    assert status == 2
    assert 'align must be \'{"tir_from_rgb": [[0.5, 0.0, -0.25]' in messages
    status, _, messages = run(
        capsys, *training, "--out", tmp_path / "x", "--fit", "--align", "auto"
    )
    assert (status, "--align must not come with --fit" in messages) == (2, True)
    status, _, messages = run(capsys, *training, "--out", tmp_path / "x", "--align", "follow")
    assert (status, "got 'follow', which needs the frames in order" in messages) == (2, True)


def test_points_are_clicked_by_a_person_only(capsys, tmp_path, related):
    status, _, messages = run(capsys, "align", *related, "--pick")
    assert (status, "this is no terminal" in messages) == (2, True)
    status, _, messages = run(capsys, "align", *related, "--port", 8123)
    assert (status, "--port must come with --pick" in messages) == (2, True)
