"""Scores made from one number per sequence, and benchmarks whose truth is known."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rgbt_fusion.evaluation.protocols import get_protocol
from rgbt_fusion.evaluation.scores import Curve, Scores, SequenceTable


def scores_of(tracker: str, success: ArrayLike | Mapping[str, float]) -> Scores:
    """Return the scores of a tracker on LasHeR whose success in each sequence is given."""
    if isinstance(success, Mapping):
        names = tuple(success)
        values = np.array([success[name] for name in names], dtype=np.float64)
    else:
        values = np.asarray(success, dtype=np.float64)
        names = tuple(str(number) for number in range(len(values)))
    curves = np.repeat(values[:, None], 3, axis=1)
    table = SequenceTable(
        names=names,
        precision=curves,
        normalised=curves,
        success=curves,
        columns={"PR": values, "NPR": values, "SR": values},
        weights=np.ones(len(values)),
        long_term=None,
        timed_frames=np.zeros(len(values)),
        seconds=np.zeros(len(values)),
    )
    mean = float(values.mean())
    curve = Curve(np.linspace(0, 1, 3), curves.mean(axis=0))
    return Scores(
        tracker=tracker,
        benchmark="lasher",
        protocol=get_protocol("lasher"),
        metrics={"PR": mean, "NPR": mean, "SR": mean},
        curves={"precision": curve, "normalised precision": curve, "success": curve},
        sequences={name: {"SR": float(v)} for name, v in zip(names, values, strict=True)},
        attributes={},
        left_out={},
        cut=(),
        frames=len(values),
        fps=None,
        tracks={},
        table=table,
    )


def drawn_benchmarks(
    benchmarks: int, sequences: int, trackers: int, *, seed: int
) -> NDArray[np.float64]:
    """Return successes ``(benchmarks, trackers, sequences)`` as real trackers have them.

    A sequence is easy or hard for all trackers, many are nearly perfect and some are lost early.
    The second tracker is better than the first by a little, and so on.
    """
    generator = np.random.default_rng(seed)
    hard = generator.normal(0, 1.6, (benchmarks, 1, sequences))
    own = generator.normal(0, 0.7, (benchmarks, trackers, sequences))
    skill = 0.5 + 0.1 * np.arange(trackers)[None, :, None]
    return 0.9 / (1 + np.exp(-(skill + hard + own)))
