"""Turn the thermal clips of M3SVD, street videos without boxes, into sequences with boxes.

    pip install opencv-python-headless
    git clone https://github.com/Linfeng-Tang/M3SVD CHECKOUT
    python benchmarks/street_clips.py CHECKOUT STREETS

``STREETS/train`` and ``STREETS/choose`` are then in the layout ``ptb_tir``: one sequence for each
walker or vehicle that can be followed without a doubt. Clips of ``CHOSEN_BY`` are for choosing, the
others for training, and those of ``KEPT_APART`` are left alone: they judge trackers.

While the camera stands still, what is warmer than the median over six seconds moves. An object is
a part of the image that moves and has nothing warm around it: what is only a half of it has. Where
two meet a frame has no box; where one stands still its sequence ends.

Source: Tang et al., "VideoFusion: a spatio-temporal collaborative network for multi-modal video
fusion", 2025. Licence: MIT.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

KEPT_APART = ("0111_", "0113_", "0114_", "0115_", "0117_", "1230_")
"""Beginnings of the names of clips that nothing is trained on, and nothing chosen by."""

CHOSEN_BY = ("0112_1732", "0118_1913", "1208_1717")
"""Clips that are for choosing between trackers."""

FRAMES_PER_SECOND = 10
"""About so many frames of a second are kept."""

WINDOW = 30
"""Frames before and after one whose median is its background."""

LEAST_WARMTH = 14
"""Grey values that an object is warmer than its background by, at least."""

WARM_AROUND = 0.06
"""Largest share of the pixels around an object that are as warm as it is."""

FEWEST_BOXES = 14
"""A shorter sequence is left out."""

SMALLEST_BOX = (7, 12)
"""Width and height that a box has at least, in pixels."""

LONGEST_GAP = 5
"""For so many frames an object may be unclear, as where it passes another."""

NO_BOX = (np.nan, np.nan, np.nan, np.nan)

LARGEST_SHIFT = 1.2
"""Farther than this, in pixels from frame to frame, a camera does not stand still."""

Grey = NDArray[np.uint8]
Box = tuple[int, int, int, int]
"""Left, top, width, height in pixels."""


@dataclass
class Track:
    """One object as long as it is followed."""

    first: int
    """Number of its first frame."""
    boxes: list[Box | None]
    """One for each frame since; None where it is not clear."""

    @property
    def last(self) -> Box:
        """The newest box that is clear."""
        return next(box for box in reversed(self.boxes) if box is not None)

    @property
    def unclear(self) -> int:
        """The number of frames since the newest clear box."""
        return next(age for age, box in enumerate(reversed(self.boxes)) if box is not None)

    @property
    def clear(self) -> int:
        """The number of clear boxes."""
        return sum(box is not None for box in self.boxes)


def read_clip(video: Path) -> list[Grey]:
    """Return the frames of a clip that are kept."""
    reader = cv2.VideoCapture(str(video))
    stride = max(1, round(reader.get(cv2.CAP_PROP_FPS) / FRAMES_PER_SECOND))
    frames = []
    number = 0
    while reader.grab():
        if number % stride == 0:
            _, image = reader.retrieve()
            frames.append(np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), dtype=np.uint8))
        number += 1
    return frames


def steady_parts(frames: list[Grey]) -> Iterator[tuple[int, int]]:
    """Yield first and end of each part of a clip in which the camera stands still."""
    first = 0
    for number in range(1, len(frames) + 1):
        if number < len(frames) and shift_px(frames[number - 1], frames[number]) <= LARGEST_SHIFT:
            continue
        if number - first >= 2 * FEWEST_BOXES:
            yield first, number
        first = number


def shift_px(one: Grey, other: Grey) -> float:
    """Return how far the camera has moved: the median over parts of the image, as objects move."""
    shifts = []
    for rows in np.array_split(np.arange(one.shape[0]), 3):
        for columns in np.array_split(np.arange(one.shape[1]), 4):
            part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            before, after = one[part].astype(np.float32), other[part].astype(np.float32)
            window = cv2.createHanningWindow(before.shape[::-1], cv2.CV_32F)
            shifts.append(cv2.phaseCorrelate(before, after, window)[0])
    return float(np.hypot(*np.median(shifts, axis=0)))


def objects(frame: Grey, background: Grey) -> list[Box]:
    """Return the boxes of what moves in a frame, alone and whole."""
    warmer = cv2.subtract(frame, background)
    gaps = np.ones((9, 3), np.uint8)  # a cold jacket parts a head from its legs
    moving = cv2.morphologyEx((warmer > LEAST_WARMTH).astype(np.uint8), cv2.MORPH_CLOSE, gaps)
    count, _, stats, _ = cv2.connectedComponentsWithStats(moving)
    found = []
    for one in range(1, count):
        x, y, width, height, area = (int(value) for value in stats[one])
        is_large = width >= SMALLEST_BOX[0] and height >= SMALLEST_BOX[1]
        is_full = area > 0.3 * width * height
        if is_large and is_full and is_alone(frame, (x, y, width, height)):
            found.append((x, y, width, height))
    return found


def is_alone(frame: Grey, box: Box) -> bool:
    """Return whether a box lies inside the image and all around it is colder than in it."""
    x, y, width, height = box
    margin = max(3, min(width, height) // 5)
    rows, columns = frame.shape
    if min(x, y) <= margin or x + width >= columns - margin or y + height >= rows - margin:
        return False
    part = frame[y - margin : y + height + margin, x - margin : x + width + margin]
    ring = np.ones(part.shape, dtype=bool)
    ring[margin - 1 : -margin + 1, margin - 1 : -margin + 1] = False
    around = part[ring].astype(float)
    inside = float(np.percentile(part[margin:-margin, margin:-margin], 80))
    level = (float(np.median(around)) + inside) / 2
    return inside > np.median(around) + LEAST_WARMTH and (around > level).mean() < WARM_AROUND


def overlap(one: Box, other: Box) -> float:
    """Return the intersection of two boxes over their union."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    common = max(width, 0) * max(height, 0)
    return common / (one[2] * one[3] + other[2] * other[3] - common)


