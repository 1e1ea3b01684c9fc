"""The size that an image claims, read from its header: before anything is decoded."""

import struct

__all__ = ["JPEG_START", "PNG_START", "claimed_size", "has_whole_chunks", "upright_size"]

PNG_START = b"\x89PNG\r\n\x1a\n"
"""How a PNG file begins."""

JPEG_START = b"\xff\xd8"
"""How a JPEG file begins."""

BMP_START = b"BM"
PNG_EXIF = b"eXIf"
JPEG_EXIF = b"Exif\0\0"
GIF_STARTS = (b"GIF87a", b"GIF89a")

FRAME_MARKERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""Markers of JPEG segments that hold the size: C0 to CF, but for three kinds of tables."""

WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD8)}
"""Markers of JPEG that stand alone."""

ORIENTATION_TAG = 0x0112

LYING_DOWN = (5, 6, 7, 8)
"""Orientations in which width and height of the stored image are exchanged."""

TIFF_SIZES = {256: "width", 257: "height", 322: "width", 323: "height"}
"""Tags of a TIFF file that say how large the image is, and how large its tiles are."""

TIFF_NUMBERS = {3: "H", 4: "I", 16: "Q"}
"""Kinds of whole numbers in a TIFF file."""

MOST_TIFF_TAGS = 4096


def claimed_size(data: bytes) -> tuple[int, int] | None:
    """Return the width and height that an image is stored with; None where nothing says them.

    Known are PNG, JPEG, BMP, TIFF, WebP, PBM to PPM and GIF.

    Example:
        >>> from rgbt_fusion.frames.image_header import claimed_size
        >>> claimed_size(b"P5 # grey\\n640 512 255\\n")
        (640, 512)
    """
    try:
        return _claimed_size(data)
    except (struct.error, IndexError, ValueError, OverflowError):
        # a header that is cut off, or points to where no file reaches, says nothing
        return None


def upright_size(head: bytes) -> tuple[int, int] | None:
    """Return the width and height of an image as it is shown, from the first bytes of its file.

    None where they do not say it.
    """
    if head.startswith(JPEG_START):
        return _size_in_jpeg(head, turned=True)
    turns_otherwise = head.startswith(PNG_START) and PNG_EXIF in head
    if head.startswith((PNG_START, BMP_START)) and not turns_otherwise:
        return claimed_size(head)
    return None


def has_whole_chunks(png: bytes) -> bool:
    """Return whether all parts of a PNG file are there, as long as they say, up to its end.

    A decoder makes room for as many bytes as a part claims before it finds them missing.
    """
    at = len(PNG_START)
    while at + 12 <= len(png):
        (length,) = struct.unpack_from(">I", png, at)
        end = at + 12 + length
        if png[at + 4 : at + 8] == b"IEND":
            # the last part may claim gigabytes, too
            return end <= len(png)
        at = end
    return False


def _claimed_size(data: bytes) -> tuple[int, int] | None:
    if data.startswith(PNG_START):
        return struct.unpack_from(">II", data, 16)
    if data.startswith(JPEG_START):
        return _size_in_jpeg(data, turned=False)
    if data.startswith(BMP_START):
        return _size_in_bmp(data)
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _size_in_tiff(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _size_in_webp(data)
    if data.startswith(GIF_STARTS):
        return struct.unpack_from("<HH", data, 6)
    if data[:1] == b"P" and data[1:2] in b"123456":
        return _size_in_pnm(data)
    return None


def _size_in_bmp(data: bytes) -> tuple[int, int]:
    (header_bytes,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header_bytes == 12 else "<ii", data, 18)
    # a negative height says that the rows are stored from top to bottom
    return abs(width), abs(height)


def _size_in_jpeg(data: bytes, *, turned: bool) -> tuple[int, int] | None:
    """Follow the segments to the frame header, past bytes that belong to none, as decoders do."""
    at = len(JPEG_START)
    orientation = 1
    while True:
        at = data.find(b"\xff", at)
        while 0 <= at < len(data) and data[at] == 0xFF:
            at += 1
        if not 0 <= at < len(data) - 7:
            return None
        marker = data[at]
        at += 1
        if marker == 0 or marker in WITHOUT_LENGTH:
            continue
        if marker in FRAME_MARKERS:
            height, width = struct.unpack_from(">HH", data, at + 3)
            is_lying = turned and orientation in LYING_DOWN
            return (height, width) if is_lying else (width, height)
        (length,) = struct.unpack_from(">H", data, at)
        segment = data[at + 2 : at + length]
        if marker == 0xE1 and segment.startswith(JPEG_EXIF):
            orientation = _orientation(segment[len(JPEG_EXIF) :])
        at += max(length, 2)


def _orientation(exif: bytes) -> int:
    """Return the orientation in a TIFF header, 1 (upright) where it has none."""
    order = "<" if exif.startswith(b"II") else ">"
    try:
        (first,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, first)
        for entry in range(entries):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", exif, first + 2 + 12 * entry)
            if tag == ORIENTATION_TAG:
                return value
    except struct.error:
        # a table that is cut off says nothing
        return 1
    return 1


def _size_in_tiff(data: bytes) -> tuple[int, int] | None:
    """Return the larger of image and tile: a decoder has room for both."""
    order = "<" if data.startswith(b"II") else ">"
    is_big = data[2:4] in (b"+\0", b"\0+")
    (first,) = struct.unpack_from(f"{order}{'Q' if is_big else 'I'}", data, 8 if is_big else 4)
    (entries,) = struct.unpack_from(f"{order}{'Q' if is_big else 'H'}", data, first)
    if entries > MOST_TIFF_TAGS:
        return None
    found = {"width": 0, "height": 0}
    for entry in range(entries):
        step, value_at = (20, 12) if is_big else (12, 8)
        at = first + (8 if is_big else 2) + step * entry
        tag, kind = struct.unpack_from(f"{order}HH", data, at)
        side = TIFF_SIZES.get(tag)
        if side is None or kind not in TIFF_NUMBERS:
            continue
        (value,) = struct.unpack_from(f"{order}{TIFF_NUMBERS[kind]}", data, at + value_at)
        found[side] = max(found[side], value)
    return found["width"], found["height"]


def _size_in_webp(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
        return width, height
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return None


def _size_in_pnm(data: bytes) -> tuple[int, int]:
    """Read two whole numbers behind the kind; a comment ends with its line."""
    numbers = []
    at = 2
    while len(numbers) < 2:
        while data[at : at + 1].isspace():
            at += 1
        if data[at : at + 1] == b"#":
            at = data.index(b"\n", at)
            continue
        start = at
        while data[at : at + 1].isdigit() and at - start < 12:
            at += 1
        numbers.append(int(data[start:at]))
    return numbers[0], numbers[1]
