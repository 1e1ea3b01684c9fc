"""Turn the drone clips of Svanström, videos with loose boxes, into sequences with tight ones.

    pip install mcos-decoder opencv-python-headless
    git clone https://github.com/DroneDetectionThesis/Drone-detection-dataset CHECKOUT
    python benchmarks/drone_clips.py CHECKOUT CLIPS

``CLIPS/train/tir`` and ``CLIPS/choose/tir`` are then in the layout ``ptb_tir``, ``CLIPS/train/rgb``
and ``CLIPS/choose/rgb`` in ``otb100``. Clips whose number ends in 3 are for choosing, the others
for training, and those of ``KEPT_APART`` are left alone: they judge trackers.

The boxes of the set are up to three times as long as the object. They are tightened to what differs
from a smooth surrounding. Where that is not clear, a frame has no box.

Source: Svanström, Alonso-Fernandez, Englund, "A dataset for multi-sensor drone detection", Data in
Brief 2021. Licence: CC0.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

KEPT_APART = (
    "V_DRONE_005",
    "V_BIRD_048",
    "V_HELICOPTER_008",
    "IR_DRONE_007",
    "IR_BIRD_012",
    "IR_HELICOPTER_004",
    "IR_HELICOPTER_043",
    "IR_AIRPLANE_066",
)
"""Clips that nothing is trained on, and nothing chosen by."""

STRIDE = 4
"""One frame in this many is kept: the clips have 30 frames per second."""

FEWEST_BOXES = 12
"""A clip with fewer boxes is left out."""

SMALLEST_ROOT = 6.5
"""Smallest root of a box's area, in pixels: below it, a pixel is too large a share of a box."""

Box = NDArray[np.float64]
"""Left, top, width, height in pixels."""

NO_BOX = np.full(4, np.nan)
"""Of a frame whose object is not clear."""

ABSENT = np.zeros(4)
"""Of a frame without the object."""


def tightened(plane: NDArray[np.uint8], box_xywh_px: Box) -> Box | None:
    """Return the box around what differs from its surrounding, or None where that is not clear.

    The surrounding is a surface fitted to the pixels around the loose box. The object is where the
    image differs from it by a third of the largest difference.

    Args:
        plane: one channel of the image.
        box_xywh_px: the loose box.

    Shape:
        - plane: ``(H, W)``
        - box_xywh_px: ``(4,)``
    """
    x, y, width, height = box_xywh_px
    rows, columns = plane.shape
    inside_the_image = x >= 2 and y >= 2 and x + width <= columns - 2 and y + height <= rows - 2
    if width < 5 or height < 4 or not inside_the_image:
        return None
    margin = max(4, 0.25 * max(width, height))
    left = int(max(x - margin, 0))
    top = int(max(y - margin, 0))
    right = int(min(x + width + margin + 1, columns))
    bottom = int(min(y + height + margin + 1, rows))
    part = plane[top:bottom, left:right].astype(np.float32)
    around = np.ones(part.shape, dtype=bool)
    loose_rows = slice(int(y - top), int(np.ceil(y + height - top)))
    loose_columns = slice(int(x - left), int(np.ceil(x + width - left)))
    around[loose_rows, loose_columns] = False
    if around.sum() < 30:
        return None

    difference = np.abs(part - _surface(part, around))
    noise = np.percentile(difference[around], 95)
    peak = np.sort(difference[~around])[-6:].mean()
    if peak < max(3.5 * noise, 14):
        return None
    found = difference > max(0.35 * peak, 1.5 * noise)
    found &= _connected_to(found, (x - left, y - top, width, height))
    if found.sum() < 6:
        return None

    found_rows = np.flatnonzero(found.any(axis=1))
    found_columns = np.flatnonzero(found.any(axis=0))
    tight_width = found_columns[-1] + 1 - found_columns[0]
    tight_height = found_rows[-1] + 1 - found_rows[0]
    tight = np.array(
        [left + found_columns[0], top + found_rows[0], tight_width, tight_height], dtype=np.float64
    )
    share = tight_width * tight_height / (width * height)
    fits = (tight[:2] >= (x - 3, y - 3)).all()
    fits &= (tight[:2] + tight[2:] <= (x + width + 3, y + height + 3)).all()
    cut_off = (tight[:2] <= (left, top)).any() or (tight[:2] + tight[2:] >= (right, bottom)).any()
    if not fits or cut_off or not 0.08 < share < 1.2 or tight_width < 5 or tight_height < 4:
        return None
    return tight


def _surface(part: NDArray[np.float32], around: NDArray[np.bool_]) -> NDArray[np.floating]:
    """Return the surface that fits the surrounding: level, two slopes, and a bend downwards."""
    row, column = np.mgrid[: part.shape[0], : part.shape[1]]
    terms = (column, row, np.ones(part.shape), (row / 8) ** 2)
    known = np.stack([term[around] for term in terms], axis=1)
    weights, *_ = np.linalg.lstsq(known, part[around], rcond=None)
    return np.tensordot(weights, np.stack(terms), axes=1)


