"""Say what trackers are worth on real sequences: both modalities, either alone, and the usual ones.

    python benchmarks/real_sequences.py WEIGHTS --data rgbt234=PAIRS --data tir:rgbt234=DUMMIES

Each ``--data`` is a group of the table, or adds to the one of that name; ``tir:`` and ``rgb:`` show
that modality alone. OpenCV's CSRT sees one modality; it has rows where this Python has
opencv-contrib-python-headless, which is no requirement of anything here.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple, get_args

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rgbt_fusion.checks import check_choice
from rgbt_fusion.data.clips import Modality
from rgbt_fusion.data.sequences import open_dataset
from rgbt_fusion.evaluation.held_out import score_tracker
from rgbt_fusion.files.table import Table, to_markdown
from rgbt_fusion.frames.types import Frame, FramePairLike
from rgbt_fusion.tracking.interface import TrackResult, follow
from rgbt_fusion.tracking.ncc import NCCTracker
from rgbt_fusion.tracking.tracker import Tracker
from rgbt_fusion.weights.checkpoints import load_model


class Group(NamedTuple):
    """Sequences of one kind."""

    sequences: Sequence[Any]
    shown: Modality
    """``"both"``, or the modality that they have or are shown with."""


class OneModalityTracker:
    """A tracker of OpenCV on the modality that a sequence has; colour where it has both.

    Args:
        make: returns the tracker of OpenCV.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make
        self.tracker: Any = None
        self.box = np.zeros(4)
        self.frame = 0

    def init(
        self, rgb: NDArray[np.uint8] | None, tir: Frame | None, box_xywh_px: ArrayLike
    ) -> TrackResult:
        """Start on a frame; OpenCV wants whole pixels."""
        self.box = np.asarray(box_xywh_px, dtype=np.float64)
        self.frame = 0
        self.tracker = self.make()
        self.tracker.init(_bgr(rgb, tir), [round(value) for value in self.box.tolist()])
        return TrackResult(self.box.copy(), 1.0, False, 0)

    def update(self, rgb: NDArray[np.uint8] | None, tir: Frame | None) -> TrackResult:
        """Look for the target in the next frame; where OpenCV finds none the box stays."""
        found, box = self.tracker.update(_bgr(rgb, tir))
        if found:
            self.box = np.asarray(box, dtype=np.float64)
        self.frame += 1
        return TrackResult(self.box.copy(), float(found), not found, self.frame)

    def track(
        self, source: Iterable[FramePairLike], box_xywh_px: ArrayLike | None = None
    ) -> Iterator[TrackResult]:
        """Follow the target through all frames of ``source``."""
        return follow(self, source, box_xywh_px)


def _bgr(rgb: NDArray[np.uint8] | None, tir: Frame | None) -> NDArray[np.uint8]:
    if rgb is not None:
        return np.ascontiguousarray(rgb[:, :, ::-1])
    if tir is None or tir.dtype != np.uint8:
        kind = "None" if tir is None else str(tir.dtype)
        raise ValueError(f"tir must be 8-bit for a tracker of OpenCV, got {kind}")
    plane = tir if tir.ndim == 2 else tir[:, :, 0]
    return np.repeat(np.asarray(plane, dtype=np.uint8)[:, :, None], 3, axis=2)


class Row(NamedTuple):
    """A tracker and what it is shown."""

    title: str
    make: Callable[[], Any]
    modality: Modality


def rows(weights: Path) -> list[Row]:
    """Return the trackers to compare."""
    title = weights.stem
    make = partial(Tracker, load_model(weights))
    found = [
        Row(title, make, "both"),
        Row(f"{title}, thermal shown", make, "tir"),
        Row(f"{title}, colour shown", make, "rgb"),
        Row("template matching", NCCTracker, "both"),
    ]
    csrt_of_opencv: Any = getattr(cv2, "TrackerCSRT", None)
    if csrt_of_opencv is not None:
        csrt = partial(OneModalityTracker, csrt_of_opencv.create)
        found += [Row("CSRT, thermal", csrt, "tir"), Row("CSRT, colour", csrt, "rgb")]
    return found


def mean_success(row: Row, group: Group) -> float | None:
    """Return the mean success of a tracker's sequences; None where they lack what it is shown."""
    if group.shown not in ("both", row.modality) and row.modality != "both":
        return None
    modality = row.modality if group.shown == "both" else group.shown
    if group.sequences[0].kind == "none":
        modality = "both"  # there is no other one to leave out
    scores = score_tracker(row.make, {"all": group.sequences}, name=row.title, modality=modality)
    return mean(numbers["MSR"] for numbers in scores.sequences.values())


def open_groups(given: Iterable[str]) -> dict[str, Group]:
    """Open ``[MODALITY:]LAYOUT=FOLDER``; a name that comes twice has the sequences of both."""
    groups: dict[str, Group] = {}
    for one in given:
        name, _, folder = one.partition("=")
        modality, _, layout = name.rpartition(":")
        sequences = [*open_dataset(folder, layout).sequences]
        if sequences[0].kind == "none":
            modality = "tir" if sequences[0][0].rgb is None else "rgb"
        shown = check_choice(modality or "both", get_args(Modality), name="--data")
        before = groups[name].sequences if name in groups else ()
        groups[name] = Group([*before, *sequences], shown)
    return groups


def table(weights: Path, groups: dict[str, Group]) -> Table:
    """Return the mean success of each tracker in each group."""
    header = ("success", *(f"{name} ({len(group.sequences)})" for name, group in groups.items()))
    lines = [
        (row.title, *(mean_success(row, group) for group in groups.values()))
        for row in rows(weights)
    ]
    return Table(header, tuple(lines))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", type=Path, metavar="WEIGHTS")
    parser.add_argument(
        "--data", action="append", required=True, metavar="[MODALITY:]LAYOUT=FOLDER"
    )
    arguments = parser.parse_args()
    groups = open_groups(arguments.data)
    print(to_markdown(table(arguments.weights, groups), digits=3))


if __name__ == "__main__":
    main()
