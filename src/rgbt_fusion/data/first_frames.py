"""VTUAV's table of first annotated frames, a pickle that is read without running anything in it."""

from pathlib import Path
from typing import IO, Any

from rgbt_fusion.files.inert_pickle import InertObject, read_pickle
from rgbt_fusion.files.text_tables import DataError

__all__ = ["first_frames"]

TABLE = "init_frame.npy"

LARGEST_NUMBER = 1 << 40

NUMPY_START = b"\x93NUMPY"


def first_frames(root: str | Path) -> dict[str, int]:
    """Return the number of the first annotated image of each sequence of VTUAV.

    The table ``init_frame.npy`` is looked for in ``root`` and beside it. Without a table the result
    is empty.

    Raises:
        DataError: the file is not such a table.
    """
    folder = Path(root)
    for path in (folder / TABLE, folder.parent / TABLE):
        if path.is_file():
            return _read_table(path)
    return {}


def _read_table(path: Path) -> dict[str, int]:
    try:
        with path.open("rb") as file:
            table = _read_npy_dict(file)
        return {str(name): _image_number(number) for name, number in table.items()}
    except (ValueError, OverflowError, OSError) as error:
        raise DataError(
            f"{path} must be a dict of first frames saved by numpy, but: {error}"
        ) from None


def _read_npy_dict(file: IO[bytes]) -> dict[Any, Any]:
    """Return the dict in a numpy file of one object; nothing in its pickle is executed."""
    head = file.read(12)
    major = head[6] if head.startswith(NUMPY_START) and len(head) == 12 else 0
    if major not in (1, 2, 3):
        raise DataError("it is no numpy file")
    # version 1 tells the length of its header in two bytes, the later ones in four
    length_end = 10 if major == 1 else 12
    file.seek(length_end + int.from_bytes(head[8:length_end], "little"))
    array, _ = read_pickle(file, only_plain_keys=True)
    match array:
        case InertObject(state=(_, _, _, _, [dict() as table])):
            return table
    raise DataError("it holds no dict")


def _image_number(value: Any) -> int:
    match value:
        case InertObject(arguments=(_, bytes() as data)) if len(data) <= 8:
            # a numpy integer is pickled as a call of scalar(dtype, bytes)
            number = int.from_bytes(data, "little", signed=True)
        case int() | float() | str():
            number = int(value)
        case _:
            raise DataError("it holds what is no number")
    if not 0 <= number <= LARGEST_NUMBER:
        raise DataError("it holds what is no number of an image")
    return number
