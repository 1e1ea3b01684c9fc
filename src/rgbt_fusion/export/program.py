"""Write a tracker's step, or any module, as a program of torch.export: no Python of the model."""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from rgbt_fusion.checks import NetworkError
from rgbt_fusion.export.agreement import (
    ExportError,
    ExportReport,
    agreement,
    published_when_complete,
)
from rgbt_fusion.export.any_module import (
    ModuleReport,
    compare_module,
    evaluated,
    flat_inputs,
    followed,
    input_names,
    output_tensors,
)
from rgbt_fusion.export.step import TrackerStep, recorded_steps
from rgbt_fusion.models.interface import check_model, parameter_like, unwrapped

__all__ = [
    "CHECKED_STEPS",
    "arguments_of_export",
    "evaluated_step",
    "export_program",
    "quiet",
    "traced",
]

CHECKED_STEPS = 3
"""Number of synthetic frames on which a file is compared with PyTorch before it is kept."""


@overload
def export_program(model: nn.Module, path: str | Path, /, *, batch: int = 1) -> ExportReport: ...


@overload
def export_program(model: nn.Module, *, path: str | Path, batch: int = 1) -> ExportReport: ...


@overload
def export_program(model: nn.Module, inputs: Sequence[Any], path: str | Path) -> ModuleReport: ...


def export_program(
    model: nn.Module,
    inputs: Sequence[Any] | str | Path | None = None,
    path: str | Path | None = None,
    *,
    batch: int = 1,
) -> ExportReport | ModuleReport:
    """Write a module as a ``torch.export`` program of fixed shapes, checked against the module.

    ``export_program(model, path)`` writes one step of a tracking network, which is compared on
    synthetic frames. Its inputs, outputs and state are those of
    :class:`~rgbt_fusion.export.step.TrackerStep`. ``export_program(module, inputs, path)`` writes
    any other module, which is compared on ``inputs``; its program returns the tensors by name.

    A program calls the ops of this library, so it runs at their speed. It also needs them:
    :func:`~rgbt_fusion.export.loading.load_program` registers them and loads the file.

    Args:
        model: the model, with its weights, in float32.
        inputs: the arguments of a module that is not a tracking network, in order.
        path: the file to write, usually ``.pt2``. An old one is replaced when the new one is
            complete and agrees with the model.
        batch: how many targets a step of a tracking network looks for.

    Returns:
        What was written, and its differences from PyTorch.

    Raises:
        ExportError: ``model`` is not in float32, or the file cannot be written or does not agree
            with the model.
        TypeError: ``path`` is missing, or there are no ``inputs`` and ``model`` is not a tracking
            network.

    Example:
        >>> import tempfile, torch
        >>> from rgbt_fusion import DFM, create_model, export_program
        >>> model = create_model("ostrack_tiny_128", depth=1)
        >>> tokens = torch.randn(1, 20, 32)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     step = export_program(model, f"{folder}/step.pt2")
        ...     layer = export_program(DFM(32), (tokens, tokens), f"{folder}/dfm.pt2")
        >>> step.errors["score_map"] < 1e-6, list(layer.errors)
        (True, ['rgb', 'tir', 'fused'])
    """
    inputs, path = arguments_of_export(model, inputs, path)
    if inputs is not None:
        return _export_module(model, inputs, path)
    with evaluated_step(model, batch) as step, published_when_complete(path) as beside:
        with quiet():
            _save_program(traced(step), beside)
            program = torch.export.load(beside).module()

        def run(inputs: tuple[Tensor, ...]) -> Mapping[str, Tensor]:
            with torch.no_grad():
                return program(*inputs)

        frames = recorded_steps(step, CHECKED_STEPS)
        report = agreement(beside, run, frames, search_size=step.model.search_size)
        report.refuse_beyond_tolerance()
    return replace(report, path=path)


def arguments_of_export(
    model: nn.Module, inputs: Sequence[Any] | str | Path | None, path: str | Path | None
) -> tuple[tuple[Any, ...] | None, Path]:
    """Return the inputs, None for the step of a tracking network, and the path.

    Raises:
        TypeError: ``path`` is missing, or there are no ``inputs`` and ``model`` is not a tracking
            network.
    """
    if isinstance(inputs, str | Path):
        if path is not None:
            raise TypeError(f"inputs must be the arguments of the module, got {inputs!r}")
        path = inputs
        inputs = None
    if path is None:
        raise TypeError("path must be the file to write, got none")
    if inputs is not None:
        return tuple(inputs), Path(path)
    try:
        check_model(model)
    except TypeError as error:
        raise NetworkError(f"{error}; give inputs to export any other module") from None
    return None, Path(path)


def _export_module(module: nn.Module, inputs: tuple[Any, ...], path: Path) -> ModuleReport:
    tensors = flat_inputs(inputs)
    with evaluated(unwrapped(module)) as own, published_when_complete(path) as beside:
        with torch.no_grad(), quiet():
            expected = own(*inputs)
            _save_program(followed(_DictionaryOut(own), inputs, network=own), beside)
            program = torch.export.load(beside).module()

        def run(_: list[Tensor]) -> list[Tensor]:
            with torch.no_grad():
                return list(program(*inputs).values())

        report = compare_module(beside, expected, run, tensors, input_names(own, inputs))
    return replace(report, path=path)


def _save_program(program: ExportedProgram, path: Path) -> None:
    """Write a program by way of memory: torch's own writer of files aborts on a full disk."""
    content = BytesIO()
    torch.export.save(program, content)
    path.write_bytes(content.getbuffer())


class _DictionaryOut(nn.Module):
    """A module that returns its tensors by name: a file cannot hold the class of a named tuple."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Any) -> dict[str, Tensor]:
        """Return what the module returns, by name."""
        return output_tensors(self.module(*inputs))


def traced(step: TrackerStep) -> ExportedProgram:
    """Return the step as a program of torch.export."""
    (recorded,) = recorded_steps(step, 1)
    return followed(step, recorded.inputs, network=step.model)


@contextmanager
def evaluated_step(
    model: nn.Module, batch: int, *, embedded: bool = False
) -> Iterator[TrackerStep]:
    """Give the step of a model, which is in evaluation mode inside the block.

    Raises:
        ExportError: ``model`` is not in float32.
    """
    # what torch.compile made of a network cannot be traced once more
    model = unwrapped(model)
    dtype = parameter_like(model).dtype
    if dtype != torch.float32:
        raise ExportError(f"model must be in float32 to be exported, got {dtype}")
    with evaluated(model):
        yield TrackerStep(model, batch=batch, embedded=embedded)


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
