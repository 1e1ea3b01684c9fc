"""Datasets whose folder holds training and test sequences side by side."""

from pathlib import Path

from rgbt_fusion.data.annotations import find_sequences

__all__ = ["sequences_to_score"]

_TEST = ("test",)
_OTHERS = ("train", "val")


def sequences_to_score(root: str | Path, layout: str) -> tuple[str, ...] | None:
    """Return the test sequences of a root that also holds others, None where there is no choice.

    A sequence belongs to the test set where a folder between it and the root begins with "test":
    LasHeR's ``TestingSet``, VTUAV's ``test_ST_001``, GOT-10k's ``test``.

    Args:
        root: the dataset's folder.
        layout: a key of ``LAYOUTS``.

    Raises:
        DataError: as :func:`~rgbt_fusion.data.annotations.find_sequences`.
        ValueError: ``layout`` is unknown.

    Example:
        >>> import tempfile, pathlib
        >>> from rgbt_fusion.data.splits import sequences_to_score
        >>> root = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("trainingset/car", "testingset/dog", "testingset/training_man"):
        ...     (root / name / "visible").mkdir(parents=True)
        >>> sequences_to_score(root, "lasher"), sequences_to_score(root / "trainingset", "lasher")
        (('dog', 'training_man'), None)
    """
    base = Path(root)
    tests: list[str] = []
    others = 0
    for name, place in find_sequences(base, layout).items():
        if place.folder is None:
            continue
        groups = [part.lower() for part in place.folder.relative_to(base).parts[:-1]]
        if any(group.startswith(_TEST) for group in groups):
            tests.append(name)
        elif any(group.startswith(_OTHERS) for group in groups):
            others += 1
    if not tests or not others:
        return None
    return tuple(tests)
