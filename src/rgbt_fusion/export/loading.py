"""Load an exported program that holds the ops of this library."""

from pathlib import Path

import torch
from torch.export import ExportedProgram

import rgbt_fusion.ops.causal_conv1d
import rgbt_fusion.ops.selective_scan  # noqa: F401
from rgbt_fusion.export.agreement import ExportError

__all__ = ["load_program"]


def load_program(path: str | Path) -> ExportedProgram:
    """Load a ``torch.export`` program whose graph may hold the ops of this library.

    ``torch.export.load`` knows an op by its registration only, and says "we ran into an error when
    deserializing" where there is none. This function registers the ops first. So does an import of
    this module: after it ``torch.export.load`` works too.

    Args:
        path: the file, as :func:`~rgbt_fusion.export_program` or ``torch.export.save`` wrote it.

    Raises:
        FileNotFoundError: ``path`` does not exist.
        ExportError: ``path`` is no program, or was written by a version of torch or of this library
            whose ops this one does not have.

    Example:
        >>> import os, tempfile, torch
        >>> from rgbt_fusion import MambaBlock
        >>> from rgbt_fusion.export.loading import load_program
        >>> tokens = torch.zeros(1, 6, 16)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "block.pt2")
        ...     torch.export.save(torch.export.export(MambaBlock(16).eval(), (tokens,)), path)
        ...     program = load_program(path)
        >>> program.module()(tokens).shape
        torch.Size([1, 6, 16])
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path must be the file of an exported program, got {path}")
    try:
        return torch.export.load(path)
    except Exception as error:  # torch raises whatever its reader of archives and graphs does
        raise ExportError(
            f"{path} is not a program that torch {torch.__version__} can load with the ops of this "
            f"library: {error}"
        ) from error
