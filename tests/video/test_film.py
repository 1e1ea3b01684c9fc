"""A video is there only when it is whole."""

import shutil
import subprocess

import numpy as np
import pytest

from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.video.film import default_ending, plays_in_browsers, writing_video
from video_material import cv2

GREY = np.full((240, 320, 3), 90, dtype=np.uint8)


@pytest.fixture(autouse=True)
def opencv():
    cv2()


@pytest.fixture(params=["OpenCV", "ffmpeg"])
def writer(request, monkeypatch) -> str:
    """What writes .mp4."""
    if request.param == "OpenCV":
        monkeypatch.setattr(shutil, "which", lambda name: None)
    elif not plays_in_browsers("film.mp4"):
        pytest.skip("no ffmpeg that writes H.264")
    return request.param


def test_mp4_plays_in_browsers_where_an_ffmpeg_is(tmp_path, writer):
    path = tmp_path / f"out{default_ending()}"
    # an odd size, which H.264 as browsers play it does not have
    with writing_video(path, fps=10) as video:
        for _ in range(3):
            video.write(np.full((47, 63, 3), 120, dtype=np.uint8))
    capture = cv2().VideoCapture(str(path))
    code = int(capture.get(cv2().CAP_PROP_FOURCC)).to_bytes(4, "little")
    pictures = [capture.read()[1] for _ in range(3)]
    capture.release()
    expected = {"OpenCV": (".webm", b"VP90"), "ffmpeg": (".mp4", b"h264")}[writer]
    assert (path.suffix, code) == expected
    assert plays_in_browsers(path)
    assert plays_in_browsers("a.mp4") == (writer == "ffmpeg")
    assert all(abs(picture[:47, :63].mean() - 120) < 3 for picture in pictures)


def test_an_ffmpeg_that_dies_is_told_and_leaves_nothing(tmp_path, monkeypatch):
    if not plays_in_browsers("film.mp4"):
        pytest.skip("no ffmpeg that writes H.264")
    started = []
    start = subprocess.Popen

    def starting(*arguments, **options):
        process = start(*arguments, **options)
        started.append(process)
        return process

    monkeypatch.setattr(subprocess, "Popen", starting)
    path = tmp_path / "out.mp4"
    with (
        pytest.raises(DataError, match=r"out.mp4 cannot be written: ffmpeg: it ended with status"),
        writing_video(path) as video,
    ):
        video.write(GREY)
        started[-1].kill()
        started[-1].wait()
        video.write(GREY)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyboardInterrupt), writing_video(path) as video:
        video.write(GREY)
        raise KeyboardInterrupt
    assert started[-1].poll() is not None
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_only_has_the_name_is_not_used(tmp_path, monkeypatch):
    other = tmp_path / "ffmpeg"
    other.write_text("#!/bin/sh\necho something else\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not plays_in_browsers("film.mp4")
    assert default_ending() == ".webm"


@pytest.mark.usefixtures("writer")
@pytest.mark.parametrize("ending", [".mp4", ".avi", ".mkv", ".webm"])
def test_a_video_can_be_read_again(tmp_path, ending, capfd):
    path = tmp_path / f"out{ending}"
    with writing_video(path, fps=10) as video:
        for level in (40, 120, 200):
            video.write(np.full((48, 64, 3), level, dtype=np.uint8))
        video.write(np.full((50, 70, 3), 250, dtype=np.uint8))
        assert not path.exists()
    capture = cv2().VideoCapture(str(path))
    levels = [capture.read()[1].mean() for _ in range(4)]
    capture.release()
    np.testing.assert_allclose(levels, (40, 120, 200, 250), atol=4)
    assert capfd.readouterr().err == ""
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_broken_run_leaves_what_was_there(tmp_path):
    path = tmp_path / "out.mp4"
    path.write_bytes(b"an earlier one")
    with pytest.raises(KeyboardInterrupt), writing_video(path) as video:
        video.write(GREY)
        raise KeyboardInterrupt
    assert path.read_bytes() == b"an earlier one"
    assert [file.name for file in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.parametrize("ending", [".mp4", ".avi", ".mkv"])
def test_a_full_disk_is_told(tmp_path, ending, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    resource = pytest.importorskip(
        "resource", reason="file sizes cannot be limited on this platform"
    )
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = tmp_path / f"out{ending}"
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    try:
        with (
            pytest.raises(DataError, match="of 40 pictures arrived on the disk"),
            writing_video(path) as video,
        ):
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
            for number in range(40):
                video.write(np.roll(noise, 7 * number, axis=0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_told(tmp_path):
    with pytest.raises(
        ValueError, match=r"the ending of the video must be one of '.mp4'.*got '.gif'"
    ):
        writing_video(tmp_path / "out.gif").__enter__()
    with (
        pytest.raises(DataError, match="cannot be written"),
        writing_video(tmp_path / "no" / "out.avi") as video,
    ):
        video.write(GREY)


def test_a_film_without_pictures_is_no_file(tmp_path):
    with writing_video(tmp_path / "out.avi"):
        pass
    assert list(tmp_path.iterdir()) == []
