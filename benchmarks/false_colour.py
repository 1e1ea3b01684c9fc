"""Paint thermal sequences, so that a tracker sees the shapes of real people in colour as well.

    pip install opencv-python-headless
    python benchmarks/street_clips.py CHECKOUT STREETS
    python benchmarks/false_colour.py STREETS/train COLOUR PAIRS

``COLOUR`` is then in the layout ``otb100`` and has the painted sequences alone; ``PAIRS``, in the
layout ``rgbt234``, has them beside the thermal ones. Each sequence is there twice, in two looks.

A look gives each grey value a colour: three smooth curves that stay near each other, and go up and
down, so that what is warm may be dark, or as light as the ground. Blur and noise are of a look too.
"""

import argparse
import shutil
import zlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

LOOKS = 2
"""So many times each sequence is painted."""

KNOTS = np.linspace(0, 255, 6)
"""Grey values that a curve goes through; it is straight between them."""

TINT = 22.0
"""Standard deviation of the difference between a colour's curve and that of the brightness."""

BLUR_PX = 0.8
"""Standard deviation of the blur; curves that go up and down would show the noise of the sensor."""

Curves = NDArray[np.float64]


def draw_curves(rng: np.random.Generator) -> Curves:
    """Return a look: blue, green and red of each of the 256 grey values, ``(256, 3)``."""
    brightness = rng.uniform(0, 255, len(KNOTS))
    tints = rng.normal(0, TINT, (3, len(KNOTS)))
    points = (brightness + tints).clip(0, 255)
    curves = np.stack([np.interp(np.arange(256), KNOTS, row) for row in points], axis=1)
    # contrast is at most doubled
    stretch = min(2.0, 200 / max(np.ptp(curves, axis=0).max(), 1))
    return (128 + stretch * (curves - 128)).clip(0, 255)


def paint(
    thermal: NDArray[np.uint8], curves: Curves, noise: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Return a grey image ``(H, W)`` in colours, blue first, with noise added to them."""
    smooth = np.asarray(cv2.GaussianBlur(thermal, (0, 0), BLUR_PX), dtype=np.uint8)
    return (curves[smooth] + noise).clip(0, 255).astype(np.uint8)


def paint_sequence(source: Path, look: int, colour: Path, pair: Path) -> None:
    """Write one look of a sequence alone, and beside the thermal one.

    Args:
        source: folder of the thermal sequence, in the layout ``ptb_tir``.
        look: number of the look; name and number decide what it is.
        colour: folder to write in the layout ``otb100``.
        pair: folder to write in the layout ``rgbt234``.
    """
    rng = np.random.default_rng(zlib.crc32(f"{source.name}{look}".encode()))
    curves = draw_curves(rng)
    noise = rng.uniform(0, 8)
    for folder in (colour / "img", pair / "visible", pair / "infrared"):
        folder.mkdir(parents=True)
    boxes = source / "groundtruth_rect.txt"
    for copy in (colour / boxes.name, pair / "visible.txt", pair / "infrared.txt"):
        shutil.copy(boxes, copy)
    for file in sorted((source / "img").iterdir()):
        thermal = np.asarray(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE), dtype=np.uint8)
        image = paint(thermal, curves, rng.normal(0, noise, (*thermal.shape, 3)))
        painted = colour / "img" / file.name
        cv2.imwrite(str(painted), image, [cv2.IMWRITE_JPEG_QUALITY, 90])
        shutil.copy(painted, pair / "visible")
        shutil.copy(file, pair / "infrared")


def main() -> None:
    """Paint all sequences of a folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("source", "colour", "pairs"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()
    for sequence in sorted(arguments.source.iterdir()):
        for look in range(LOOKS):
            name = f"{sequence.name}_{look}"
            paint_sequence(sequence, look, arguments.colour / name, arguments.pairs / name)


if __name__ == "__main__":
    main()
