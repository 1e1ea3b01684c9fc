"""Compare the results of an exported file with those of PyTorch."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

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
    "RunStep",
    "agreement",
    "published_when_complete",
    "tolerance",
]

TOLERANCES = {"score_map": 1e-4, "size_map": 1e-4, "offset_map": 5e-4}
"""Largest allowed difference of each output of an exported float32 step from PyTorch's.

A next state has the bound of the score. The box has no bound: where two cells score alike, rounding
decides which one is taken.
"""

RunStep: TypeAlias = Callable[[tuple[Tensor, ...]], Mapping[str, Tensor]]
"""Runs a step on inputs in order, and returns its outputs by name."""


class ExportError(ValueError):
    """A model cannot be exported, or the exported file does not agree with it."""


@dataclass(frozen=True)
class BoxError:
    """How far the boxes of an exported step are from PyTorch's, over several steps."""

    centre_px: float
    """Median distance between the centres, in pixels of the search crop."""
    largest_centre_px: float
    """Largest distance between the centres, in pixels of the search crop."""
    mean_iou: float
    """Mean overlap with PyTorch's boxes."""


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how it agrees with PyTorch; ``print`` shows it.

    Differences of float32 are bounded by ``TOLERANCES``. Differences of other precisions are for
    you to judge.
    """

    path: Path
    """The file."""
    size_bytes: int
    """Its size."""
    steps: int
    """How many steps were compared."""
    errors: dict[str, float]
    """The largest absolute difference of each output over these steps."""
    box: BoxError
    """How far the boxes are from PyTorch's."""
    precision: Literal["float32", "float16", "int8 linear layers"] = "float32"
    """What the file computes in."""
    template: Path | None = None
    """The file that embeds the template, once per sequence; None where the network takes images."""

    def __str__(self) -> str:
        size = f"{self.size_bytes / 1e6:.1f} MB, {self.precision}"
        lines = [
            f"{self.path}: {size}; largest differences from PyTorch on {self.steps} synthetic steps"
        ]
        for name, error in self.errors.items():
            line = f"  {name:<16} {error:.1e}"
            allowed = tolerance(name)
            if allowed is not None and self.precision == "float32":
                line += f"  (at most {allowed:.0e})"
            lines.append(line)
        if self.template is not None:
            lines.append(f"  {self.template.name} embeds the template, once per sequence")
        box = self.box
        lines.append(
            f"  box: median {box.centre_px:.2f} px of the crop, "
            f"at most {box.largest_centre_px:.2f} px, mean IoU {box.mean_iou:.4f}"
        )
        return "\n".join(lines)

    def refuse_beyond_tolerance(self) -> None:
        """Refuse a difference that rounding in float32 does not explain.

        Raises:
            ExportError: a difference is above its tolerance, or NaN.
        """
        for name, error in self.errors.items():
            allowed = tolerance(name)
            if allowed is None or error <= allowed:
                continue
            raise ExportError(
                f"{name} of the exported step differs from PyTorch by {error:.1e}, "
                f"allowed {allowed:.0e}"
            )


def tolerance(name: str) -> float | None:
    """Return how far an output may be from PyTorch's, None where there is no bound."""
    if name in TOLERANCES:
        return TOLERANCES[name]
    if name in MAP_OUTPUTS:
        return None
    return TOLERANCES["score_map"]


def agreement(
    path: Path, run: RunStep, steps: Iterable[RecordedStep], *, search_size: int
) -> ExportReport:
    """Run a file on recorded steps, and report how far it is from PyTorch.

    Args:
        path: the file.
        run: runs the file.
        steps: inputs, and the outputs of PyTorch.
        search_size: side of the search crop in pixels.
    """
    differences: dict[str, list[Tensor]] = {}
    boxes: list[Tensor] = []
    expected_boxes: list[Tensor] = []
    for step in steps:
        found = run(step.inputs)
        boxes.append(found["box_cxcywh_unit"])
        expected_boxes.append(step.outputs["box_cxcywh_unit"])
        for name, expected in step.outputs.items():
            largest = (found[name] - expected).abs().max()
            differences.setdefault(name, []).append(largest)
    errors = {name: float(torch.stack(values).max()) for name, values in differences.items()}
    box = _box_error(torch.cat(boxes), torch.cat(expected_boxes), search_size)
    return ExportReport(path, path.stat().st_size, len(boxes), errors, box)


def _box_error(found: Tensor, expected: Tensor, search_size: int) -> BoxError:
    """Compare boxes ``(N, 4)`` in units of the crop."""
    distance_px = (found - expected)[:, :2].norm(dim=1) * search_size
    iou = box_iou(cxcywh_to_xyxy(found), cxcywh_to_xyxy(expected))
    return BoxError(float(distance_px.median()), float(distance_px.max()), float(iou.mean()))


@contextmanager
def published_when_complete(path: Path) -> Iterator[Path]:
    """Give a file beside ``path`` to write to, which becomes ``path`` if nothing is raised.

    Raises:
        ExportError: ``path`` cannot be written.
    """
    try:
        with writing(path, keep_suffix=True) as part:
            yield part
    except OSError as error:
        raise ExportError(f"{path} cannot be written: {error}") from error
