"""The two highest places of a score map: where the box is, and its strongest rival."""

import torch
from torch import Tensor

__all__ = ["scores_of_peaks"]


def scores_of_peaks(score_map: Tensor, window: Tensor) -> Tensor:
    """Return the score of the cell that the window chooses, and the best one away from it.

    The cell and its eight neighbours belong to one peak. Both scores are without the window.

    Args:
        score_map: in [0, 1].
        window: what the scores are multiplied by to choose the cell.

    Shape:
        - score_map: ``(B, 1, S, S)``
        - window: ``(S, S)``
        - returns ``(B, 2)``; the second is 0 where the map holds no more than the first peak

    Example:
        >>> import torch
        >>> from rgbt_fusion.tracking.peaks import scores_of_peaks
        >>> score_map = torch.zeros(1, 1, 5, 5)
        >>> score_map[0, 0, 1, 1], score_map[0, 0, 1, 2], score_map[0, 0, 4, 4] = 0.75, 0.625, 0.5
        >>> scores_of_peaks(score_map, torch.ones(5, 5)).tolist()
        [[0.75, 0.5]]
    """
    size = score_map.shape[-1]
    scores = score_map.flatten(1)
    best = (score_map * window).flatten(1).argmax(1, keepdim=True)
    cells = torch.arange(size * size, device=score_map.device)
    rows_apart = (cells // size - best // size).abs()
    columns_apart = (cells % size - best % size).abs()
    is_of_the_peak = torch.maximum(rows_apart, columns_apart) <= 1
    elsewhere = scores.masked_fill(is_of_the_peak, 0.0)
    return torch.cat((scores.gather(1, best), elsewhere.amax(1, keepdim=True)), dim=1)
