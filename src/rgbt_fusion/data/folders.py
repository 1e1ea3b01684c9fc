"""Folders of images inside the folder of a sequence, by names in any case."""

import os
from collections.abc import Iterable
from pathlib import Path

from rgbt_fusion.frames.reading import is_image

__all__ = ["first_folder", "holds_images", "is_left_over", "unread_folders"]


def first_folder(base: Path, names: Iterable[str]) -> Path | None:
    """Return the first folder of these names inside ``base``, or None.

    The case of the letters does not matter; a folder of exactly the name is preferred.

    Example:
        >>> import tempfile, pathlib
        >>> from rgbt_fusion.data.folders import first_folder
        >>> base = pathlib.Path(tempfile.mkdtemp())
        >>> (base / "Thermal").mkdir()
        >>> first_folder(base, ("tir", "thermal")).name
        'Thermal'
    """
    if not base.is_dir():
        return None
    by_small_name = {child.name.lower(): child for child in sorted(base.iterdir())}
    for name in names:
        for place in (base / name, by_small_name.get(name.lower())):
            if place is not None and place.is_dir():
                return place
    return None


def holds_images(folder: Path) -> bool:
    """Return whether an image lies directly in a folder."""
    with os.scandir(folder) as entries:
        return any(is_image(Path(entry.path)) for entry in entries)


def unread_folders(base: Path, read: Iterable[Path | None]) -> list[str]:
    """Return the names of the folders in ``base`` that hold images and are not in ``read``."""
    known = {folder.name for folder in read if folder is not None}
    return [
        child.name
        for child in sorted(base.iterdir())
        if child.is_dir()
        and child.name not in known
        and not is_left_over(child)
        and holds_images(child)
    ]


def is_left_over(folder: Path) -> bool:
    """Return whether a folder is hidden, or what an archive made on a Mac leaves behind."""
    return folder.name.startswith(".") or folder.name == "__MACOSX"
