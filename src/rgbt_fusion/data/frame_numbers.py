"""Numbers in the names of images, which tell whether a pairing by position is right."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

__all__ = ["pairing_notices"]

USUAL_STEP_SHARE = 0.5
"""Names count as numbered if at least this share of their numbers goes on by one step."""


def pairing_notices(rgb: Sequence[Path], tir: Sequence[Path]) -> list[str]:
    """Say where images that are paired by position have numbers that do not belong together.

    Choices: the last group of digits in a name is its number. Names that do not count, such as
    time stamps, are not compared. One notice is enough: what follows the first place is shifted.

    Args:
        rgb: the colour images in order.
        tir: those of the second modality.

    Example:
        >>> from pathlib import Path
        >>> from rgbt_fusion.data.frame_numbers import pairing_notices
        >>> rgb = [Path(f"{number}.jpg") for number in (1, 2, 3, 4)]
        >>> tir = [Path(f"{number}.jpg") for number in (1, 2, 4, 5)]
        >>> pairing_notices(rgb, tir)[0][:53]
        'from frame 3 on, 3.jpg is paired with 4.jpg: a frame '
    """
    ours = _numbers(rgb)
    theirs = _numbers(tir)
    if ours is None or theirs is None:
        return []
    apart = [number - other for number, other in zip(theirs, ours, strict=False)]
    for place, (before, after) in enumerate(pairwise(apart), 1):
        if before != after:
            return [
                f"from frame {place + 1} on, {rgb[place].name} is paired with {tir[place].name}: "
                "a frame may be missing there, or be there twice"
            ]
    if apart and apart[0]:
        return [
            f"{rgb[0].name} is paired with {tir[0].name} and so on: the numbers in the names "
            f"differ by {abs(apart[0])} throughout"
        ]
    return []


def _numbers(images: Sequence[Path]) -> list[int] | None:
    """Return the number in each name; None where the names do not count."""
    groups = [re.findall(r"[0-9]+", path.stem) for path in images]
    if len(images) < 2 or not all(groups):
        return None
    numbers = [int(found[-1]) for found in groups]
    steps = Counter(after - before for before, after in pairwise(numbers))
    _, count = steps.most_common(1)[0]
    return numbers if count >= USUAL_STEP_SHARE * (len(numbers) - 1) else None
