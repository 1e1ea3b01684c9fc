"""Where boxes are drawn, and that a video is there only when it is whole."""

import numpy as np
import pytest

from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.frames.drawing import Mark, eight_bits
from rgbt_fusion.video.film import writing_video
from rgbt_fusion.video.overlay import COLOURS, HEADER, draw_overlay
from video_material import cv2

GREY = np.full((240, 320, 3), 90, dtype=np.uint8)


@pytest.fixture(autouse=True)
def opencv():
    cv2()


def drawn(picture: np.ndarray, colour: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The places of a colour below the header: rows and columns."""
    return ((picture[HEADER:] == colour).all(-1)).nonzero()


def test_a_box_is_drawn_on_both_modalities():
    picture = draw_overlay(GREY, GREY[:, :, 0], [Mark((50, 40, 100, 80), "", COLOURS[0])])
    rows, columns = drawn(picture, COLOURS[0])
    for panel in (columns < 320, columns >= 320):
        x, y = columns[panel] % 320, rows[panel]
        assert (abs(x.min() - 50), abs(x.max() - 150)) <= (2, 2)
        assert (abs(y.min() - 40), abs(y.max() - 120)) <= (2, 2)


def test_the_thermal_box_is_where_the_thermal_camera_sees_it():
    half = np.full((120, 160), 90, dtype=np.uint16)
    shift = np.array([[0.5, 0, 10], [0, 0.5, 0], [0, 0, 1]])
    for matrix, left in ((shift, 2 * (25 + 10)), ((7, 0), 57)):
        tir = half if matrix is shift else GREY
        picture = draw_overlay(
            GREY, tir, [Mark((50, 40, 60, 50), "", COLOURS[0])], tir_from_rgb=matrix
        )
        _, columns = drawn(picture, COLOURS[0])
        assert abs(columns[columns >= 320].min() - 320 - left) <= 2


def test_a_lost_target_is_dashed_and_a_box_that_is_none_left_out():
    solid, dashed = (
        len(
            drawn(
                draw_overlay(GREY, GREY, [Mark((50, 40, 100, 80), "", COLOURS[0], lost)]),
                COLOURS[0],
            )[0]
        )
        for lost in (False, True)
    )
    assert 0.3 < dashed / solid < 0.7
    picture = draw_overlay(GREY, GREY, [Mark((np.nan, 4, 5, 6), "", COLOURS[0])])
    assert not len(drawn(picture, COLOURS[0])[0])
    draw_overlay(GREY, GREY, [Mark((-1e9, 4, 1e12, 6), "", COLOURS[0])])


def test_labels_are_above_in_their_colours():
    picture = draw_overlay(
        GREY, GREY, [Mark((50, 40, 9, 9), "mine", COLOURS[0]), Mark((9, 9, 9, 9), "b", COLOURS[1])]
    )
    header = picture[:HEADER].astype(int)
    assert all((abs(header - colour).sum(-1) < 60).any() for colour in COLOURS[:2])


def test_sizes_are_even_and_small_frames_enlarged():
    odd = np.zeros((117, 201, 3), dtype=np.uint8)
    for rgb, tir in ((odd, odd), (odd, None), (None, odd[:, :, 0]), (GREY, odd)):
        height, width, _ = draw_overlay(rgb, tir).shape
        assert height % 2 == width % 2 == 0
        assert height >= 240
    with pytest.raises(ValueError, match="must not both be missing"):
        draw_overlay(None, None)


def test_16_bits_are_scaled():
    frame = np.linspace(1000, 3000, 240 * 320).reshape(240, 320).astype(np.uint16)
    assert eight_bits(frame, (1000, 3000)).max() == 255
    assert eight_bits(frame).shape == (240, 320, 3)
    assert abs(int(draw_overlay(None, frame, tir_range=(1000, 5000))[-20:, -20:].mean()) - 125) < 8


@pytest.mark.parametrize("ending", [".mp4", ".avi", ".mkv"])
def test_a_video_can_be_read_again(tmp_path, ending):
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
