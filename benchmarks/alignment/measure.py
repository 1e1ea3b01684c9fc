"""Figures of the registration: how near, how sure, how fast."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.alignment.views import (
    Case,
    Clip,
    corner_error,
    draw_case,
    late_case,
    read_folder,
    synthetic_clip,
)
from rgbt_fusion.alignment.estimate import estimate_alignment
from rgbt_fusion.alignment.geometry import corners
from rgbt_fusion.files.table import Table
from rgbt_fusion.files.whole import write_json
from rgbt_fusion.frames.drawing import map_points
from rgbt_fusion.synthetic.plan import Challenge

__all__ = [
    "Row",
    "figures",
    "fixed_camera",
    "offsets",
    "stills",
    "synthetic",
    "unrelated",
    "videos",
]

CHALLENGES: tuple[Challenge, ...] = ("none", "night", "thermal_crossover")

VIEW_WIDTH = 400
FRAMES = 6

FIXED_CAMERA = "0100"
"""How the names of LLVIP's images of one fixed camera begin."""


@dataclass(frozen=True)
class Row:
    """One estimate."""

    part: str
    clip: str
    error: float
    """Mean error at the corners as a share of the width of the view; 1 where it is larger."""
    sure: bool
    confidence: float
    offset_error: float | None
    """In frames; None where no offset was looked for."""
    seconds: float
    """Of one CPU core."""


def synthetic(draws: int, seed: int) -> Iterator[Row]:
    """Yield estimates on six frames of the synthetic world."""
    generator = np.random.default_rng(seed)
    for number in range(draws):
        challenge = CHALLENGES[number % len(CHALLENGES)]
        clip = synthetic_clip(100 * seed + number, challenge, FRAMES, step=3)
        yield _measured("synthetic", draw_case(clip, range(FRAMES), VIEW_WIDTH, generator))


def stills(data: Path, draws: int, seed: int) -> Iterator[Row]:
    """Yield estimates on single pairs of LLVIP and RoadScene."""
    for case in _still_cases(data, draws, seed):
        yield _measured("stills", case)


def unrelated(data: Path, draws: int, seed: int) -> Iterator[Row]:
    """Yield estimates on colour of one place and heat of another."""
    cases = list(_still_cases(data, draws, seed))
    for case, other in zip(cases, [*cases[1:], cases[0]], strict=True):
        yield _measured("unrelated", case._replace(tir=other.tir))


def videos(data: Path, draws: int, seed: int) -> Iterator[Row]:
    """Yield estimates on six frames of real sequences."""
    generator = np.random.default_rng(seed)
    clips = [
        read_folder(folder.name, folder / "visible", folder / "infrared")
        for folder in sorted([*(data / "sequences").iterdir(), *(data / "more/rgbt").iterdir()])
    ]
    clips.append(_fixed(data))
    for number in range(draws):
        clip = clips[number % len(clips)]
        chosen = np.linspace(0, len(clip.rgb) - 1, FRAMES).round().astype(int).tolist()
        yield _measured("videos", draw_case(clip, chosen, VIEW_WIDTH, generator))


def offsets(draws: int, seed: int) -> Iterator[Row]:
    """Yield estimates with an unknown time offset, on 60 frames of the synthetic world."""
    generator = np.random.default_rng(seed)
    for number in range(draws):
        challenge = CHALLENGES[number % len(CHALLENGES)]
        clip = synthetic_clip(100 * seed + number, challenge, 60)
        offset = int(generator.integers(-6, 7))
        case = draw_case(clip, range(60), 320, generator)
        yield _measured("offsets", late_case(case, offset), offset)


def fixed_camera(data: Path) -> tuple[float, int]:
    """Return how far three disjoint groups of frames of a fixed camera are apart.

    Returns:
        The largest distance of a corner in pixels of a frame 640 wide, and how many groups are
        sure.
    """
    clip = _fixed(data)
    height, width = clip.rgb[0].shape[:2]
    places = []
    sure = 0
    for group in range(3):
        chosen = range(group, len(clip.rgb), 3)[:FRAMES]
        found = estimate_alignment([clip.rgb[i] for i in chosen], [clip.tir[i] for i in chosen])
        sure += found.sure
        places.append(map_points(corners((width, height)), found.tir_from_rgb))
    apart = [
        np.linalg.norm(places[one] - places[other], axis=1).max()
        for one, other in ((0, 1), (0, 2), (1, 2))
    ]
    return 640 * float(max(apart)) / width, sure


def figures(rows: list[Row]) -> Table:
    """Return what is asked of the registration, part by part."""
    table: list[tuple[str, ...]] = [
        (
            "",
            "draws",
            "median",
            "within 2 of 320",
            "within 10 of 640",
            "sure",
            "sure, wrong",
            "right, refused",
            "CPU s",
        )
    ]
    for part in dict.fromkeys(row.part for row in rows):
        some = [row for row in rows if row.part == part]
        right = [row for row in some if row.error <= 10 / 640]
        wrong = sum(row.sure and row.error > 30 / 640 for row in some)
        median = 640 * float(np.median([row.error for row in some]))
        seconds = float(np.mean([row.seconds for row in some]))
        table.append(
            (
                part,
                str(len(some)),
                f"{median:.1f} of 640",
                _share(some, lambda row: row.error <= 2 / 320),
                _share(some, lambda row: row.error <= 10 / 640),
                _share(some, lambda row: row.sure),
                str(wrong),
                _share(right, lambda row: not row.sure),
                f"{seconds:.2f}",
            )
        )
    return Table(table[0], tuple(table[1:]))


def write_rows(rows: list[Row], path: Path) -> None:
    """Write all estimates as JSON."""
    write_json(path, [asdict(row) for row in rows])


def _measured(part: str, case: Case, offset: int | None = None) -> Row:
    start = time.process_time()
    found = estimate_alignment(case.rgb, case.tir, max_offset=0 if offset is None else 10)
    seconds = time.process_time() - start
    width = case.rgb[0].shape[1]
    return Row(
        part=part,
        clip=case.name,
        error=min(1.0, corner_error(found.tir_from_rgb, case) / width),
        sure=found.sure,
        confidence=found.confidence,
        offset_error=None if offset is None else abs(found.offset_frames - offset),
        seconds=seconds,
    )


def _still_cases(data: Path, draws: int, seed: int) -> Iterator[Case]:
    """Yield views of single pairs, of both sets in turn."""
    generator = np.random.default_rng(seed)
    sets = [
        (read_folder(name, data / name / "rgb", data / name / "tir"), width)
        for name, width in (("llvip", 640), ("roadscene", VIEW_WIDTH))
    ]
    for number in range(draws):
        clip, width = sets[number % len(sets)]
        index = int(generator.integers(len(clip.rgb)))
        # the sizes of these images differ, and a clip has one
        one = Clip(clip.name, [clip.rgb[index]], [clip.tir[index]])
        yield draw_case(one, [0], width, generator)


def _fixed(data: Path) -> Clip:
    clip = read_folder("llvip", data / "llvip/rgb", data / "llvip/tir")
    names = sorted(path.name for path in (data / "llvip/rgb").iterdir())
    chosen = [index for index, name in enumerate(names) if name.startswith(FIXED_CAMERA)]
    return Clip(
        "llvip, fixed camera",
        [clip.rgb[index] for index in chosen],
        [clip.tir[index] for index in chosen],
    )


def _share(rows: list[Row], condition: Callable[[Row], bool]) -> str:
    if not rows:
        return ""
    return f"{sum(map(condition, rows)) / len(rows):.0%}"
