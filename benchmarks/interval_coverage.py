"""How often the intervals hold the truth, on made-up benchmarks whose truth is known.

Each made-up benchmark has sequences that are easy or hard for all trackers alike, as in the public
results on LasHeR: many are nearly solved, some are lost at once. The truth is the mean over two
million sequences.

    python benchmarks/interval_coverage.py
"""

import argparse
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rgbt_fusion.evaluation.intervals import Resampling, mean_interval, paired_differences
from rgbt_fusion.evaluation.protocols import get_protocol
from rgbt_fusion.evaluation.scores import Curve, Scores, SequenceTable
from rgbt_fusion.files.table import Table, to_markdown

__all__ = ["Coverage", "coverage", "drawn_benchmarks", "scores_of"]


class Coverage(NamedTuple):
    """How often intervals hold the truth, in per cent."""

    single: float
    """Of one number."""
    paired: float
    """Of one difference."""
    together: float
    """Of all differences at once, by their corrected intervals."""


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


def coverage(benchmarks: int, sequences: int, trackers: int, resampling: Resampling) -> Coverage:
    """Return how often the intervals of made-up benchmarks hold the truth."""
    truth = drawn_benchmarks(1, 2_000_000, trackers, seed=99)[0].mean(axis=1)
    single = 0
    paired = 0
    together = 0
    for values in drawn_benchmarks(benchmarks, sequences, trackers, seed=sequences):
        low, high = mean_interval(values[0], resampling=resampling)
        single += low <= truth[0] <= high
        scores = [scores_of(str(k), own) for k, own in enumerate(values)]
        held = []
        for pair in paired_differences(scores, resampling=resampling):
            true = truth[int(pair.first)] - truth[int(pair.second)]
            held.append(pair.interval.low <= true <= pair.interval.high)
            if {pair.first, pair.second} == {"0", "1"}:
                paired += pair.alone.low <= true <= pair.alone.high
        together += all(held)
    share = 100 / benchmarks
    return Coverage(share * single, share * paired, share * together)


def main() -> None:
    """Print a table of the shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--benchmarks", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--trackers", type=int, default=5)
    arguments = parser.parse_args()
    resampling = Resampling(resamples=arguments.resamples)
    rows = []
    for sequences in (10, 20, 50, 100, 245):
        found = coverage(arguments.benchmarks, sequences, arguments.trackers, resampling)
        rows.append((sequences, *(f"{share:.1f} %" for share in found)))
    pairs = int(np.arange(arguments.trackers).sum())
    header = ("sequences", "one number", "one difference", f"all {pairs} differences together")
    print(to_markdown(Table(header, tuple(rows))))


if __name__ == "__main__":
    main()
