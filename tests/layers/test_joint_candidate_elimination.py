import pytest
import torch

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.layers.joint_candidate_elimination import JointCandidateElimination
from token_material import numbered


def test_two_streams_keep_one_set() -> None:
    rgb, tir = numbered(1, 1, 4), 100 + numbered(1, 1, 4)
    rgb_scores, tir_scores = (
        torch.tensor([[0.9, 0.0, 0.5, 0.4]]),
        torch.tensor([[0.0, 0.8, 0.5, 0.3]]),
    )
    most = JointCandidateElimination(keep_ratio=0.5, joint="max")(rgb, tir, rgb_scores, tir_scores)
    assert most.indices.tolist() == [[0, 1]]
    assert most.tir.flatten().tolist() == [99, 100, 101]
    assert most.rgb.flatten().tolist() == [-1, 0, 1]
    mean = JointCandidateElimination(keep_ratio=0.5, joint="mean")(rgb, tir, rgb_scores, tir_scores)
    assert mean.indices.tolist() == [[0, 2]]
    assert mean.removed.tolist() == [[1, 3]]
    again = JointCandidateElimination()(
        mean.rgb, mean.tir, *torch.rand(2, 1, 2), mean.indices, keep_ratio=1.0
    )
    assert again.indices.tolist() == [[0, 2]]
    assert again.tir.equal(mean.tir)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: JointCandidateElimination()(
                torch.zeros(1, 5, 3), torch.zeros(1, 4, 3), *torch.zeros(2, 1, 4)
            ),
            ShapeError,
            r"tir must have the shape of rgb \(1, 5, 3\), got \(1, 4, 3\)",
        ),
        (
            lambda: JointCandidateElimination(joint="min"),
            ValueError,
            "joint must be one of 'max', 'mean', got 'min'",
        ),
    ],
)
def test_bad_input_is_refused(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
