"""Numbers in names of images say where a pairing by position is wrong."""

from pathlib import Path

import pytest

from rgbt_fusion.data.frame_numbers import pairing_notices


def paths(*numbers, start=""):
    return [Path(f"{start}{number:06d}.jpg") for number in numbers]


COUNT = paths(1, 2, 3, 4, 5, 6)


@pytest.mark.parametrize(
    ("rgb", "tir", "notice"),
    [
        (COUNT, COUNT, None),
        (COUNT, paths(1, 2, 3, 4, 5, 6, start="t_"), None),
        (COUNT, paths(2, 3, 4, 5, 6, 7), "000001.jpg is paired with 000002.jpg"),
        (COUNT, paths(1, 2, 3, 5, 6, 7), "from frame 4 on, 000004.jpg is paired with 000005.jpg"),
        (
            [*COUNT[:3], Path("000003 (1).jpg"), *COUNT[3:]],
            COUNT,
            r"from frame 4 on, 000003 (1).jpg is paired with 000004.jpg",
        ),
        (COUNT, paths(100, 137, 169, 204, 238, 270), None),
        (COUNT, [Path(f"{letter}.jpg") for letter in "abcdef"], None),
        ([], COUNT, None),
    ],
    ids=["alike", "prefix", "shift", "lost", "copy", "time stamps", "no numbers", "one modality"],
)
def test_the_place_is_named(rgb, tir, notice):
    found = pairing_notices(rgb, tir)
    assert bool(found) == (notice is not None)
    if notice is not None:
        assert found[0].startswith(notice)