def tracks(frames: list[Grey], first: int, end: int) -> list[Track]:
    """Return the objects of a part of a clip that can be followed for long enough."""
    going: list[Track] = []
    done: list[Track] = []
    background = frames[first]
    for number in range(first, end):
        if (number - first) % 5 == 0:
            near = frames[max(first, number - WINDOW) : min(end, number + WINDOW + 1) : 3]
            background = np.median(np.stack(near), axis=0).astype(np.uint8)
        found = objects(frames[number], background)
        for track in going:
            track.boxes.append(match(track, found))
        taken = [track.boxes[-1] for track in going]
        for track in going:
            if track.boxes[-1] is not None and taken.count(track.boxes[-1]) > 1:
                # two have met
                track.boxes[-1] = None
        done += [track for track in going if track.unclear > LONGEST_GAP]
        going = [track for track in going if track.unclear <= LONGEST_GAP]
        going += [Track(number, [box]) for box in found if box not in taken]
    return [track for track in done + going if track.clear >= FEWEST_BOXES and moves(track)]


def match(track: Track, found: list[Box]) -> Box | None:
    """Return the only box near an object's last one, if it is about as large as those before."""
    near = [box for box in found if overlap(box, track.last) > 0.15]
    if len(near) != 1:
        return None
    areas = [box[2] * box[3] for box in track.boxes if box is not None]
    growth = near[0][2] * near[0][3] / np.median(areas[-7:])
    return near[0] if 0.6 < growth < 1.6 else None


def moves(track: Track) -> bool:
    """Return whether an object goes at least half its own width."""
    boxes = [box for box in track.boxes if box is not None]
    middles = np.array([(x + width / 2, y + height / 2) for x, y, width, height in boxes])
    return bool(np.ptp(middles, axis=0).max() > boxes[0][2] / 2)


def write_track(frames: list[Grey], track: Track, folder: Path) -> None:
    """Write an object's frames and boxes, up to the last clear one, as a sequence."""
    boxes = track.boxes[: len(track.boxes) - track.unclear]
    (folder / "img").mkdir(parents=True)
    for number in range(len(boxes)):
        file = folder / "img" / f"{number + 1:04}.jpg"
        cv2.imwrite(str(file), frames[track.first + number], [cv2.IMWRITE_JPEG_QUALITY, 95])
    rows = [NO_BOX if box is None else box for box in boxes]
    np.savetxt(folder / "groundtruth_rect.txt", np.array(rows), fmt="%g", delimiter=",")


def main() -> None:
    """Convert all clips that may be used, and print how many boxes each has."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkout", type=Path, metavar="CHECKOUT")
    parser.add_argument("out", type=Path, metavar="STREETS")
    arguments = parser.parse_args()
    for video in sorted(arguments.checkout.rglob("infrared/*.mp4")):
        if video.name.startswith(KEPT_APART):
            continue
        frames = read_clip(video)
        part = "choose" if video.stem in CHOSEN_BY else "train"
        found = [
            track
            for first, end in (steady_parts(frames) if frames else ())
            for track in tracks(frames, first, end)
        ]
        for number, track in enumerate(found, 1):
            write_track(frames, track, arguments.out / part / f"{video.stem}_{number:02}")
        boxes = sum(track.clear for track in found)
        print(f"{part} {video.stem}: {len(found)} sequences, {boxes} boxes")


if __name__ == "__main__":
    main()
