"""The command from its arguments to its files: what it writes, what it refuses, and that a refusal
leaves nothing."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from rgbt_fusion import Tracker
from rgbt_fusion.alignment.aligned_frames import AlignedFrames
from rgbt_fusion.alignment.known import alignment_from_points, fit_source
from rgbt_fusion.cli import main
from rgbt_fusion.data.annotations import read_boxes
from rgbt_fusion.tracking.ncc import NCCTracker
from rgbt_fusion.video.film import default_ending
from rgbt_fusion.video.pick import Picked
from rgbt_fusion.weights.checkpoints import load_model, save_checkpoint
from rgbt_fusion.weights.pretrained import create_model
from shared_material import shared
from tracking_material import BOX
from video_material import Viewer, cv2, split, write_images, write_video

INIT = ",".join(f"{side:g}" for side in BOX)


@pytest.fixture(autouse=True)
def opencv():
    cv2()


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_checkpoint(create_model("ainet_tiny_128", depth=2), path)
    return path


@pytest.fixture
def folders(tmp_path) -> tuple[str, str]:
    rgb, tir = split()
    return str(write_images(tmp_path / "in" / "rgb", rgb)), str(
        write_images(tmp_path / "in" / "tir", tir)
    )


def run(capsys, *arguments: object) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as left:
        main(["track", *map(str, arguments)])
    written = capsys.readouterr()
    return left.value.code, written.out, written.err


def lengths(path: Path) -> tuple[int, int, int]:
    """Frames, width and height of a video."""
    capture = cv2().VideoCapture(str(path))
    count = 0
    while capture.grab():
        count += 1
    size = (
        int(capture.get(cv2().CAP_PROP_FRAME_WIDTH)),
        int(capture.get(cv2().CAP_PROP_FRAME_HEIGHT)),
    )
    capture.release()
    return count, *size


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def test_without_files_the_boxes_are_shown_as_they_come(capsys, tmp_path, folders, weights):
    status, output, messages = run(capsys, *folders, "--init", INIT, "--model", weights)
    assert status == 0
    header, *lines = output.splitlines()
    assert header == "frame,target,left,top,width,height,confidence"
    rows = np.array([[float(value) for value in line.split(",")] for line in lines])
    results = list(Tracker(load_model(weights)).track(list(zip(*split(), strict=True)), BOX))
    assert rows[:, :2].tolist() == [[number, 1] for number in range(5)]
    np.testing.assert_allclose(rows[:, 2:6], [one.box_xywh_px for one in results], atol=1e-3)
    np.testing.assert_allclose(rows[:, 6], [one.confidence for one in results], atol=1e-5)
    assert "5 frames" in messages
    assert "wrote" not in messages
    assert files(tmp_path) == []


def test_a_terminal_shows_one_line_that_is_renewed(capsys, folders, weights, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    status, output, _ = run(capsys, *folders, "--init", INIT, "--model", weights)
    assert status == 0
    assert output.count("\n") == 1
    shown = output.rstrip("\n").split("\r\x1b[K")[1:]
    assert [line.split()[:2] for line in shown] == [["frame", str(number)] for number in range(5)]
    assert all(len(line) < 60 for line in shown)


def test_folders_to_video_and_text(capsys, tmp_path, folders, weights):
    out, txt = tmp_path / "out.webm", tmp_path / "out.txt"
    options = ["--init", INIT, "--out", out, "--txt", txt, "--model", weights, "--debug"]
    status, output, messages = run(capsys, *folders, *options)
    assert (status, output) == (0, "")
    # behind a notice where no ffmpeg is there to write what browsers play
    assert messages.splitlines()[-1].startswith("5 frames, ")
    assert messages.endswith(f"wrote {out} and {txt}\n")
    assert files(tmp_path) == ["out.txt", "out.webm", "out_confidence.txt"]
    results = list(Tracker(load_model(weights)).track(list(zip(*split(), strict=True)), BOX))
    np.testing.assert_allclose(
        read_boxes(txt), [result.box_xywh_px for result in results], atol=1e-3
    )
    confidences = np.loadtxt(tmp_path / "out_confidence.txt")
    np.testing.assert_allclose(confidences, [result.confidence for result in results], atol=1e-5)
    # drawing the panels of the first frame changes nothing that follows
    count, width, height = lengths(out)
    assert (count, height) == (5, 2 * (240 + 26) + 160 + 22)
    assert width == 9 * 160


def test_videos_give_nearly_what_folders_give(capsys, tmp_path, folders):
    start = "64,44,36,28"
    rgb, tir = split()
    both = [
        np.concatenate((a, np.stack([b] * 3, axis=-1)), axis=1)
        for a, b in zip(rgb, tir, strict=True)
    ]
    sources = {
        "folders": folders,
        "videos": (
            write_video(tmp_path / "in" / "a.avi", rgb),
            write_video(tmp_path / "in" / "b.avi", tir),
        ),
        "both": (write_video(tmp_path / "in" / "both.avi", both),),
    }
    for name, places in sources.items():
        status, _, messages = run(
            capsys,
            *places,
            *("--init", start, "--txt", tmp_path / f"{name}.txt", "--model", "ncc"),
            *(("--arrangement", "rgb-left") if name == "both" else ()),
        )
        assert (status, messages[:9]) == (0, "5 frames,")
    found = {name: read_boxes(tmp_path / f"{name}.txt") for name in sources}
    np.testing.assert_allclose(found["videos"], found["folders"], atol=1)
    np.testing.assert_allclose(found["both"], found["folders"], atol=1)
    assert found["folders"][-1].tolist() == [64 + 12, 44 - 8, 36, 28]


def test_several_targets(capsys, tmp_path, folders):
    txt = tmp_path / "out.txt"
    options = [
        "--init",
        INIT,
        "--init",
        "10,10,30,30",
        "--txt",
        txt,
        "--out",
        tmp_path / "out.avi",
        "--model",
        "ncc",
    ]
    (tmp_path / "out_2.txt").write_text("precious")
    status, _, messages = run(capsys, *folders, *options)
    assert (status, (tmp_path / "out_2.txt").read_text()) == (2, "precious")
    assert f"{tmp_path / 'out_2.txt'} exists: give --force to replace it" in messages
    status, _, messages = run(capsys, *folders, *options, "--force")
    assert status == 0
    named = " and ".join(str(tmp_path / name) for name in ("out.avi", "out_1.txt", "out_2.txt"))
    assert messages.splitlines()[-1].endswith(f"; wrote {named}")
    assert read_boxes(tmp_path / "out_2.txt").tolist() == [[10, 10, 30, 30]] * 5
    assert files(tmp_path) == [
        "out.avi",
        *(f"out_{k}{end}.txt" for k in (1, 2) for end in ("", "_confidence")),
    ]


def test_a_sequence_needs_no_box_and_others_are_drawn(capsys, tmp_path):
    rgb, tir = split()
    for name, images in (("visible", rgb), ("infrared", tir)):
        write_images(tmp_path / "in" / "car" / name, images)
        (tmp_path / "in" / "car" / f"{name}.txt").write_text(f"{INIT}\n" * 5)
    other = tmp_path / "in" / "other"
    other.mkdir()
    (other / "car.txt").write_text("30 20 50 60\n" * 5)
    sequence, out = tmp_path / "in" / "car", tmp_path / "out.mp4"
    plain = tmp_path / "plain.mp4"
    assert run(capsys, sequence, "--out", plain, "--model", "ncc", "--frames", "3")[0] == 0
    assert (
        run(capsys, sequence, "--out", out, "--model", "ncc", "--frames", "3", "--compare", other)[
            0
        ]
        == 0
    )
    assert lengths(out)[0] == 3
    pictures = [cv2().VideoCapture(str(path)).read()[1].astype(int) for path in (plain, out)]
    changed = np.abs(pictures[0] - pictures[1]).max(-1)[26:, :320] > 60
    # the other's box, twice as large as in the small frame
    rows, columns = changed.nonzero()
    assert abs(columns.min() - 60) < 9
    assert abs(columns.max() - 160) < 9
    assert abs(rows.min() - 40) < 9
    (other / "car.txt").unlink()
    status, _, messages = run(
        capsys, sequence, "--out", tmp_path / "o.mp4", "--model", "ncc", "--compare", other
    )
    assert (status, "--compare must name folders with car.txt" in messages) == (2, True)


def test_cameras_that_see_different_places(capsys, tmp_path, weights):
    rgb, tir = split(3)
    wide = [np.pad(image, ((7, 20), (11, 30))) for image in tir]
    places = write_images(tmp_path / "in" / "rgb", rgb), write_images(tmp_path / "in" / "tir", wide)
    matrix = tmp_path / "in" / "matrix.txt"
    matrix.write_text("1 0 11\n0 1 7\n0 0 1\n")
    found = []
    for option in (["--offset", "11,7"], ["--homography", matrix]):
        txt, out = tmp_path / f"{option[0]}.txt", tmp_path / f"{option[0]}.mp4"
        options = [
            "--init",
            INIT,
            "--txt",
            txt,
            "--out",
            out,
            "--model",
            weights,
            "--missing",
            "last",
        ]
        assert run(capsys, *places, *options, *option)[0] == 0
        found.append(read_boxes(txt))
    np.testing.assert_allclose(found[1][:2], found[0][:2], atol=0.1)
    status, _, messages = run(
        capsys, *places, "--init", INIT, "--txt", tmp_path / "o.txt", "--model", weights
    )
    assert status == 2
    assert "tir must have the height and width of rgb (120, 160), got (147, 201)" in messages


def test_thermal_images_of_another_resolution_are_fitted(capsys, tmp_path):
    rgb, tir = split(3)
    small = [cv2().resize(image, (80, 60), interpolation=cv2().INTER_AREA) for image in tir]
    places = write_images(tmp_path / "in" / "rgb", rgb), write_images(tmp_path / "in" / "tir", tir)
    smaller = write_images(tmp_path / "in" / "small", small)
    options = ["--init", INIT]
    assert run(capsys, *places, *options, "--txt", tmp_path / "whole.txt")[0] == 0
    fitted = tmp_path / "fitted.txt"
    assert run(capsys, places[0], smaller, *options, "--txt", fitted, "--fit")[0] == 0
    whole = read_boxes(tmp_path / "whole.txt")
    np.testing.assert_allclose(read_boxes(fitted)[1], whole[1], atol=2)
    status, _, messages = run(capsys, places[0], smaller, *options, "--txt", tmp_path / "o.txt")
    assert status == 2
    assert "give --offset, --homography, --fit or --align" in messages


def test_template_matching_is_shown_images_that_lie_on_each_other(capsys, tmp_path):
    """It has no crops to take from elsewhere: whole frames are laid on the colour ones."""
    rgb, tir = split(5)
    colour = write_images(tmp_path / "in" / "rgb", rgb)
    options = ("--init", INIT, "--model", "ncc")
    # the thermal camera sees 11 columns and 7 rows more, and in half the resolution
    wide = [np.pad(image, ((7, 20), (11, 30))) for image in tir]
    small = [cv2().resize(image, (80, 60), interpolation=cv2().INTER_AREA) for image in tir]
    matrix = tmp_path / "in" / "matrix.txt"
    matrix.write_text("1 0 11\n0 1 7\n0 0 1\n")
    shown = {
        "whole": (tir, []),
        "offset": (wide, ["--offset", "11,7"]),
        "homography": (wide, ["--homography", matrix]),
        "fit": (small, ["--fit"]),
    }
    found = {}
    for name, (images, how) in shown.items():
        place = write_images(tmp_path / "in" / name, images)
        txt = tmp_path / f"{name}.txt"
        assert run(capsys, colour, place, *options, *how, "--txt", txt)[0] == 0
        found[name] = read_boxes(txt)
    np.testing.assert_array_equal(found["offset"], found["whole"])
    np.testing.assert_array_equal(found["homography"], found["whole"])
    fitted = AlignedFrames(list(zip(rgb, small, strict=True)), find=fit_source)
    followed = [result.box_xywh_px for result in NCCTracker().track(fitted, BOX)]
    np.testing.assert_allclose(found["fit"], followed, atol=1e-3)
    assert not np.array_equal(found["fit"], found["whole"]), "the thermal image changes something"


def test_the_range_of_thermal_values_is_given_for_deep_images_only(capsys, tmp_path, folders):
    rgb, tir = split(2, dtype=np.uint16)
    deep = write_images(tmp_path / "in" / "deep", tir)
    colour = write_images(tmp_path / "in" / "colour", rgb)
    options = ["--init", INIT, "--txt", tmp_path / "o.txt", "--tir-range", "2000,9000"]
    assert run(capsys, colour, deep, *options)[0] == 0
    status, _, messages = run(capsys, *folders, *options, "--force")
    assert status == 2
    assert "--tir-range must come with frames of more than 8 bits" in messages


def test_a_thermal_camera_that_shows_nothing_is_told(capsys, tmp_path):
    rgb, tir = split(3)
    blank = [np.full_like(image, 30) for image in tir]
    places = write_images(tmp_path / "a", rgb), write_images(tmp_path / "b", blank)
    status, _, messages = run(capsys, *places, "--init", INIT, "--txt", tmp_path / "o.txt")
    assert status == 0
    assert messages.count("the thermal image shows nothing around the target") == 1


def test_the_folder_of_the_outputs_is_made_and_a_film_for_browsers_is_written(
    capsys, tmp_path, folders
):
    out = tmp_path / "new" / "films" / "out.webm"
    txt = tmp_path / "other" / "out.txt"
    options = ["--init", INIT, "--out", out, "--txt", txt, "--model", "ncc"]
    assert run(capsys, *folders, *options)[0] == 0
    assert lengths(out)[0] == len(read_boxes(txt)) == 5


def test_corners_given_for_a_box_are_noticed(capsys, tmp_path, folders):
    options = ["--init", "70,50,94,76", "--txt", tmp_path / "o.txt", "--model", "ncc"]
    status, _, messages = run(capsys, *folders, *options)
    assert status == 0
    assert "if these are two corners, give 70,50,24,26" in messages


class Terminal:
    def __init__(self, stream) -> None:
        self.stream = stream

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def isatty(self) -> bool:
        return True


def test_a_person_is_asked_for_the_box(capsys, tmp_path, folders, monkeypatch):
    def pick(rgb, tir, *, announce, port, tir_from_rgb, points):
        announce("http://127.0.0.1:1/secret/")
        assert (rgb.shape, tir.shape, port) == ((120, 160, 3), (120, 160), 8123)
        # template matching takes aligned frames only
        assert (tir_from_rgb, points) == (None, False)
        return Picked((64.0, 44.0, 36.0, 28.0), None)

    monkeypatch.setattr("rgbt_fusion.video.pick.pick_target", pick)
    arguments = [*folders, "--txt", tmp_path / "out.txt", "--model", "ncc", "--port", "8123"]
    status, _, messages = run(capsys, *arguments)
    assert status == 2
    assert "--init must be given where nobody can pick the target" in messages
    assert "Hint: --init x,y,w,h" in messages
    for name in ("stdin", "stderr"):
        monkeypatch.setattr(sys, name, Terminal(getattr(sys, name)))
    status, _, messages = run(capsys, *arguments)
    assert status == 0
    assert "draw a box: http://127.0.0.1:1/secret/" in messages
    assert read_boxes(tmp_path / "out.txt")[0].tolist() == [64, 44, 36, 28]


def test_points_that_a_person_clicked_align_the_cameras(
    capsys, tmp_path, folders, monkeypatch, weights
):
    corners = np.array([[0.0, 0], [159, 0], [159, 119], [0, 119]])

    def pick(rgb, tir, *, announce, port, tir_from_rgb, points):
        assert (tir_from_rgb, points) == (None, True)
        moved = alignment_from_points(
            corners, corners + np.array([3, 2]), size=(160, 120), tir_size=(160, 120)
        )
        return Picked(BOX, moved)

    monkeypatch.setattr("rgbt_fusion.video.pick.pick_target", pick)
    for name in ("stdin", "stderr"):
        monkeypatch.setattr(sys, name, Terminal(getattr(sys, name)))
    txt, given = tmp_path / "picked.txt", tmp_path / "given.txt"
    status, _, messages = run(capsys, *folders, "--txt", txt, "--model", weights)
    assert status == 0
    assert "aligned: scale 1.000, turn +0.00 degrees, shift +3.0, +2.0 pixels" in messages
    assert "4 pairs of points" in messages
    options = ("--init", INIT, "--offset", "3,2", "--txt", given, "--model", weights)
    assert run(capsys, *folders, *options)[0] == 0
    np.testing.assert_allclose(read_boxes(txt)[:2], read_boxes(given)[:2], atol=0.1)


def test_a_page_shows_the_tracking_and_ends_with_it(capsys, tmp_path, folders, monkeypatch):
    viewers = []

    def echo(text="", **options):
        if "open this page" in text:
            viewers.append(Viewer(text.rsplit(": ", 1)[1]))
            viewers[0].start()
        messages.append(text)

    messages: list[str] = []
    monkeypatch.setattr("rgbt_fusion.cli.track.typer.echo", echo)
    # a person sits there: the recording waits for the page to be opened
    monkeypatch.setattr(sys, "stderr", Terminal(sys.stderr))
    options = ("--init", INIT, "--live", "--model", "ncc", "--port", "0")
    status, _, _ = run(capsys, *folders, *options)
    assert status == 0
    viewers[0].join(timeout=20)
    assert viewers[0].end == "The tracking has ended after 5 frames."
    assert viewers[0].texts[-1].startswith("frame 5, confidence ")
    assert messages[-1].startswith("5 frames")
    assert "wrote" not in messages[-1]
    assert files(tmp_path) == []


def test_a_video_without_an_ending_gets_the_one_that_plays(capsys, tmp_path, folders, monkeypatch):
    options = ("--init", INIT, "--model", "ncc", "--out")
    assert run(capsys, *folders, *options, tmp_path / "film")[0] == 0
    assert lengths(tmp_path / f"film{default_ending()}")[0] == 5
    monkeypatch.setattr(shutil, "which", lambda name: None)
    status, _, messages = run(capsys, *folders, *options, tmp_path / "other.mp4")
    assert status == 0
    assert "other.mp4 plays in video players, not in browsers" in messages
    status, _, messages = run(capsys, *folders, *options, tmp_path / "in")
    assert (status, "--out must be a file, got the folder" in messages) == (2, True)


REFUSED = {
    "a wrong box": (
        ["--init", "1,2,3", "--txt", "o.txt"],
        "--init must be x,y,w,h, 4 numbers, got '1,2,3'",
    ),
    "an empty box": (
        ["--init", "1,2,0,4", "--txt", "o.txt"],
        "finite with width and height above 0",
    ),
    "a box outside": (
        ["--init", "500,2,9,9", "--txt", "o.txt"],
        "must lie in the frame of 160 x 120",
    ),
    "an unknown ending": (
        ["--init", INIT, "--out", "o.gif"],
        "the ending of --out must be one of '.mp4'",
    ),
    "a file for a folder": (
        ["--init", INIT, "--txt", "in/rgb/frame8.png/o.txt"],
        "frame8.png",
    ),
    "one file twice": (
        ["--init", INIT, "--txt", "o.mp4", "--out", "o.mp4"],
        "must be two files, got o.mp4",
    ),
    "debug of nothing": (
        ["--init", INIT, "--txt", "o.txt", "--debug"],
        "--debug must come with --out",
    ),
    "debug of ncc": (
        ["--init", INIT, "--out", "o.mp4", "--debug"],
        "--debug must come with a network",
    ),
    "no frames": (
        ["--init", INIT, "--txt", "o.txt", "--frames", "0"],
        "frames must be at least 1, got 0",
    ),
    "a wrong stand-in": (
        ["--init", INIT, "--txt", "o.txt", "--missing", "hold"],
        "--missing must be one of",
    ),
    "a stand-in for ncc": (
        ["--init", INIT, "--txt", "o.txt", "--missing", "other"],
        "must come with a network, not with",
    ),
    "no rate": (["--init", INIT, "--out", "o.mp4", "--fps", "0"], "--fps must be a finite number"),
    "fractions for a box": (
        ["--init", "0.4,0.3,0.1,0.2", "--txt", "o.txt"],
        "--init must be in pixels",
    ),
    "a layout of two folders": (
        ["--init", INIT, "--txt", "o.txt", "--layout", "lasher"],
        "--layout must come with the folder of a sequence",
    ),
    "an arrangement of two folders": (
        ["--init", INIT, "--txt", "o.txt", "--arrangement", "rgb-only"],
        "--arrangement must come with one source",
    ),
    "a delay of two folders": (
        ["--init", INIT, "--txt", "o.txt", "--delay", "1"],
        "--delay must come with two videos",
    ),
    "a rate of no video": (
        ["--init", INIT, "--txt", "o.txt", "--fps", "5"],
        "--fps must come with --out",
    ),
    "a comparison in no video": (
        ["--init", INIT, "--txt", "o.txt", "--compare", "in"],
        "--compare must come with --out",
    ),
    "a page that is not needed": (
        ["--init", INIT, "--txt", "o.txt", "--port", "8123"],
        "--port must not come with --init",
    ),
    "a range out of order": (
        ["--init", INIT, "--txt", "o.txt", "--tir-range", "5,1"],
        "--tir-range must be two numbers in order",
    ),
    "a range for ncc": (
        ["--init", INIT, "--txt", "o.txt", "--tir-range", "1,5"],
        "must come with a network, not with",
    ),
    "held boxes of ncc": (
        ["--init", INIT, "--txt", "o.txt", "--size-inertia", "0.5", "--hold-below", "0.1"],
        "--size-inertia, --hold-below must come with a network, not with ncc",
    ),
    "no device": (
        ["--init", INIT, "--out", "o.mp4", "--device", "tpu"],
        "--device must be cpu, cuda or cuda:NUMBER",
    ),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_work_is_refused_in_one_line_and_nothing_is_written(
    capsys, tmp_path, folders, monkeypatch, options, message
):
    monkeypatch.chdir(tmp_path)
    status, output, messages = run(capsys, *folders, "--model", "ncc", *options)
    assert (status, output) == (2, "")
    assert messages.startswith("error: ")
    assert messages.count("\n") == 1
    assert message in messages
    assert files(tmp_path) == []


def test_a_missing_extra_is_named_with_its_command(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    status, _, messages = run(capsys, "a.mp4", "b.mp4", "--init", INIT, "--txt", tmp_path / "o.txt")
    assert status == 2
    assert messages.count("\n") == 1
    assert "OpenCV, which cannot be imported" in messages
    assert "pip install 'rgbt-fusion[tracking]'" in messages


def test_what_is_there_is_kept_unless_it_may_be_replaced(capsys, tmp_path, folders):
    txt = tmp_path / "out.txt"
    txt.write_text("precious")
    arguments = [*folders, "--init", INIT, "--txt", txt, "--model", "ncc"]
    status, _, messages = run(capsys, *arguments)
    assert (status, txt.read_text()) == (2, "precious")
    assert "exists: give --force to replace it" in messages
    assert run(capsys, *arguments, "--force")[0] == 0
    assert len(read_boxes(txt)) == 5


def test_a_damaged_frame_ends_the_run_and_leaves_nothing(capsys, tmp_path, folders):
    (Path(folders[1]) / "frame10.png").write_bytes(b"no image")
    arguments = [
        *folders,
        "--init",
        INIT,
        "--txt",
        tmp_path / "o.txt",
        "--out",
        tmp_path / "o.webm",
        "--model",
        "ncc",
    ]
    status, _, messages = run(capsys, *arguments)
    assert status == 2
    assert messages.splitlines()[-1].startswith("error: image ")
    assert "frame10.png cannot be decoded" in messages
    assert files(tmp_path) == []


@pytest.mark.parametrize("live", [True, False])
def test_an_interruption_ends_a_camera_and_breaks_off_a_video(
    capsys, tmp_path, folders, monkeypatch, live
):
    from rgbt_fusion.video.sources import Source, open_source

    inner = open_source(*folders)

    def interrupted():
        for number, frame in enumerate(inner):
            if number == 3:
                raise KeyboardInterrupt
            yield frame

    source = Source("camera", None if live else 5, None, None, interrupted)
    monkeypatch.setattr("rgbt_fusion.video.sources.open_source", lambda *places, **options: source)
    arguments = [
        "0",
        "1",
        "--init",
        INIT,
        "--txt",
        tmp_path / "o.txt",
        "--out",
        tmp_path / "o.avi",
        "--model",
        "ncc",
    ]
    status, _, messages = run(capsys, *arguments)
    if live:
        assert (status, messages[:9]) == (0, "3 frames,")
        assert len(read_boxes(tmp_path / "o.txt")) == lengths(tmp_path / "o.avi")[0] == 3
    else:
        assert status == 130
        assert files(tmp_path) == []


@pytest.mark.parametrize("name", ["tno_nato_a", "tno_tree"])
def test_real_sequences_from_folders_and_from_videos(capsys, tmp_path, name, weights):
    folder = shared(f"data/sequences/{name}")
    first = (folder / "visible.txt").read_text().split()[0]
    videos = []
    for modality in ("visible", "infrared"):
        images = [
            cv2().imread(str(path))[:, :, ::-1] for path in sorted((folder / modality).iterdir())
        ]
        videos.append(write_video(tmp_path / f"{modality}.mkv", images, code="FFV1"))
    assert run(capsys, folder, "--txt", tmp_path / "a.txt", "--model", "ncc")[0] == 0
    assert (
        run(capsys, *videos, "--init", first, "--txt", tmp_path / "b.txt", "--model", "ncc")[0] == 0
    )
    # the codec keeps luminance to a grey level, and with it the place to a pixel
    np.testing.assert_allclose(
        read_boxes(tmp_path / "b.txt"), read_boxes(tmp_path / "a.txt"), atol=1
    )
    assert run(capsys, folder, "--out", tmp_path / "a.mp4", "--model", weights, "--debug")[0] == 0
    assert lengths(tmp_path / "a.mp4")[0] == len(read_boxes(folder / "visible.txt"))
