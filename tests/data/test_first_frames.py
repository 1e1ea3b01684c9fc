"""VTUAV's pickled table of first frames, and hostile or broken files in its place."""

import os
from pathlib import Path

import numpy as np
import pytest

from rgbt_fusion.data.first_frames import first_frames
from rgbt_fusion.files.text_tables import DataError


@pytest.mark.parametrize(
    "numbers", [{"bus": 3, "car": 0}, {"bus": np.int64(3), "car": np.int32(0)}]
)
@pytest.mark.parametrize("wrapped", [True, False])
def test_the_table_of_first_frames(tmp_path, numbers, wrapped):
    np.save(
        tmp_path / "init_frame.npy",
        np.array(numbers, dtype=object) if wrapped else numbers,
        allow_pickle=True,
    )
    assert first_frames(tmp_path) == {"bus": 3, "car": 0}
    (tmp_path / "test_ST").mkdir()
    assert first_frames(tmp_path / "test_ST") == {"bus": 3, "car": 0}
    assert first_frames(tmp_path / "test_ST" / "deeper") == {}


class Attack:
    """An object whose pickle runs a command when it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("place", ["value", "whole"])
def test_code_in_the_table_does_not_run(tmp_path, place):
    attack = Attack(tmp_path / "ran")
    table = {"bus": attack} if place == "value" else attack
    np.save(tmp_path / "init_frame.npy", np.array(table, dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"init_frame.npy must be a dict of first frames"):
        first_frames(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "data", [b"", b"\x93NUMPY\x01\x00", b"not numpy", b"\x93NUMPY\x01\x00v\x00" + b" " * 118]
)
def test_a_broken_table_is_named(tmp_path, data):
    (tmp_path / "init_frame.npy").write_bytes(data)
    with pytest.raises(DataError, match=r"init_frame.npy must be a dict of first frames"):
        first_frames(tmp_path)


def test_a_table_that_takes_forever_is_refused(tmp_path):
    """A key that is a tuple of the same tuple twice, sixty deep, cannot be hashed in a lifetime."""
    np.save(tmp_path / "init_frame.npy", np.array({"key": 3}, dtype=object), allow_pickle=True)
    data = (tmp_path / "init_frame.npy").read_bytes()
    for name in (b"X\x03\x00\x00\x00key", b"\x8c\x03key"):
        data = data.replace(name, b"K\x01" + b"2\x86" * 60)
    (tmp_path / "init_frame.npy").write_bytes(data)
    with pytest.raises(DataError, match="a key must be a text, a number or None"):
        first_frames(tmp_path)
