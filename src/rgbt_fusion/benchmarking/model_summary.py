"""What a tracking model is made of and what one step of it costs on this machine.

``python -m rgbt_fusion.benchmarking.model_summary`` reads how to build a model as JSON and prints
the cost of a step as JSON: a fresh process, so that its peak of resident memory is the model's and
PyTorch's alone.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from rgbt_fusion.benchmarking.arithmetic import count_macs, count_parameters
from rgbt_fusion.benchmarking.memory import resident_bytes
from rgbt_fusion.benchmarking.timing import Effort, Spread, interleave
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.models.network import TrackingNetwork
from rgbt_fusion.models.presets import build_model

__all__ = ["Component", "ModelSummary", "StepCost", "measure_step", "summarise"]


@dataclass(frozen=True)
class Component:
    """A part of a model: how many layers of it there are, and all their parameters."""

    name: str
    layers: int
    parameters: int


@dataclass(frozen=True)
class ModelSummary:
    """What can be counted without running anything.

    ``search_tokens`` of one stream, before the first block and after each; ``macs`` of one step at
    batch 1, template included: matrix products, convolutions, attention and scans.
    """

    model: str
    components: tuple[Component, ...]
    parameters: int
    macs: int
    template_tokens: int
    search_tokens: tuple[int, ...]
    weight_bytes: int
    configuration: dict[str, Any]


@dataclass(frozen=True)
class StepCost:
    """What one step at batch 1 takes: medians and quartiles of its time, and the peak of its
    process's memory."""

    threads: int
    cpu_ms: Spread
    wall_ms: Spread
    peak_resident_bytes: int


def summarise(model: TrackingNetwork) -> ModelSummary:
    """Count a model's parts, parameters, tokens and multiply-accumulates; it may lie on the meta
    device.

    Example:
        >>> from rgbt_fusion.benchmarking.model_summary import summarise
        >>> from rgbt_fusion import create_model
        >>> summary = summarise(create_model("ostrack_tiny_128"))
        >>> summary.template_tokens, summary.search_tokens
        (16, (64, 64, 45, 32, 23))
        >>> summary.parameters == sum(component.parameters for component in summary.components)
        True
    """
    was_training = model.training
    macs = count_macs(model.eval(), *_step_inputs(model))
    model.train(was_training)
    return ModelSummary(
        model=type(model).__name__,
        components=tuple(_components(model)),
        parameters=count_parameters(model),
        macs=macs,
        template_tokens=model.backbone.template_length,
        search_tokens=(model.backbone.search_length, *model.backbone.kept_lengths()),
        weight_bytes=sum(x.numel() * x.element_size() for x in model.state_dict().values()),
        configuration=model.configuration,
    )


def _step_inputs(model: TrackingNetwork) -> tuple[ImagePair, ImagePair]:
    sizes, generator = (model.template_size, model.search_size), torch.Generator().manual_seed(0)
    device = model.backbone.pos_embed_x.device
    drawn = (torch.randn(2, 1, 3, size, size, generator=generator).to(device) for size in sizes)
    template, search = (ImagePair(*images) for images in drawn)
    return template, search


def _components(model: TrackingNetwork) -> Iterator[Component]:
    """Yield the parts of a model; the encoder's own parts take its place."""
    yield from _parts(model.backbone, "backbone.")
    for name, module in model.named_children():
        if module is not model.backbone:
            yield _component(name, module)
    own = sum(parameter.numel() for parameter in model.parameters(recurse=False))
    if own:
        yield Component("embeddings", 1, own)


def _parts(module: nn.Module, prefix: str) -> Iterator[Component]:
    for name, part in module.named_children():
        yield _component(prefix + name, part)
    for name, parameter in module.named_parameters(recurse=False):
        yield Component(prefix + name, 1, parameter.numel())


def _component(name: str, module: nn.Module) -> Component:
    return Component(
        name, len(module) if isinstance(module, nn.ModuleList) else 1, count_parameters(module)
    )


def measure_step(
    model: TrackingNetwork, *, threads: int = 1, rounds: int = 15, budget_s: float = 10.0
) -> StepCost:
    """Time steps of a model of this configuration, with random weights, in a fresh process.

    Args:
        model: what to build there.
        threads: of PyTorch.
        rounds: how many steps.
        budget_s: seconds after which there are fewer, three at least.

    Raises:
        RuntimeError: the process failed; the message ends with its last words.
    """
    order = {
        "configuration": model.configuration,
        "threads": threads,
        "rounds": rounds,
        "budget_s": budget_s,
    }
    done = subprocess.run(
        [sys.executable, "-m", "rgbt_fusion.benchmarking.model_summary"],
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
    return StepCost(**found | {clock: Spread(*found[clock]) for clock in ("cpu_ms", "wall_ms")})


def _measure_here(
    configuration: dict[str, Any], threads: int, rounds: int, budget_s: float
) -> StepCost:
    torch.set_num_threads(threads)
    model = build_model(configuration)
    inputs = _step_inputs(model.eval())

    def step() -> object:
        with torch.inference_mode():
            return model(*inputs)

    clocks = interleave({"step": step}, Effort(rounds=rounds, budget_s=budget_s))["step"]
    return StepCost(threads, clocks.cpu_ms, clocks.wall_ms, resident_bytes("VmHWM"))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(_measure_here(**json.loads(sys.stdin.read())))) + "\n")
