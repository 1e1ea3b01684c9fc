"""A video is there only when it is whole."""

import numpy as np
import pytest

from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.video.film import writing_video
from video_material import cv2

GREY = np.full((240, 320, 3), 90, dtype=np.uint8)


@pytest.fixture(autouse=True)
def opencv():
    cv2()


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
def test_a_full_disk_is_told(tmp_path, ending):
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
