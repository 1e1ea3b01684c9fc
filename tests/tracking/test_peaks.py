"""The two highest places of a score map, by hand and against a loop."""

import pytest
import torch

from rgbt_fusion.tracking.peaks import scores_of_peaks


def test_neighbours_belong_to_a_peak_and_the_window_chooses():
    score_map = torch.zeros(2, 1, 5, 5)
    score_map[0, 0, 2, 2], score_map[0, 0, 3, 3], score_map[0, 0, 0, 4] = 0.5, 0.4, 0.3
    score_map[1] = score_map[0]
    score_map[1, 0, 0, 0] = 0.9
    window = torch.ones(5, 5)
    window[0, 0] = 0.1
    torch.testing.assert_close(
        scores_of_peaks(score_map, window), torch.tensor([[0.5, 0.3], [0.5, 0.9]])
    )


@pytest.mark.parametrize("size", [2, 8])
def test_every_cell_further_than_one_away_is_a_rival(size):
    torch.manual_seed(size)
    score_map = torch.rand(20, 1, size, size)
    found = scores_of_peaks(score_map, torch.ones(size, size))
    for scores, (best, rival) in zip(score_map[:, 0], found, strict=True):
        assert best == scores.max()
        row, column = divmod(int(scores.argmax()), size)
        others = [
            scores[i, j].item()
            for i in range(size)
            for j in range(size)
            if max(abs(i - row), abs(j - column)) > 1
        ]
        assert rival == pytest.approx(max(others, default=0.0))
