"""Reading images of all kinds, and what is said of damaged ones."""

import struct
import sys

import numpy as np
import pytest

from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.frames.reading import (
    depth_to_colours,
    image_size,
    read_depth,
    read_rgb,
    read_thermal,
)

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")

COLOUR = np.zeros((40, 60, 3), dtype=np.uint8)
COLOUR[:, :, 0], COLOUR[:, :, 2] = 200, 30  # red, a little blue
DEEP = np.linspace(7000, 9000, 2400).reshape(40, 60).astype(np.uint16)


@pytest.mark.parametrize("ending", [".png", ".bmp", ".jpg", ".tiff", ".ppm"])
def test_colours_come_red_first(tmp_path, ending):
    path = tmp_path / f"image{ending}"
    cv2.imwrite(str(path), COLOUR[:, :, ::-1])
    image = read_rgb(path)
    assert image.shape == (40, 60, 3)
    assert image.flags.c_contiguous
    assert np.abs(image.astype(int) - COLOUR).max() <= (4 if ending == ".jpg" else 0)
    assert image_size(path) == (60, 40)


def test_grey_and_transparent_images_become_colour(tmp_path):
    cv2.imwrite(str(tmp_path / "grey.png"), COLOUR[:, :, 0])
    assert (read_rgb(tmp_path / "grey.png") == 200).all()
    cv2.imwrite(
        str(tmp_path / "alpha.png"),
        np.dstack((COLOUR[:, :, ::-1], np.full((40, 60), 255, np.uint8))),
    )
    assert (read_rgb(tmp_path / "alpha.png") == COLOUR).all()


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (COLOUR[:, :, 0], COLOUR[:, :, 0]),
        (DEEP, DEEP),
        (COLOUR[:, :, ::-1], COLOUR),
        (np.dstack((DEEP, DEEP + 1, DEEP + 2)), np.dstack((DEEP + 2, DEEP + 1, DEEP))),
        (np.dstack((COLOUR[:, :, ::-1], COLOUR[:, :, 0])), COLOUR),
    ],
    ids=["8 bits, one", "16 bits, one", "8 bits, three", "16 bits, three", "with alpha"],
)
def test_thermal_images_stay_as_stored(tmp_path, stored, expected):
    cv2.imwrite(str(tmp_path / "image.png"), stored)
    image = read_thermal(tmp_path / "image.png")
    assert image.dtype == expected.dtype
    assert (image == expected).all()


@pytest.mark.parametrize("numbers", [np.float32, np.float64, np.int32])
def test_temperatures_are_read_as_they_are(tmp_path, numbers):
    cv2.imwrite(str(tmp_path / "image.tiff"), DEEP.astype(numbers))
    image = read_thermal(tmp_path / "image.tiff")
    assert image.dtype == np.float32
    assert (image == DEEP).all()


def test_other_depths_are_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "image.tiff"), COLOUR[:, :, 0].astype(np.int8))
    with pytest.raises(DataError, match="8 or 16 bits or temperatures per channel, got int8"):
        read_thermal(tmp_path / "image.tiff")


def test_a_depth_image_that_is_mostly_empty_keeps_its_shades():
    depth = np.zeros((20, 20), np.uint16)
    depth[:, :8] = np.linspace(800, 1600, 8)
    assert len(np.unique(depth_to_colours(depth).reshape(-1, 3), axis=0)) > 6


def test_depth_is_cut_at_three_medians_and_ten_metres():
    depth = np.full((20, 20), 1000, dtype=np.uint16)
    depth[0, 0], depth[0, 1], depth[0, 2] = 0, 3000, 60_000
    painted = depth_to_colours(depth)
    grey = np.zeros_like(depth, dtype=np.uint8)
    grey[:], grey[0, 0], grey[0, 1:3] = 85, 0, 255
    assert (painted == cv2.applyColorMap(grey, cv2.COLORMAP_JET)).all()
    far = np.full((20, 20), 9000, dtype=np.uint16)
    far[0, 0], far[0, 1] = 0, 20_000
    assert (
        depth_to_colours(far)[0, 1]
        == cv2.applyColorMap(np.array([[255]], np.uint8), cv2.COLORMAP_JET)[0, 0]
    ).all()


def test_depth_files(tmp_path):
    cv2.imwrite(str(tmp_path / "deep.png"), DEEP)
    assert (read_depth(tmp_path / "deep.png") == depth_to_colours(DEEP)).all()
    cv2.imwrite(str(tmp_path / "painted.png"), COLOUR[:, :, ::-1])
    assert (read_depth(tmp_path / "painted.png") == COLOUR).all()


def test_a_flat_depth_image_is_no_division_by_zero():
    assert (
        depth_to_colours(np.zeros((4, 4), np.uint16))
        == depth_to_colours(np.full((4, 4), 7, np.uint16))
    ).all()


@pytest.mark.parametrize("ending", [".png", ".jpg"])
@pytest.mark.parametrize("read", [read_rgb, read_thermal])
def test_a_cut_off_image_is_named(tmp_path, ending, read):
    path = tmp_path / f"image{ending}"
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    cv2.imwrite(str(path), noise)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=f"image{ending} is cut off: {len(data) // 2} bytes"):
        read(path)


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """Return a JPEG file with an EXIF header that says how it is to be turned."""
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    tiff = b"II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    exif = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_reader_turns_an_image_alike(tmp_path, orientation):
    path = tmp_path / "image.jpg"
    _, jpeg = cv2.imencode(".jpg", COLOUR)
    path.write_bytes(with_orientation(jpeg.tobytes(), orientation))
    colour = read_rgb(path)
    assert colour.shape[:2] == ((60, 40) if orientation > 4 else (40, 60))
    assert (read_thermal(path) == colour).all()
    assert image_size(path) == (colour.shape[1], colour.shape[0])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"GIF89a?", "cannot be decoded"),
        (b"\x89PNG\r\n\x1a\nIEND", "is cut off"),
    ],
)
def test_what_is_no_image_is_named(tmp_path, data, message):
    (tmp_path / "image.png").write_bytes(data)
    for read in (read_rgb, read_thermal, image_size):
        with pytest.raises(DataError, match=f"image.png {message}"):
            read(tmp_path / "image.png")


def test_a_missing_image_is_named(tmp_path):
    with pytest.raises(
        DataError, match=r"image .*gone.png cannot be read: No such file or directory"
    ):
        read_rgb(tmp_path / "gone.png")


def test_without_opencv_one_sentence_tells_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    for read in (read_rgb, read_thermal, read_depth):
        with pytest.raises(
            ModuleNotFoundError, match=r"read with OpenCV.*pip install 'rgbt-fusion\[tracking\]'"
        ):
            read(tmp_path / "image.png")
