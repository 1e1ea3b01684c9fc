"""The report is one file, shows pictures, and lets nothing from a file name into its HTML."""

import re
from base64 import b64decode

import numpy as np
import pytest

from rgbt_fusion.data.sequences import open_dataset
from rgbt_fusion.evaluation import report
from rgbt_fusion.evaluation.report import write_report
from rgbt_fusion.evaluation.scoring import BenchmarkTruth, score
from rgbt_fusion.frames.types import GroundTruth

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")

BOXES = np.tile([30.0, 20, 20, 20], (6, 1))


@pytest.fixture
def dataset(tmp_path):
    """Two sequences in RGBT234's layout, one with 16-bit thermal images and one with a damaged
    image."""
    for name in ("deep", "damaged"):
        for folder in ("visible", "infrared"):
            (tmp_path / name / folder).mkdir(parents=True)
            for k in range(6):
                image = np.full((80, 100, 3), 10 * k, dtype=np.uint8)
                if folder == "infrared" and name == "deep":
                    image = np.arange(8000, dtype=np.uint16).reshape(80, 100)
                cv2.imwrite(str(tmp_path / name / folder / f"{k}.png"), image)
        for file in ("visible.txt", "infrared.txt"):
            np.savetxt(tmp_path / name / file, BOXES, delimiter=",")
    (tmp_path / "damaged" / "visible" / "5.png").write_bytes(b"no image")
    return tmp_path


def test_one_file_with_everything(dataset, tmp_path):
    truth = {name: GroundTruth(BOXES, BOXES, np.arange(6)) for name in ("deep", "damaged")}
    benchmark = BenchmarkTruth("rgbt234", truth, dict.fromkeys(("TC", "LI", "FM"), ("deep",)))
    trackers = [
        score(dict.fromkeys(truth, BOXES + shift), benchmark, tracker=f"shifted {shift}")
        for shift in (1, 900)
    ]
    images = {sequence.name: sequence for sequence in open_dataset(dataset, "rgbt234").sequences}
    page = write_report(trackers, tmp_path / "report.html", truth=truth, images=images).read_text()
    assert len(re.findall("data:image/svg", page)) == 4
    assert len(re.findall("data:image/jpeg", page)) >= 3
    assert "5.png cannot be decoded" in page
    # nothing is fetched from anywhere
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
    # own numbers, further ones, differences, attributes, and the sequences of two trackers
    assert page.count("<table>") == 6
    assert page.count("overlap (IoU)</text>") == 2
    assert page.count("frame (shaded: target absent)</text>") == 2
    assert re.search(
        r"second modality below\. Overlap: shifted 1 0\.\d\d, shifted 900 0\.00<", page
    )
    assert 'td class="best"' in page
    assert "95 % intervals over 2 sequences" in page
    assert "shifted 1 - shifted 900" in page
    assert "<th>miss_count</th>" in page


def test_without_images_all_pictures_of_a_sequence_are_alike(tmp_path):
    track = BOXES + np.arange(6)[:, None] * np.array([40, 1, 0, 0])
    truth = {"a": GroundTruth(track, track, np.arange(6))}
    scores = score({"a": track + 3000.0}, BenchmarkTruth("rgbt234", truth, {}))
    page = write_report([scores], tmp_path / "report.html", truth=truth).read_text()
    pictures = [
        np.frombuffer(b64decode(data), np.uint8)
        for data in re.findall('image/jpeg;base64,([^"]+)"', page)
    ]
    shapes = {cv2.imdecode(picture, cv2.IMREAD_COLOR).shape for picture in pictures}
    assert shapes == {(270, 360, 3)}


def test_names_are_text_not_markup(tmp_path):
    name = "<script>alert(1)</script>"
    truth = {name: GroundTruth(BOXES, BOXES, np.arange(6))}
    scores = score({name: BOXES}, BenchmarkTruth("lasher", truth, {}), tracker="<b>mine</b>")
    page = write_report([scores], tmp_path / "report.html", truth=truth).read_text()
    assert "<script>" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;" in page


