"""What one step of a tracking model costs on this machine.

``python -m rgbt_fusion.cli.step_cost`` reads how to build a model as JSON and prints the cost of a
step as JSON. It is a fresh process: its peak of resident memory is that of the model, PyTorch and
Python, and of nothing that ran before.
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rgbt_fusion.benchmarking.timing import Effort, Spread, interleave

if TYPE_CHECKING:
    from torch import nn

__all__ = ["StepCost", "measure_step"]


@dataclass(frozen=True)
class StepCost:
    """What one step at batch 1 takes: medians and quartiles of its time, and the peak of memory."""

    threads: int
    cpu_ms: Spread
    wall_ms: Spread
    peak_resident_bytes: int


def measure_step(
    model: "nn.Module",
    *,
    name: str = "",
    threads: int = 1,
    rounds: int = 15,
    budget_s: float = 10.0,
) -> StepCost:
    """Time steps of a model of this configuration, with random weights, in a fresh process.

    Args:
        model: what to build there.
        name: ``package.module:function`` for a network of your own, which is built so.
        threads: threads of PyTorch.
        rounds: how many steps to time.
        budget_s: seconds after which there are fewer steps, three at least.

    Raises:
        RuntimeError: the process failed; the message ends with its last words.
    """
    from rgbt_fusion.models.interface import configuration_of

    order = {
        "configuration": configuration_of(model),
        "name": name,
        "threads": threads,
        "rounds": rounds,
        "budget_s": budget_s,
    }
    done = subprocess.run(
        [sys.executable, "-m", "rgbt_fusion.cli.step_cost"],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        env={**os.environ, "MALLOC_ARENA_MAX": "1"},
        check=False,
    )
    if done.returncode:
        words = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise RuntimeError(f"measuring a step of {type(model).__name__} failed: {words[-1]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return StepCost(
        threads=found["threads"],
        cpu_ms=Spread(*found["cpu_ms"]),
        wall_ms=Spread(*found["wall_ms"]),
        peak_resident_bytes=found["peak_resident_bytes"],
    )


def _measure_here(
    configuration: dict[str, Any], name: str, threads: int, rounds: int, budget_s: float
) -> StepCost:
    import torch

    from rgbt_fusion.benchmarking.memory import resident_bytes
    from rgbt_fusion.models.named import build_named, names_code
    from rgbt_fusion.models.presets import build_from_configuration
    from rgbt_fusion.models.summary import random_crops

    torch.set_num_threads(threads)
    model: Any
    if names_code(name):
        model = build_named(name).eval()
    else:
        model = build_from_configuration(configuration).eval()
    template, search = random_crops(model)

    def step() -> object:
        with torch.inference_mode():
            return model(template, search)

    clocks = interleave({"step": step}, Effort(rounds=rounds, budget_s=budget_s))["step"]
    return StepCost(threads, clocks.cpu_ms, clocks.wall_ms, resident_bytes("VmHWM"))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(_measure_here(**json.loads(sys.stdin.read())))) + "\n")
