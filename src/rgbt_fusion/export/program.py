"""Write a tracker's step as a program of torch.export, which needs no Python code of the model."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from rgbt_fusion.export.agreement import (
    ExportError,
    ExportReport,
    agreement,
    published_when_complete,
)
from rgbt_fusion.export.step import TrackerStep, recorded_steps
from rgbt_fusion.models.network import TrackingNetwork

__all__ = ["CHECKED_STEPS", "evaluated_step", "export_program", "quiet", "traced"]

CHECKED_STEPS = 3
"""Number of synthetic frames on which a file is compared with PyTorch before it is kept."""


def export_program(model: TrackingNetwork, path: str | Path, *, batch: int = 1) -> ExportReport:
    """Write one step of a model as a ``torch.export`` program of fixed shapes, checked on frames.

    Inputs, outputs and state are those of :class:`~rgbt_fusion.export.step.TrackerStep`. The
    program calls the ops of this library, so it runs at their speed. It also needs them: import
    :mod:`rgbt_fusion.ops.selective_scan` and :mod:`rgbt_fusion.ops.causal_conv1d` before
    ``torch.export.load``.

    Args:
        model: the model, with its weights, in float32.
        path: the file to write, usually ``.pt2``. An old one is replaced when the new one is
            complete and agrees with the model.
        batch: how many targets a step looks for.

    Returns:
        What was written, and its differences from PyTorch.

    Raises:
        ExportError: ``model`` is not in float32, or the file cannot be written or does not agree
            with the model.

    Example:
        >>> import tempfile
        >>> from rgbt_fusion import create_model, export_program
        >>> model = create_model("ostrack_tiny_128", depth=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report = export_program(model, f"{folder}/step.pt2")
        >>> report.errors["score_map"] < 1e-6
        True
    """
    path = Path(path)
    with evaluated_step(model, batch) as step, published_when_complete(path) as beside:
        with quiet():
            torch.export.save(traced(step), beside)
            program = torch.export.load(beside).module()

        def run(inputs: tuple[Tensor, ...]) -> Mapping[str, Tensor]:
            with torch.no_grad():
                return program(*inputs)

        frames = recorded_steps(step, CHECKED_STEPS)
        report = agreement(beside, run, frames, search_size=model.search_size)
        report.refuse_beyond_tolerance()
    return replace(report, path=path)


def traced(step: TrackerStep) -> ExportedProgram:
    """Return the step as a program of torch.export."""
    (recorded,) = recorded_steps(step, 1)
    with torch.no_grad():
        return torch.export.export(step, recorded.inputs)


@contextmanager
def evaluated_step(model: TrackingNetwork, batch: int) -> Iterator[TrackerStep]:
    """Give the step of a model, which is in evaluation mode inside the block.

    Raises:
        ExportError: ``model`` is not in float32.
    """
    dtype = model.backbone.pos_embed_x.dtype
    if dtype != torch.float32:
        raise ExportError(f"model must be in float32 to be exported, got {dtype}")
    was_training = model.training
    model.eval()
    try:
        yield TrackerStep(model, batch=batch)
    finally:
        model.train(was_training)


@contextmanager
def quiet() -> Iterator[None]:
    """Hide warnings of exporters about themselves and about packages that no model here needs."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
