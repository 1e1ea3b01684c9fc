import math

import pytest
import torch
from torch import Tensor

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.layers.candidate_elimination import (
    CandidateElimination,
    kept_length,
    scheduled_keep_ratio,
)
from rgbt_fusion.layers.token_selection import restore_tokens
from token_material import numbered


def test_the_best_stay_in_their_order() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.2, 0.8, 0.3], [0.5, 0.1, 0.6, 0.2, 0.7]])
    out = CandidateElimination(keep_ratio=0.6)(numbered(2, 2, 5), scores)
    assert out.indices.tolist() == [[1, 3, 4], [0, 2, 4]]
    assert out.removed.tolist() == [[0, 2], [1, 3]]
    assert out.tokens.squeeze(-1).tolist() == [[-1, -2, 1, 3, 4], [-1, -2, 0, 2, 4]]
    assert out.indices.dtype == out.removed.dtype == out.positions.dtype == torch.int64


def test_of_equal_scores_the_earlier_token_stays() -> None:
    out = CandidateElimination(keep_ratio=0.5)(numbered(1, 0, 64), torch.zeros(1, 64))
    assert out.indices[0].tolist() == list(range(32))


@pytest.mark.parametrize(("search", "lengths"), [(256, (180, 126, 89)), (576, (404, 283, 199))])
def test_three_eliminations_keep_places_and_restore(search: int, lengths: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    eliminate = CandidateElimination()
    tokens, indices = numbered(2, 3, search), None
    gone: list[Tensor] = []
    for length in lengths:
        tokens, indices, removed, _ = eliminate(tokens, torch.rand(2, tokens.shape[1] - 3), indices)
        gone.append(removed)
        assert indices.shape == (2, length)
        assert indices.diff(dim=1).gt(0).all()
        assert tokens[:, 3:, 0].equal(indices.float())
    assert indices is not None
    everything = torch.cat((indices, *gone), dim=1)
    assert everything.sort(dim=1).values.equal(torch.arange(search).expand(2, -1))

    restored = restore_tokens(tokens + 1, indices, search)
    assert restored[:, :3].equal(tokens[:, :3] + 1)
    for sample in range(2):
        place = torch.arange(search)
        stays = torch.isin(place, indices[sample])
        assert restored[sample, 3:, 0].equal(torch.where(stays, place + 1.0, 0.0))


def test_schedules_mix_ratios_layers_and_nothing_removed() -> None:
    tokens, indices = numbered(1, 1, 20), None
    eliminate = CandidateElimination(keep_ratio=0.5)
    for keep_ratio, length in ((1.0, 20), (0.9, 18), (None, 9), (1.0, 9), (0.01, 1)):
        scores = torch.rand(1, tokens.shape[1] - 1)
        tokens, indices, removed, _ = eliminate(tokens, scores, indices, keep_ratio=keep_ratio)
        assert indices.shape == (1, length)
        assert removed.shape == (1, scores.shape[1] - length)
        assert removed.dtype == torch.int64
        assert tokens[:, 1:, 0].equal(indices.float())


def test_keep_ratio_follows_ostrack_schedule() -> None:
    assert [scheduled_keep_ratio(epoch) for epoch in (0, 19.9, 100, 250)] == [1.0, 1.0, 0.7, 0.7]
    assert scheduled_keep_ratio(60) == pytest.approx(0.85)
    assert scheduled_keep_ratio(40) == pytest.approx(0.7 + 0.15 * (1 + math.cos(math.pi / 4)))
    assert scheduled_keep_ratio(3, start=5, stop=5, keep_ratio=0.4) == 1.0
    assert scheduled_keep_ratio(5, start=5, stop=5, keep_ratio=0.4) == 0.4
    assert kept_length(1.0, 7) == 7


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: CandidateElimination(0.0), ValueError, "keep_ratio must be above 0, got 0"),
        (
            lambda: CandidateElimination(1.1),
            ValueError,
            r"keep_ratio must be a finite number in \[0, 1\], got 1.1",
        ),
        (
            lambda: CandidateElimination()(torch.zeros(2, 5, 3), torch.zeros(1, 4)),
            ShapeError,
            r"scores must have shape \(B, S\) with B = 2, got \(1, 4\)",
        ),
        (
            lambda: CandidateElimination()(torch.zeros(2, 5, 3), torch.zeros(2, 6)),
            ShapeError,
            r"scores must be at most as many as tokens, L = 5, got \(2, 6\)",
        ),
        (
            lambda: CandidateElimination()(
                torch.zeros(1, 5, 3), torch.zeros(1, 4), torch.zeros(1, 4)
            ),
            TypeError,
            "indices must be int64, got torch.float32",
        ),
        (
            lambda: CandidateElimination()(
                torch.zeros(1, 5, 3), torch.zeros(1, 4), torch.zeros(1, 3).long()
            ),
            ShapeError,
            r"indices must have the shape of scores \(1, 4\), got \(1, 3\)",
        ),
        (
            lambda: kept_length(1.5, 9),
            ValueError,
            r"keep_ratio must be a finite number in \[0, 1\], got 1.5",
        ),
        (
            lambda: scheduled_keep_ratio(1, start=9, stop=3),
            ValueError,
            "stop must not be below start = 9, got 3",
        ),
    ],
)
def test_bad_input_is_refused(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
