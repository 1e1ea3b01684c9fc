"""Time the scoring of LasHeR's test set against the PyPI package ``rgbt``.

Both run in one process on one thread and get the same boxes, already read. Both compute precision,
normalised precision and success of 245 sequences. Then files with four decimals are read and
scored, against numpy's readers, which only read them.

    python benchmarks/bench_scoring.py
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rgbt_fusion.evaluation.results import read_results
from rgbt_fusion.evaluation.scoring import BenchmarkTruth, load_benchmark, score


def seconds(run: Callable[[], object]) -> float:
    """Return the process CPU time of one call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def main() -> None:
    """Print the medians of interleaved runs, their ratio, and how far the scores differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    from rgbt import LasHeR

    benchmark = load_benchmark("lasher")
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for name, truth in benchmark.truth.items():
            boxes = np.maximum(truth.rgb + generator.normal(0, 8, truth.rgb.shape), 1).round()
            np.savetxt(Path(folder) / f"{name}.txt", boxes, delimiter=",", fmt="%d")
        results = read_results(folder, benchmark.truth)
        other = LasHeR()
        other("noise", f"{folder}/")

    def theirs() -> dict[str, float]:
        return {name: float(getattr(other, name)("noise")[0]) for name in ("PR", "NPR", "SR")}

    times: dict[str, list[float]] = {"rgbt_fusion": [], "rgbt": []}
    for _ in range(runs):
        times["rgbt_fusion"].append(seconds(lambda: score(results, benchmark)))
        times["rgbt"].append(seconds(theirs))
    medians = {name: statistics.median(values) for name, values in times.items()}
    frames = sum(len(truth.rgb) for truth in benchmark.truth.values())
    for name, median in medians.items():
        best = f"of {runs} runs: {min(times[name]):.3f} s at best"
        print(f"{name:12s} {median:7.3f} s for {frames:,} frames ({best})")
    print(f"ratio        {medians['rgbt'] / medians['rgbt_fusion']:7.1f}")
    ours = score(results, benchmark, protocol="rgbt").metrics
    expected = theirs()
    difference = max(abs(ours[name] - expected[name]) for name in expected)
    print(f"difference   {difference:.1e} (protocol 'rgbt')")
    _reading(benchmark, runs)


def _reading(benchmark: BenchmarkTruth, runs: int) -> None:
    """Print how long files take to become scores, and how long numpy takes to read them."""
    generator = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        for name, truth in benchmark.truth.items():
            boxes = truth.rgb + generator.normal(0, 8, truth.rgb.shape)
            np.savetxt(Path(folder) / f"{name}.txt", boxes, delimiter="\t", fmt="%.4f")
        files = sorted(Path(folder).glob("*.txt"))
        readers: dict[str, Callable[[], object]] = {
            "files to scores": lambda: score(read_results(folder, benchmark.truth), benchmark),
            "reading alone": lambda: read_results(folder, benchmark.truth),
            "numpy.loadtxt": lambda: [np.loadtxt(file) for file in files],
            "numpy.fromfile": lambda: [np.fromfile(file, sep=" ") for file in files],
        }
        taken: dict[str, list[float]] = {name: [] for name in readers}
        for _ in range(runs):
            for name, run in readers.items():
                taken[name].append(seconds(run))
    for name, values in taken.items():
        print(f"{name:16s} {statistics.median(values):7.3f} s for {len(files)} files")


if __name__ == "__main__":
    main()