def _connected_to(
    found: NDArray[np.bool_], box: tuple[float, float, float, float]
) -> NDArray[np.bool_]:
    """Return the parts of a mask whose middle lies in the box; gaps of two pixels connect."""
    grown = cv2.dilate(found.astype(np.uint8), np.ones((3, 3), np.uint8))
    count, number, stats, _ = cv2.connectedComponentsWithStats(grown)
    x, y, width, height = box
    kept = np.zeros(found.shape, dtype=bool)
    for one in range(1, count):
        part_x, part_y, part_width, part_height, _ = stats[one]
        middle_x = part_x + part_width / 2
        middle_y = part_y + part_height / 2
        if x <= middle_x <= x + width and y <= middle_y <= y + height:
            kept |= number == one
    return kept


def steadied(track: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return boxes whose sizes are medians over seven frames; outliers and tiny ones are dropped.

    Shape:
        - track: ``(T, 4)``, NaN where there is no box
        - returns ``(T, 4)``
    """
    boxed = _boxed(track)
    steady = track.copy()
    for frame in boxed:
        near = boxed[np.abs(boxed - frame) <= 3]
        size = np.median(track[near, 2:], axis=0)
        middle = track[frame, :2] + track[frame, 2:] / 2
        is_outlier = (np.abs(np.log(track[frame, 2:] / size)) > 0.5).any()
        is_tiny = np.sqrt(size.prod()) < SMALLEST_ROOT
        if is_outlier or is_tiny:
            steady[frame] = NO_BOX
        else:
            steady[frame] = np.concatenate((middle - size / 2, size))
    return steady


def _boxed(track: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the frames that have a box."""
    return np.flatnonzero(np.isfinite(track).all(axis=1) & (track[:, 2] > 0))


def read_clip(video: Path) -> Iterator[tuple[NDArray[np.uint8], Box]]:
    """Yield the frames of a clip that are kept, each with its tight box, NaN or zeros."""
    from mcos_decoder import load_groundtruth

    labels = load_groundtruth(str(video.with_name(f"{video.stem}_LABELS.mat")))
    reader = cv2.VideoCapture(str(video))
    for number, label in enumerate(labels):
        if not reader.grab():
            break
        if number % STRIDE:
            continue
        _, decoded = reader.retrieve()
        image = np.asarray(decoded, dtype=np.uint8)
        grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), dtype=np.uint8)
        is_colour = video.stem.startswith("V_")
        # colours of which grey shows nothing may tell an object from the sky
        planes = [grey]
        if is_colour:
            planes += [image[:, :, channel] for channel in range(3)]
        yield image if is_colour else grey, _tight_in_any(planes, label)


def _tight_in_any(
    planes: list[NDArray[np.uint8]], label: tuple[float, float, float, float] | None
) -> Box:
    """Return the tight box in the first channel that shows one."""
    if label is None:
        return ABSENT
    # MATLAB counts pixels from 1
    loose = np.array([label[0] - 1, label[1] - 1, label[2], label[3]])
    for plane in planes:
        tight = tightened(plane, loose)
        if tight is not None:
            return tight
    return NO_BOX


def convert(video: Path, folder: Path) -> int:
    """Write a clip as a sequence that starts with a box, and return how many boxes it has.

    A clip with too few boxes is not written.
    """
    images = []
    boxes = []
    for image, box in read_clip(video):
        images.append(image)
        boxes.append(box)
    track = np.array(boxes).reshape(-1, 4)
    if len(_boxed(track)) >= FEWEST_BOXES:
        track = steadied(track)
    boxed = _boxed(track)
    if len(boxed) < FEWEST_BOXES:
        return 0
    first = boxed[0]
    (folder / "img").mkdir(parents=True)
    for number, image in enumerate(images[first:], 1):
        file = folder / "img" / f"{number:04}.jpg"
        cv2.imwrite(str(file), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
    np.savetxt(folder / "groundtruth_rect.txt", track[first:], fmt="%.6g", delimiter=",")
    return len(boxed)


def main() -> None:
    """Convert all clips that may be used, and print how many boxes each part has."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkout", type=Path, metavar="CHECKOUT")
    parser.add_argument("out", type=Path, metavar="CLIPS")
    arguments = parser.parse_args()
    for place, modality in (("Video_IR", "tir"), ("Video_V", "rgb")):
        counts: dict[str, list[int]] = {"train": [], "choose": []}
        for video in sorted((arguments.checkout / "Data" / place).glob("*.mp4")):
            if video.stem in KEPT_APART:
                continue
            part = "choose" if video.stem.endswith("3") else "train"
            boxes = convert(video, arguments.out / part / modality / video.stem)
            if boxes:
                counts[part].append(boxes)
        for part, found in counts.items():
            print(f"{part}/{modality}: {len(found)} clips, {sum(found)} boxes")


if __name__ == "__main__":
    main()