def test_boxes_that_cannot_be_drawn_are_left_out(tmp_path):
    truth = {"a": GroundTruth(BOXES, BOXES, np.arange(6))}
    boxes = BOXES.copy()
    boxes[3:] = np.nan
    boxes[2] = [1e12, -1e12, 1e30, 5]
    scores = score({"a": boxes}, BenchmarkTruth("rgbt234", truth, {}))
    assert "a, frame 1" in write_report([scores], tmp_path / "report.html", truth=truth).read_text()


def test_bad_settings(tmp_path):
    scores = score(
        {"a": BOXES}, BenchmarkTruth("lasher", {"a": GroundTruth(BOXES, BOXES, np.arange(6))}, {})
    )
    with pytest.raises(ValueError, match="worst must be at least 1, got 0"):
        write_report([scores], tmp_path / "report.html", worst=0)
    with pytest.raises(ValueError, match="scores must hold at least one tracker"):
        write_report([], tmp_path / "report.html")


def test_a_tracker_has_the_colour_of_its_curve():
    from matplotlib.colors import TABLEAU_COLORS, to_rgb

    expected = [tuple(round(255 * part) for part in to_rgb(name)) for name in TABLEAU_COLORS]
    assert list(report._COLOURS) == expected


@pytest.mark.parametrize(
    ("flags", "runs"),
    [
        ("110100111", [(0, 1), (3, 3), (6, 8)]),
        ("011", [(1, 2)]),
        ("000", []),
        ("", []),
    ],
)
def test_runs_of_absence_end_with_their_last_frame(flags, runs):
    assert report._runs(np.array([flag == "1" for flag in flags], dtype=bool)) == runs


@pytest.mark.parametrize(
    ("box", "height", "width"),
    [
        # a tenth more than the right edge at 310, in 4 to 3
        ((10, 20, 300, 100), 255, 341),
        # a tenth more than the lower edge at 600
        ((10, 200, 30, 400), 660, 880),
        ((1, 1, 5, 5), 69, 93),
        ((0, 0, 9000, 20), 3072, 4096),
        ((float("nan"), 0, 1, 1), 69, 93),
    ],
)
def test_an_empty_picture_holds_the_whole_track(box, height, width):
    picture = report._empty_frame(np.array([box], dtype=np.float64)).rgb
    assert picture.shape == (height, width, 3)


def test_the_timeline_has_its_axes_lines_and_shades_in_place():
    """The axis is 130 high and goes from 84 to 1430: 1346 for the five steps of six frames."""
    track = BOXES.copy()
    track[2:4] = 0  # without the target
    truth = {"a": GroundTruth(track, track, np.arange(6))}
    found = BOXES.copy()
    found[1, 2] = 10  # half of the target
    found[4:, 0] += 500
    scores = score({"a": found}, BenchmarkTruth("lasher", truth, {}))
    drawn = report._timeline("a", [scores], [1])
    words = re.findall(
        r'<text x="(\d+)" y="(\d+)" text-anchor="(?:end|middle)">([^<]+)</text>', drawn
    )
    levels = [word for word in words if word[0] == "76"]
    assert levels == [("76", "136", "0"), ("76", "71", "0.5"), ("76", "6", "1")]
    frames = [(int(x), int(number)) for x, y, number in words if y == "152"]
    assert frames == [(84, 1), (353, 2), (622, 3), (892, 4), (1430, 6)]
    lines = re.findall(r'<line x1="84" x2="1430" y1="(\d+)" y2="(\d+)"', drawn)
    assert lines == [("130", "130"), ("65", "65"), ("0", "0")]
    (shade,) = re.findall(r'<rect x="(\d+)" y="0" width="(\d+)" height="130" fill="#8884">', drawn)
    assert shade == ("622", "269")
    (picture,) = re.findall(r'<line x1="(\d+)" x2="(\d+)" y1="0" y2="130"', drawn)
    assert picture == ("353", "353")
    (points,) = re.findall(r'points="([^"]+)"', drawn)
    assert points.split()[:2] == ["84,0", "353,65"]
    assert points.split()[-2:] == ["1161,130", "1430,130"]
