"""Load an exported program that holds the ops of this library."""

import io
from pathlib import Path

import torch
from torch.export import ExportedProgram

import rgbt_fusion.ops.causal_conv1d
import rgbt_fusion.ops.selective_scan  # noqa: F401
from rgbt_fusion.export.agreement import ExportError
from rgbt_fusion.export.inert_program import check_inert

__all__ = ["load_program"]


def load_program(path: str | Path) -> ExportedProgram:
    """Load a ``torch.export`` program whose graph may hold the ops of this library.

    ``torch.export.load`` knows an op by its registration only, and says "we ran into an error when
    deserializing" where there is none. This function registers the ops first. So does an import of
    this module: after it ``torch.export.load`` works too.

    ``torch.export.load`` also runs code that a file may hold. This function refuses such a file,
    and with it a program of symbolic shapes, whose expressions torch evaluates as Python.

    Args:
        path: the file, as :func:`~rgbt_fusion.export_program` or ``torch.export.save`` wrote it.

    Raises:
        FileNotFoundError: ``path`` does not exist.
        ExportError: ``path`` is no program, was written by a version of torch or of this library
            whose ops this one does not have, or holds more than ops and plain tensors.

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
        # what was checked is what is loaded, whoever writes to the file meanwhile
        content = path.read_bytes()
        check_inert(content)
        return torch.export.load(io.BytesIO(content))
    except Exception as error:  # torch raises whatever its reader of archives and graphs does
        raise ExportError(
            f"{path} is not a program that torch {torch.__version__} can load with the ops of this "
            f"library: {error}"
        ) from error
