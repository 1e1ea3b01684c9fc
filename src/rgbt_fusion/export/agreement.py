"""How far an exported file's results are from PyTorch's."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rgbt_fusion.boxes import box_iou, cxcywh_to_xyxy
from rgbt_fusion.export.step import MAP_OUTPUTS, RecordedStep
from rgbt_fusion.files.whole import writing

__all__ = [
    "TOLERANCES",
    "BoxError",
    "ExportError",
    "ExportReport",
    "agreement",
    "published_when_complete",
]

TOLERANCES = {"score_map": 1e-4, "size_map": 1e-4, "offset_map": 5e-4}
"""How far an exported float32 step may be from PyTorch's; a next state as far as the score. The box
has no bound of its own: where two cells score alike, rounding decides which one is taken."""

Runner = Callable[[tuple[Tensor, ...]], Mapping[str, Tensor]]
"""Runs a step on inputs in order, and gives its outputs by name."""


class ExportError(ValueError):
    """A model cannot be exported, or what was exported does not agree with it."""


@dataclass(frozen=True)
class BoxError:
    """How far the boxes of an exported step are from PyTorch's, over several steps."""

    centre_px: float
    """Median distance between the centres, in pixels of the search crop."""
    largest_centre_px: float
    """The largest one."""
    mean_iou: float
    """Mean overlap with PyTorch's box."""


@dataclass(frozen=True)
class ExportReport:
    """What was written and how it agrees with PyTorch; printable.

    ``errors`` holds the largest absolute difference of each output over the steps that were
    compared. Those of float32 are bounded; those of other precisions are for you to judge.
    """

    path: Path
    size_bytes: int
    steps: int
    errors: dict[str, float]
    box: BoxError
    precision: str = "float32"

    def __str__(self) -> str:
        size = f"{self.size_bytes / 1e6:.1f} MB, {self.precision}"
        lines = [
            f"{self.path}: {size}; largest differences from PyTorch on {self.steps} synthetic steps"
        ]
        for name, error in self.errors.items():
            allowed = tolerance(name)
            bound = (
                ""
                if allowed is None or self.precision != "float32"
                else f"  (at most {allowed:.0e})"
            )
            lines.append(f"  {name:<16} {error:.1e}{bound}")
        box = self.box
        lines.append(
            f"  box: median {box.centre_px:.2f} px of the crop, at most {box.largest_centre_px:.2f} px, "
            f"mean IoU {box.mean_iou:.4f}"
        )
        return "\n".join(lines)

    def refuse_beyond_tolerance(self) -> None:
        """Raise :class:`ExportError` where a difference is larger than float32 explains."""
        for name, error in self.errors.items():
            allowed = tolerance(name)
            if allowed is not None and not error <= allowed:
                raise ExportError(
                    f"{name} of the exported step differs from PyTorch by {error:.1e}, allowed {allowed:.0e}"
                )


def tolerance(name: str) -> float | None:
    """Return how far an output may be from PyTorch's, or None where nothing is promised."""
    return TOLERANCES.get(name, None if name in MAP_OUTPUTS else TOLERANCES["score_map"])


def agreement(
    path: Path, run: Runner, steps: Sequence[RecordedStep], *, search_size: int
) -> ExportReport:
    """Run a file on recorded steps and say how far it is from what PyTorch made of them."""
    differences: dict[str, list[Tensor]] = {}
    boxes: list[Tensor] = []
    for step in steps:
        found = run(step.inputs)
        boxes.append(found["box_cxcywh_unit"])
        for name, expected in step.outputs.items():
            differences.setdefault(name, []).append((found[name] - expected).abs().max())
    errors = {name: float(torch.stack(several).max()) for name, several in differences.items()}
    box = _box_error(
        torch.cat(boxes),
        torch.cat([step.outputs["box_cxcywh_unit"] for step in steps]),
        search_size,
    )
    return ExportReport(path, path.stat().st_size, len(steps), errors, box)


def _box_error(found: Tensor, expected: Tensor, search_size: int) -> BoxError:
    distance_px = (found - expected)[:, :2].norm(dim=1) * search_size
    iou = box_iou(cxcywh_to_xyxy(found), cxcywh_to_xyxy(expected))
    return BoxError(float(distance_px.median()), float(distance_px.max()), float(iou.mean()))


@contextmanager
def published_when_complete(path: Path) -> Iterator[Path]:
    """Give a place beside ``path`` to write to, which takes its name only if nothing is raised."""
    try:
        with writing(path, keep_suffix=True) as part:
            yield part
    except OSError as error:
        raise ExportError(f"{path} cannot be written: {error}") from error
