"""Lists that say in which frames a modality is missing, as the missing-modality benchmarks have."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rgbt_fusion.data.sequences import ImageSequence
from rgbt_fusion.files.text_tables import (
    DataError,
    check_regular_file,
    is_plain_name,
    read_lines,
    read_numbers,
)
from rgbt_fusion.frames.types import GroundTruth

__all__ = ["hide_missing", "missing_modalities", "read_missing_list", "read_missing_lists"]

DATA = "data"
"""Where the benchmarks' JSON files keep the flags of a sequence, beside the number of frames."""


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
        table = _read_array(file)
        if table.ndim != 2 or table.shape[1] != 2:
            raise DataError(f"{path} must have shape (T, 2), got {table.shape}")
    else:
        table = read_numbers(file, columns=(2,))
    return _checked(table, str(path))


def read_missing_lists(path: str | Path, names: Iterable[str]) -> dict[str, NDArray[np.bool_]]:
    """Read ``[rgb_present, x_present]`` of each frame of several sequences.

    Args:
        path: a folder with ``<sequence>.txt`` or ``<sequence>.npy``, see :func:`read_missing_list`;
            or the JSON file of LasHeR-Miss, RGBT234-Miss and VTUAV-Miss, which has under the name
            of each sequence the rows, alone or as ``{"data": rows}``.
        names: the sequences.

    Shape:
        - returns ``(T, 2)`` bool by name: colour, second modality

    Raises:
        DataError: ``path`` is neither, lacks a sequence, or holds a malformed list.

    Example:
        >>> import tempfile, pathlib
        >>> from rgbt_fusion.data.missing import read_missing_lists
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "missing_results.json"
        >>> _ = path.write_text('{"car": {"frames": 2, "data": [[1.0, 1.0], [0.0, 1.0]]}}')
        >>> read_missing_lists(path, ["car"])["car"].tolist()
        [[True, True], [False, True]]
    """
    base = Path(path)
    if base.is_file():
        return _lists_in_json(base, names)
    if not base.is_dir():
        raise DataError(f"missing must be a folder of lists or a JSON file, got {path}")
    return {name: read_missing_list(_list_of(base, name)) for name in names}


def _read_array(path: Path) -> NDArray[np.float64]:
    check_regular_file(path)
    try:
        with path.open("rb") as file:
            if file.read(6) != b"\x93NUMPY":
                raise ValueError("it is no .npy file")
        # nothing in it is ever unpickled, and a shape larger than the file is refused at once
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if array.dtype.kind not in "biuf":
            raise ValueError(f"it holds {array.dtype.name[:40]}")
        return array.astype(np.float64)
    except Exception as error:  # numpy raises whatever its reader of headers does
        raise DataError(f"{path} must be an array of numbers, but is not: {error}") from None


def hide_missing(
    sequences: Iterable[ImageSequence], folder: str | Path
) -> tuple[ImageSequence, ...]:
    """Return sequences that lack a modality where a list says so.

    The missing image of a frame is None; annotations stay.

    Args:
        sequences: sequences of both modalities.
        folder: where the lists are: a folder or a JSON file, see :func:`read_missing_lists`.

    Raises:
        DataError: a list is missing or malformed, has fewer rows than frames, or a sequence has one
            modality only.
    """
    all_of_them = tuple(sequences)
    lists = read_missing_lists(folder, [sequence.name for sequence in all_of_them])
    return tuple(_hide(sequence, lists[sequence.name], folder) for sequence in all_of_them)


def missing_modalities(
    truth: Mapping[str, GroundTruth], path: str | Path
) -> dict[str, NDArray[np.bool_]]:
    """Return in which annotated frames a modality is missing.

    Args:
        truth: the annotation of each sequence.
        path: where the lists are: a folder or a JSON file, see :func:`read_missing_lists`.

    Shape:
        - returns ``(K,)`` bool by name, one flag per annotated frame

    Raises:
        DataError: a list is missing or malformed, or has fewer rows than the annotation needs.
    """
    missing: dict[str, NDArray[np.bool_]] = {}
    for name, shown in read_missing_lists(path, truth).items():
        frames = truth[name].frames
        needed = int(frames[-1]) + 1 if len(frames) else 0
        _check_rows(shown, needed, name, path)
        present = shown[frames]
        missing[name] = ~(present[:, 0] & present[:, 1])
    return missing


def _hide(sequence: ImageSequence, shown: NDArray[np.bool_], path: str | Path) -> ImageSequence:
    if not sequence.rgb or not sequence.tir:
        raise DataError(f"{sequence.name} must have both modalities to miss one, but has one")
    _check_rows(shown, len(sequence), sequence.name, path)
    return replace(sequence, shown=shown[: len(sequence)])


def _check_rows(shown: NDArray[np.bool_], needed: int, name: str, path: str | Path) -> None:
    if len(shown) < needed:
        raise DataError(
            f"{path}: {name} must have a row for each of {needed} frames, got {len(shown)}"
        )


def _list_of(folder: Path, name: str) -> Path:
    """Return the file that holds the list of a sequence."""
    paths = [folder / f"{name}.txt", folder / f"{name}.npy"]
    found = [path for path in paths if path.is_file()]
    if not found or not is_plain_name(name):
        raise DataError(f"{folder} must hold {paths[0].name} or {paths[1].name}, but holds neither")
    return found[0]


def _lists_in_json(path: Path, names: Iterable[str]) -> dict[str, NDArray[np.bool_]]:
    """Read the lists of the named sequences from one JSON file."""
    text = "\n".join(read_lines(path))
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} must be JSON, but is not: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} must hold lists by sequence, got {type(content).__name__}")
    lists: dict[str, NDArray[np.bool_]] = {}
    for name in names:
        if name not in content:
            raise DataError(f"{path} must hold a list for each sequence, but lacks {name}")
        rows: Any = content[name]
        if isinstance(rows, dict):
            rows = rows.get(DATA)
        try:
            pairs = [(float(first), float(second)) for first, second in rows]
        except (TypeError, ValueError, OverflowError):
            raise DataError(
                f"{path}: {name} must hold rows of two numbers, got {str(rows)[:60]}"
            ) from None
        lists[name] = _checked(np.array(pairs).reshape(-1, 2), f"{path}: {name}")
    return lists


def _checked(table: NDArray[np.float64], where: str) -> NDArray[np.bool_]:
    """Return flags as booleans; refuse other numbers than 0 and 1, and frames without an image."""
    if not np.isin(table, (0, 1)).all():
        raise DataError(f"{where} must hold 0 and 1 only")
    none_present = np.flatnonzero(~table.any(axis=1))
    if len(none_present):
        raise DataError(
            f"{where}, row {none_present[0] + 1}: a modality must be present in every frame, "
            "got 0 0"
        )
    return table.astype(bool)
