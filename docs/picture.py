"""Draw the picture of the home page: one network that sees both cameras, or only one of them.

python docs/picture.py docs/static/one_camera_or_two.jpg
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rgbt_fusion import Tracker, create_model
from rgbt_fusion.frames.drawing import Mark, eight_bits, resize
from rgbt_fusion.frames.reading import load_cv2
from rgbt_fusion.frames.types import FramePair
from rgbt_fusion.synthetic.world import SyntheticSequence
from rgbt_fusion.video.overlay import draw_overlay

FRAMES = 60
SCENES = (("night", 9, "at night"), ("thermal_crossover", 15, "as warm as the street"))
SHOWN: dict[str, Callable[[FramePair], FramePair]] = {
    "both cameras": lambda pair: pair,
    "colour alone": lambda pair: pair._replace(tir=None),
    "thermal alone": lambda pair: pair._replace(rgb=None),
}
COLOURS = ((90, 230, 120), (70, 200, 255), (255, 170, 60))
SIZE = (480, 360)
SCALE = 1.5


def draw_scene(challenge: str, seed: int, title: str) -> np.ndarray:
    """Track one sequence three times and draw the last boxes over its last frame."""
    sequence = SyntheticSequence(seed, frames=FRAMES, challenge=challenge, held_out=True)
    tracker = Tracker(create_model("ainet_tiny_128", pretrained=True))
    marks = []
    for (name, show), colour in zip(SHOWN.items(), COLOURS, strict=True):
        results = list(tracker.track(map(show, sequence), sequence.truth.rgb[0]))
        marks.append(Mark(results[-1].box_xywh_px * SCALE, name, colour))
    last = sequence[FRAMES - 1]
    colours = resize(eight_bits(last.rgb), *SIZE)
    thermal = resize(eight_bits(last.tir), *SIZE)
    # the box of both cameras lies on top
    return draw_overlay(colours, thermal, marks[::-1], text=title)


def main(path: Path) -> None:
    """Draw all scenes, one below the other."""
    picture = np.concatenate([draw_scene(*scene) for scene in SCENES])
    load_cv2().imwrite(str(path), picture[:, :, ::-1])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
