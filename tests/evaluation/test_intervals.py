"""Intervals hold the truth as often as they say, and differences are decided when they should."""

import time
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.interval_coverage import drawn_benchmarks, scores_of
from rgbt_fusion.checks import ShapeError
from rgbt_fusion.evaluation import intervals as intervals_module
from rgbt_fusion.evaluation.intervals import (
    Resampling,
    curve_bands,
    mean_interval,
    paired_differences,
    percentiles,
    resample_counts,
    score_intervals,
    smallest_decidable,
)
from rgbt_fusion.evaluation.scores import AttributeScores, Scores
from rgbt_fusion.evaluation.scoring import BenchmarkTruth, score
from rgbt_fusion.frames.types import GroundTruth

FEW = Resampling(resamples=800)


@pytest.fixture(scope="module")
def truth():
    """Mean success of two trackers over all sequences that there could be."""
    return drawn_benchmarks(1, 2_000_000, 2, seed=99)[0].mean(axis=1)


@pytest.mark.parametrize("sequences", [20, 60])
def test_intervals_hold_the_truth_in_95_of_100_benchmarks(truth, sequences):
    drawn = drawn_benchmarks(1000, sequences, 2, seed=sequences)
    single = 0
    paired = 0
    for first, second in drawn:
        low, high = mean_interval(first, resampling=FEW)
        single += low <= truth[0] <= high
        (pair,) = paired_differences(
            [scores_of("a", first), scores_of("b", second)], pairs="first", resampling=FEW
        )
        assert pair.interval == pytest.approx(pair.alone)
        paired += pair.interval.low <= truth[0] - truth[1] <= pair.interval.high
    assert 930 <= single <= 970
    assert 930 <= paired <= 970


def test_all_corrected_intervals_hold_together():
    drawn = drawn_benchmarks(300, 60, 5, seed=5)
    truths = drawn_benchmarks(1, 400_000, 5, seed=98)[0].mean(axis=1)
    together = 0
    each = 0
    for trackers in drawn:
        scores = [scores_of(str(k), values) for k, values in enumerate(trackers)]
        pairs = paired_differences(scores, resampling=FEW)
        held = []
        alone = []
        for pair in pairs:
            true = truths[int(pair.first)] - truths[int(pair.second)]
            held.append(pair.interval.low <= true <= pair.interval.high)
            alone.append(pair.alone.low <= true <= pair.alone.high)
        together += all(held)
        each += all(alone)
    assert together / 300 >= 0.91
    assert each < together


def test_results_like_lashers_are_decided_as_they_should_be():
    generator = np.random.default_rng(0)
    hard = generator.beta(1.2, 1.0, 245)
    same = np.clip(hard + generator.normal(0, 0.15, 245), 0, 1)
    far_better = np.clip(hard + 0.08 + generator.normal(0, 0.15, 245), 0, 1)
    scores = [scores_of("base", hard), scores_of("alike", same), scores_of("better", far_better)]
    pairs = {(one.first, one.second): one for one in paired_differences(scores)}
    assert len(pairs) == 3
    assert {pair.better for key, pair in pairs.items() if "better" in key} == {"better"}
    (unclear,) = [pair for key, pair in pairs.items() if "better" not in key]
    assert unclear.better is None
    assert abs(unclear.difference) < unclear.decidable
    assert 0.01 < smallest_decidable(list(pairs.values())) < 0.05
    # more comparisons ask for wider intervals
    assert all(pair.decidable > (pair.alone.high - pair.alone.low) / 2 for pair in pairs.values())


def with_error(scores: Scores) -> Scores:
    """Return scores that have their success as an error, too."""
    success = scores.table.columns["SR"]
    return replace(scores, table=scores.table._replace(columns={"APE": success, "SR": success}))


def test_of_an_error_less_is_better():
    scores = [scores_of("near", np.full(30, 2.0)), scores_of("far", np.full(30, 9.0))]
    scores = [with_error(one) for one in scores]
    (pair,) = paired_differences(scores, "APE")
    assert (pair.first, pair.better, pair.difference) == ("near", "near", -7.0)
    (pair,) = paired_differences(scores, "SR")
    assert pair.better == "far"


def test_a_tracker_does_not_differ_from_itself():
    values = np.random.default_rng(1).random(40)
    (pair,) = paired_differences([scores_of("a", values), scores_of("b", values)])
    assert pair.difference == 0
    assert pair.better is None


def test_trackers_are_compared_where_both_have_results():
    both = {"x": 0.1, "y": 0.2, "z": 0.6}
    (pair,) = paired_differences(
        [scores_of("a", both | {"w": 1.0}), scores_of("b", {"u": 0.0} | both)]
    )
    assert (pair.sequences, pair.difference) == (3, 0.0)
    with pytest.raises(ValueError, match=r"must share at least two sequences .* got 1"):
        paired_differences([scores_of("a", {"x": 1, "y": 1}), scores_of("b", {"x": 1, "z": 1})])


def test_the_better_tracker_stands_first_and_neighbours_come_first():
    base = np.random.default_rng(2).random(50) / 2
    scores = [scores_of(name, base + lead) for name, lead in (("c", 0), ("a", 0.2), ("b", 0.1))]
    pairs = paired_differences(scores)
    assert [(pair.first, pair.second) for pair in pairs] == [("a", "b"), ("b", "c"), ("a", "c")]
    against = paired_differences(scores, pairs="first")
    assert [(pair.first, pair.second) for pair in against] == [("c", "a"), ("c", "b")]
    assert against[0].comparisons == 2


def walk(frames: int, seed: int):
    steps = np.random.default_rng(seed).normal(0, 2, (frames, 2)).cumsum(axis=0)
    return np.concatenate((steps + 200, np.full((frames, 2), 40.0)), axis=1)


