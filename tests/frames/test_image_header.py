"""The size that a header claims: of every kind that is read, as it is stored and as it is shown."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.frames.image_header import claimed_size, upright_size
from rgbt_fusion.frames.reading import load_cv2, read_rgb, read_thermal

KINDS = (".png", ".jpg", ".bmp", ".tif", ".webp", ".ppm")


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_is_that_of_the_decoded_image(kind: str) -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    image = np.zeros((19, 23, 3), dtype=np.uint8)
    data = load_cv2().imencode(kind, image)[1].tobytes()
    assert claimed_size(data) == (23, 19)
    for length in range(len(data)):
        claimed_size(data[:length])


def png(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    header = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + header + b"\0\0\0\0IEND\xaeB`\x82"


HUGE = {
    "png": png(30000, 30000),
    "jpeg": b"\xff\xd8\xff\xe0\x00\x04ab garbage \xff\xff\xc0\x00\x11\x08"
    + struct.pack(">HH", 30000, 30000)
    + bytes(20)
    + b"\xff\xd9",
    "bmp": b"BM" + bytes(12) + struct.pack("<Iii", 40, 30000, -30000) + bytes(30),
    "pgm": b"P5 # a comment\n30000 30000\n255\n" + bytes(20),
    "tiff": b"II*\0" + struct.pack("<IHHHIIHHII", 8, 2, 256, 4, 1, 30000, 257, 4, 1, 30000),
    "tiff of one tile": b"MM\0*"
    + struct.pack(">IH", 8, 4)
    + b"".join(
        struct.pack(">HHIHH", tag, 3, 1, size, 0)
        for tag, size in ((256, 8), (257, 8), (322, 30000), (323, 30000))
    ),
    "large webp": b"RIFF\0\0\0\0WEBPVP8X" + bytes(8) + (29999).to_bytes(3, "little") * 2,
}


@pytest.mark.parametrize("kind", HUGE)
def test_an_image_beyond_reason_is_refused_before_it_is_decoded(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    path = tmp_path / "image.png"
    path.write_bytes(HUGE[kind])
    for read in (read_rgb, read_thermal):
        with pytest.raises(DataError, match="at most 67108864 pixels, got 30000 x 30000"):
            read(path)


def test_a_kind_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    path = tmp_path / "image.png"
    path.write_bytes(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 30000 +X 30000\n")
    with pytest.raises(DataError, match="is damaged, or no PNG, JPEG, BMP"):
        read_rgb(path)


@pytest.mark.parametrize("part", [b"IDAT", b"IEND"])
def test_a_part_of_a_file_that_claims_gigabytes_is_not_made_room_for(
    part: bytes, tmp_path: Path
) -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    image = np.zeros((19, 23, 3), dtype=np.uint8)
    data = bytearray(load_cv2().imencode(".png", image)[1].tobytes())
    path = tmp_path / "image.png"
    path.write_bytes(data)
    assert read_rgb(path).shape == (19, 23, 3)
    struct.pack_into(">I", data, data.index(part) - 4, 0xAC000000)
    path.write_bytes(data)
    with pytest.raises(DataError, match="is cut off"):
        read_rgb(path)


def test_a_header_that_points_beyond_every_file_says_nothing() -> None:
    assert claimed_size(b"II+\0\x08\0\0\0" + struct.pack("<Q", 2**64 - 1) + bytes(64)) is None


def test_a_lying_photograph_is_upright() -> None:
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHIH", 8, 1, 0x0112, 3, 1, 6)
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    frame = b"\xff\xc0\x00\x11\x08" + struct.pack(">HH", 30, 40) + bytes(20)
    data = b"\xff\xd8" + segment + frame
    assert claimed_size(data) == (40, 30)
    assert upright_size(data) == (30, 40)


def test_no_device_is_read_as_an_image() -> None:
    with pytest.raises(DataError, match="/dev/zero must be a file, but it is a pipe or a device"):
        read_rgb("/dev/zero")
