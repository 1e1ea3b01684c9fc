import pytest
import torch
from torch import Tensor

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.layers.candidate_elimination import CandidateElimination
from rgbt_fusion.layers.token_selection import restore_tokens, select_tokens
from token_material import numbered


def test_a_stream_that_was_not_scored_follows() -> None:
    eliminated = CandidateElimination(keep_ratio=0.5)(numbered(2, 2, 6), torch.rand(2, 6))
    assert (
        select_tokens(numbered(2, 0, 6), eliminated.positions)
        .squeeze(-1)
        .equal(eliminated.indices.float())
    )


def test_kept_tokens_have_gradients_and_removed_ones_none() -> None:
    tokens = torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)
    scores = torch.rand(2, 4, dtype=torch.float64)

    def eliminate_and_restore(x: Tensor) -> Tensor:
        out = CandidateElimination(keep_ratio=0.5)(x, scores)
        return restore_tokens(out.tokens, out.indices, 4)

    assert torch.autograd.gradcheck(eliminate_and_restore, (tokens,))
    (gradient,) = torch.autograd.grad(eliminate_and_restore(tokens).sum(), tokens)
    removed = CandidateElimination(keep_ratio=0.5)(tokens, scores).removed
    assert select_tokens(gradient[:, 2:], removed).eq(0).all()
    assert gradient.sum() == 2 * (2 + 2) * 3


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: restore_tokens(torch.zeros(1, 2, 3), torch.zeros(1, 3).long(), 9),
            ShapeError,
            r"at most as many as tokens, L = 2, got \(1, 3\)",
        ),
        (
            lambda: restore_tokens(torch.zeros(1, 3, 3), torch.zeros(1, 3).long(), 2),
            ShapeError,
            "length must be at least the number of indices 3, got 2",
        ),
        (
            lambda: restore_tokens(torch.zeros(1, 3, 3), torch.zeros(1, 3), 9),
            TypeError,
            "indices must be int64, got torch.float32",
        ),
        (
            lambda: select_tokens(torch.zeros(1, 3, 3), torch.zeros(1, 3)),
            TypeError,
            "positions must be int64, got torch.float32",
        ),
    ],
)
def test_bad_input_is_refused(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
