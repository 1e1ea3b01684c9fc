"""Follow any module with torch.export, and compare its file with the module itself."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from rgbt_fusion.checks import first_line
from rgbt_fusion.export.agreement import ExportError
from rgbt_fusion.export.step import named_tensors

__all__ = [
    "MODULE_TOLERANCE",
    "ModuleReport",
    "compare_module",
    "evaluated",
    "flat_inputs",
    "followed",
    "input_names",
    "output_tensors",
]

MODULE_TOLERANCE = 1e-4
"""Largest allowed difference of a float32 output, as a share of its largest value or of 1."""


@dataclass(frozen=True)
class ModuleReport:
    """What was written, and how it agrees with PyTorch; ``print`` shows it."""

    path: Path
    """The file."""
    size_bytes: int
    """Its size."""
    input_names: tuple[str, ...]
    """The names of the inputs, in order."""
    errors: dict[str, float]
    """The largest absolute difference of each output, by name, in order."""

    def __str__(self) -> str:
        lines = [
            f"{self.path}: {self.size_bytes / 1e6:.1f} MB; inputs {', '.join(self.input_names)}; "
            "largest differences from PyTorch"
        ]
        for name, error in self.errors.items():
            lines.append(f"  {name:<16} {error:.1e}")
        return "\n".join(lines)


def followed(module: nn.Module, inputs: Sequence[Any], *, network: nn.Module) -> ExportedProgram:
    """Return a module that runs as a program of torch.export.

    Args:
        module: what is followed.
        inputs: its arguments.
        network: what the message names: the user's part of ``module``.

    Raises:
        ExportError: ``module`` cannot be followed, such as past a branch on the values of a tensor.
    """
    try:
        with torch.no_grad():
            return torch.export.export(module, tuple(inputs))
    except RuntimeError as error:
        reason = first_line(error)
        raise ExportError(
            f"{type(network).__name__} must compute without branches on the values of tensors "
            f"(torch.where chooses values) to be exported, but torch.export says: {reason}"
        ) from error


def flat_inputs(inputs: Sequence[Any]) -> list[Tensor]:
    """Return the tensors of all arguments, in order; an argument may be a list of tensors.

    Raises:
        ExportError: an argument holds something that is not a tensor.
    """
    flat = pytree.tree_leaves(tuple(inputs))
    for value in flat:
        if not isinstance(value, Tensor):
            raise ExportError(f"inputs must hold tensors only, got {type(value).__name__}")
    return flat


@contextmanager
def evaluated(module: nn.Module) -> Iterator[nn.Module]:
    """Give a module in evaluation mode, and put it back into its mode behind the block."""
    was_training = module.training
    try:
        yield module.eval()
    finally:
        module.train(was_training)


def compare_module(
    path: Path,
    expected: Any,
    run: Callable[[list[Tensor]], Sequence[Tensor]],
    inputs: list[Tensor],
    names: Sequence[str],
) -> ModuleReport:
    """Run a file, and compare what it returns with what the module returned.

    Raises:
        ExportError: an output differs by more than rounding explains.
    """
    outputs = output_tensors(expected)
    found = run(inputs)
    if len(found) != len(outputs):
        raise ExportError(f"{path} must return {len(outputs)} tensors, got {len(found)}")
    errors: dict[str, float] = {}
    for (name, tensor), value in zip(outputs.items(), found, strict=True):
        error = _largest(value.double() - tensor.double())
        allowed = 0.0
        if tensor.is_floating_point():
            allowed = MODULE_TOLERANCE * max(1.0, _largest(tensor.double()))
        if not error <= allowed:
            raise ExportError(
                f"{name} of the exported module differs from PyTorch by {error:.1e}, "
                f"allowed {allowed:.0e}"
            )
        errors[name] = error
    return ModuleReport(path, path.stat().st_size, tuple(names), errors)


def _largest(x: Tensor) -> float:
    """Return the largest absolute value, 0 of an empty tensor."""
    return float(x.abs().max()) if x.numel() else 0.0


def output_tensors(outputs: Any) -> dict[str, Tensor]:
    """Return the tensors of what a module returned, by name: those of a named tuple have its own.

    Example:
        >>> import torch
        >>> from rgbt_fusion import DFM
        >>> from rgbt_fusion.export.any_module import output_tensors
        >>> list(output_tensors(DFM(16)(torch.zeros(1, 4, 16), torch.zeros(1, 4, 16))))
        ['rgb', 'tir', 'fused']
    """
    if isinstance(outputs, Tensor):
        return {"output": outputs}
    if isinstance(outputs, list):
        outputs = tuple(outputs)
    if isinstance(outputs, dict):
        return {name: tensor for name, tensor in outputs.items() if isinstance(tensor, Tensor)}
    named = dict(named_tensors(outputs))
    return {f"output_{name}" if name.isdigit() else name: value for name, value in named.items()}


def input_names(module: nn.Module, inputs: Sequence[Any]) -> list[str]:
    """Return a name per tensor of the arguments: those of ``forward``, numbered in lists."""
    arguments = list(inspect.signature(module.forward).parameters)
    names: list[str] = []
    for position, value in enumerate(inputs):
        known = position < len(arguments)
        name = arguments[position] if known else f"input_{position}"
        count = len(pytree.tree_leaves(value))
        if isinstance(value, Tensor):
            names.append(name)
        else:
            names += [f"{name}_{number}" for number in range(count)]
    return names