def scored(benchmark: str, *, tracker: str = "t", noise: float = 5.0, confidences: bool = False):
    truth = {str(n): walk(30 + 5 * n, n) for n in range(12)}
    generator = np.random.default_rng(7)
    annotated = {n: GroundTruth(b, b, np.arange(len(b))) for n, b in truth.items()}
    results = {n: b + generator.normal(0, noise, b.shape) for n, b in truth.items()}
    attributes = {"TC": tuple("0123"), "LI": ("5",)}
    return score(results, BenchmarkTruth(benchmark, annotated, attributes), tracker=tracker)


@pytest.mark.parametrize("benchmark", ["lasher", "gtot", "got10k", "depthtrack"])
def test_every_number_lies_in_its_interval(benchmark):
    found = scored(benchmark)
    intervals = score_intervals([found])[0]
    without = set(found.metrics) - set(intervals.metrics)
    assert without <= {"max_ratio"}
    for name, (low, high) in intervals.metrics.items():
        assert low <= found.metrics[name] <= high
    low, high = intervals.attributes["TC"][found.protocol.metrics[-1]]
    assert low < found.attributes["TC"].metrics[found.protocol.metrics[-1]] < high
    # one sequence says nothing about others
    assert intervals.attributes["LI"] == {}
    for curve, line in found.curves.items():
        (band,) = curve_bands([found], curve)
        assert (band.low <= line.values + 1e-12).all()
        assert (line.values <= band.high + 1e-12).all()


def test_trackers_of_a_long_term_benchmark_are_compared_by_any_of_its_numbers():
    """Some are means over the sequences, others come from curves over the confidence."""
    both = [scored("depthtrack"), scored("depthtrack", noise=9)]
    for metric in ("SR", "F"):
        (pair,) = paired_differences(both, metric, pairs="first", resampling=FEW)
        expected = both[0].metrics[metric] - both[1].metrics[metric]
        assert abs(pair.difference) == pytest.approx(abs(expected))


def test_percentiles_lie_as_far_from_either_end():
    band = percentiles(np.arange(1000.0)[None], 50, None)
    assert band.low[0] + band.high[0] == pytest.approx(999)


def test_the_same_seed_draws_the_same_for_all():
    alone = score_intervals([scored("lasher")])
    assert score_intervals([scored("lasher", noise=9), scored("lasher")])[1:] == alone
    other = score_intervals([scored("lasher")], resampling=Resampling(seed=1))
    assert other[0].metrics["SR"] != alone[0].metrics["SR"]
    assert (resample_counts(7, FEW).sum(axis=1) == 7).all()


def test_fourteen_trackers_on_a_benchmark_of_lashers_size_take_little():
    generator = np.random.default_rng(0)
    scores = []
    for k in range(14):
        one = scores_of(f"t{k}", generator.random(245))
        curves = generator.random((245, 51))
        columns = {f"m{m}": generator.random(245) for m in range(9)} | dict(one.table.columns)
        table = one.table._replace(
            columns=columns, precision=curves, normalised=curves, success=curves[:, :21]
        )
        members = {f"a{n}": table.names[n : n + 80] for n in range(19)}
        attributes = {name: AttributeScores(80, {}, own) for name, own in members.items()}
        scores.append(replace(one, table=table, attributes=attributes))
    start = time.process_time()
    score_intervals(scores)
    for metric in ("PR", "NPR", "SR"):
        assert len(paired_differences(scores, metric)) == 91
    assert time.process_time() - start < 2


def test_what_has_no_interval_is_said():
    scores = [scores_of("a", [0.1, 0.2]), scores_of("b", [0.1, 0.3])]
    with pytest.raises(
        ValueError, match=r"metric must be a mean over sequences .* got 'max_ratio'"
    ):
        paired_differences(scores, "max_ratio")
    with pytest.raises(ValueError, match="at least two trackers to compare, got 1"):
        paired_differences(scores[:1])
    with pytest.raises(ValueError, match="pairs must be one of 'all', 'first', got 'best'"):
        paired_differences(scores, pairs="best")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ShapeError, match=r"values must have shape \(sequences,\) with at least 2"):
        mean_interval([0.5])
    with pytest.raises(ShapeError, match="weights must have the shape of values"):
        mean_interval([0.5, 0.6], [1])
    with pytest.raises(ValueError, match="level must lie between 0 and 1"):
        Resampling(level=1.0)
    with pytest.raises(ValueError, match="differences must hold at least one pair"):
        smallest_decidable([])


@pytest.mark.parametrize(
    ("share", "freedom", "quantile"),
    [
        (0.975, 5, 2.570582),
        (0.975, 10, 2.228139),
        (0.975, 30, 2.042272),
        (0.95, 10, 1.812461),
        (0.995, 20, 2.845340),
    ],
)
def test_students_quantiles_are_those_of_the_tables(share, freedom, quantile):
    found = intervals_module._student_quantile(share, freedom)
    assert found == pytest.approx(quantile, abs=2e-3 if freedom == 5 else 1e-4)


def test_a_mean_leaves_out_what_a_sequence_does_not_have():
    values = np.array([[0.2], [np.nan], [0.8], [0.5]])
    weights = np.array([1.0, 5.0, 3.0, 0.5])
    # all once; the third twice; the second alone, which has no value
    counts = np.array([[1, 1, 1, 1], [1, 1, 2, 0], [0, 4, 0, 0]])
    of_all = (0.2 + 3 * 0.8 + 0.5 * 0.5) / 4.5
    expected = [of_all, (0.2 + 6 * 0.8) / 7, of_all]
    means = intervals_module._means(values, weights, counts)
    assert means[0] == pytest.approx(expected)
