"""Roots that hold training and test sequences side by side."""

import numpy as np
import pytest

from rgbt_fusion.data.splits import sequences_to_score
from rgbt_fusion.evaluation.scoring import load_benchmark, score

BOXES = np.tile([10.0, 10, 20, 20], (4, 1))


@pytest.fixture
def root(tmp_path):
    for place in ("TrainingSet/a", "TestingSet/b", "TestingSet/train_yard", "extra/c"):
        (tmp_path / place).mkdir(parents=True)
        np.savetxt(tmp_path / place / "init.txt", BOXES, delimiter=",")
    return tmp_path


def test_the_test_sequences_are_scored(root):
    assert sequences_to_score(root, "lasher") == ("b", "train_yard")
    assert list(load_benchmark("lasher", root).truth) == ["b", "train_yard"]
    assert score(dict.fromkeys(("b", "train_yard"), BOXES), "lasher", root=root).metrics["PR"] == 1
    # asked for by name, every sequence is there
    assert list(load_benchmark("lasher", root, sequences=["a"]).truth) == ["a"]


@pytest.mark.parametrize("part", ["TrainingSet", "TestingSet", "extra"])
def test_one_part_is_taken_whole(root, part):
    assert sequences_to_score(root / part, "lasher") is None
    assert load_benchmark("lasher", root / part).truth
