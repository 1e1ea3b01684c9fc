"""Lists that say in which frames a modality is missing, as the missing-modality benchmarks have."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.data.sequences import ImageSequence
from rgbt_fusion.files.text_tables import DataError, read_numbers

__all__ = ["hide_missing", "read_missing_list"]


def read_missing_list(path: str | Path) -> NDArray[np.bool_]:
    """Read ``[rgb_present, x_present]`` of each frame.

    Args:
        path: a text file with two numbers per line, or ``.npy`` with an array ``(T, 2)``.

    Shape:
        - returns ``(T, 2)`` bool: colour, second modality

    Raises:
        DataError: ``path`` cannot be read, a row has other numbers than 0 and 1, or both are 0.

    Example:
        >>> import tempfile, pathlib
        >>> from rgbt_fusion.data.missing import read_missing_list
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "car.txt"
        >>> _ = path.write_text("1 1\\n1 0\\n0 1\\n")
        >>> read_missing_list(path).tolist()
        [[True, True], [True, False], [False, True]]
    """
    file = Path(path)
    if file.suffix == ".npy":
        try:
            # nothing in it is ever unpickled
            table = np.asarray(np.load(file, allow_pickle=False), dtype=np.float64)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{path} must be an array of numbers, but is not: {error}") from None
        if table.ndim != 2 or table.shape[1] != 2:
            raise DataError(f"{path} must have shape (T, 2), got {table.shape}")
    else:
        table = read_numbers(file, columns=(2,))
    if not np.isin(table, (0, 1)).all():
        raise DataError(f"{path} must hold 0 and 1 only")
    none_present = np.flatnonzero(~table.any(axis=1))
    if len(none_present):
        raise DataError(
            f"{path}, row {none_present[0] + 1}: a modality must be present in every frame, got 0 0"
        )
    return table.astype(bool)


def hide_missing(
    sequences: Iterable[ImageSequence], folder: str | Path
) -> tuple[ImageSequence, ...]:
    """Return sequences that lack a modality where a list says so.

    The list of a sequence is ``<sequence>.txt`` or ``<sequence>.npy`` in the folder, see
    :func:`read_missing_list`. The missing image of a frame is None; annotations stay.

    Args:
        sequences: sequences of both modalities.
        folder: where the lists are.

    Raises:
        DataError: a list is missing or malformed, has fewer rows than frames, or a sequence has one
            modality only.
    """
    return tuple(_hide(sequence, Path(folder)) for sequence in sequences)


def _hide(sequence: ImageSequence, folder: Path) -> ImageSequence:
    if not sequence.rgb or not sequence.tir:
        raise DataError(f"{sequence.name} must have both modalities to miss one, but has one")
    paths = [folder / f"{sequence.name}.txt", folder / f"{sequence.name}.npy"]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise DataError(f"{folder} must hold {paths[0].name} or {paths[1].name}, but holds neither")
    shown = read_missing_list(path)
    if len(shown) < len(sequence):
        raise DataError(
            f"{path} must have a row for each of {len(sequence)} frames, got {len(shown)}"
        )
    return replace(sequence, shown=shown[: len(sequence)])
