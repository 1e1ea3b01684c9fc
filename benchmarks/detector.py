"""Does the fusing neck of the example detector beat its sum? Train both, from several seeds.

Both detectors of ``examples/08_detector_network.py`` have the same pairs, steps and optimiser, and
are scored on pairs whose places and objects no training shows::

    python benchmarks/detector.py --seeds 1,2,3

adds one line per neck and seed to the record, where it is missing, and draws the plot.
"""

import argparse
import importlib
import json
import platform
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "benchmarks" / "results" / "0.1.0" / "detector.jsonl"
PLOT = ROOT / "docs" / "plots" / "detector.png"
NECKS = {"SumNeck": "sum of both pyramids", "FusionNeck": "MutualPrompter and DFM"}
"""The necks of the example, and how they are called."""
SMOOTHED_STEPS = 10
"""How many steps one number of a loss curve is the mean of."""


def example(name: str) -> Any:
    """Return one of the examples as a module."""
    folder = str(ROOT / "examples")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(name)


@cache
def rendered(count: int, *, held_out: bool) -> Any:
    """Return pairs of the example, rendered once."""
    return example("09_detector_score").make_pairs(count, held_out=held_out)


def trial(neck: str, seed: int, *, steps: int, pairs: int, held_out: int) -> dict[str, Any]:
    """Train one detector and score it."""
    network = example("08_detector_network")
    scores = example("09_detector_score")
    training = example("10_train_the_detector")
    shown = rendered(pairs, held_out=False)
    hidden = rendered(held_out, held_out=True)
    torch.manual_seed(seed)
    model = network.Detector(getattr(network, neck))
    start = time.process_time()
    losses = training.train(model, *shown, steps=steps)
    seconds = time.process_time() - start
    whole = len(losses) // SMOOTHED_STEPS * SMOOTHED_STEPS
    curve = np.array(losses[:whole]).reshape(-1, SMOOTHED_STEPS).mean(1)
    return {
        "neck": neck,
        "seed": seed,
        "steps": steps,
        "pairs": pairs,
        "held_out_pairs": held_out,
        "ap50": round(scores.score(model, *hidden), 4),
        "ap50_of_64_training_pairs": round(scores.score(model, *(x[:64] for x in shown)), 4),
        "loss": [round(float(x), 4) for x in curve],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "cpu_seconds": round(seconds),
        "torch": torch.__version__,
        "machine": platform.machine(),
    }


def read_trials(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a record."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def verdict(trials: list[dict[str, Any]]) -> str:
    """Say whether one neck is better outside the spread of the seeds."""
    scores = {neck: [one["ap50"] for one in trials if one["neck"] == neck] for neck in NECKS}
    plain, fused = scores["SumNeck"], scores["FusionNeck"]
    if min(fused) > max(plain):
        return "the fused neck is better: every seed of it is above every seed of the sum"
    if max(fused) < min(plain):
        return "the fused neck is worse: every seed of it is below every seed of the sum"
    return "no difference can be told: the seeds of both necks overlap"


def table(trials: list[dict[str, Any]]) -> str:
    """Return the scores as a table of Markdown."""
    lines = [
        "| neck | parameters | AP50, held-out pairs: mean (lowest, highest) |",
        "|---|---|---|",
    ]
    for neck, title in NECKS.items():
        own = [one for one in trials if one["neck"] == neck]
        scores = [one["ap50"] for one in own]
        spread = f"{np.mean(scores):.3f} ({min(scores):.3f}, {max(scores):.3f})"
        lines.append(f"| {title} | {own[0]['parameters']:,} | {spread} |")
    return "\n".join(lines)


def plot(trials: list[dict[str, Any]], path: Path) -> None:
    """Draw the losses of both necks: each seed a thin line, their mean a thick one."""
    from rgbt_fusion.evaluation.plots import new_figure

    figure, axes = new_figure(width=6.5, height=3.6)
    for colour, (neck, title) in zip(("C7", "C0"), NECKS.items(), strict=True):
        own = [one for one in trials if one["neck"] == neck]
        curves = np.array([one["loss"] for one in own])
        steps = (np.arange(curves.shape[1]) + 0.5) * SMOOTHED_STEPS
        for curve in curves:
            axes.plot(steps, curve, color=colour, linewidth=0.7, alpha=0.4)
        scores = ", ".join(f"{one['ap50']:.3f}" for one in own)
        axes.plot(steps, curves.mean(0), color=colour, label=f"{title}: AP50 {scores}")
    axes.set(xlabel="step", ylabel="training loss (focal + GIoU)", yscale="log")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.savefig(path)


def main() -> None:
    """Run what is missing, print the table and draw the plot."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--pairs", type=int, default=256)
    parser.add_argument("--held-out", type=int, default=128)
    parser.add_argument("--record", type=Path, default=RECORD)
    parser.add_argument("--plot", type=Path, default=PLOT)
    options = parser.parse_args()
    sizes = {"steps": options.steps, "pairs": options.pairs, "held_out": options.held_out}
    for seed in map(int, options.seeds.split(",")):
        for neck in NECKS:
            done = {(one["neck"], one["seed"]) for one in read_trials(options.record)}
            if (neck, seed) not in done:
                line = json.dumps(trial(neck, seed, **sizes))
                with options.record.open("a") as record:
                    record.write(line + "\n")
                print(line)
    trials = read_trials(options.record)
    print(table(trials))
    print(verdict(trials))
    plot(trials, options.plot)


if __name__ == "__main__":
    main()
