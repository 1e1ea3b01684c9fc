"""AdamW, the schedule of the learning rate, and the exponential average of the weights."""

from collections.abc import Iterable, Iterator, Mapping
from math import cos, pi
from typing import Any

import torch
from torch import Tensor, nn

from rgbt_fusion.training.config import OptimiserConfig

__all__ = [
    "NORMS",
    "WeightAverage",
    "freeze",
    "learning_rate_factor",
    "make_optimiser",
    "set_learning_rate",
    "undecayed",
]


def freeze(model: nn.Module, beginnings: Iterable[str]) -> None:
    """Exclude the parameters whose names begin in one of these ways from the training.

    A BatchNorm without a parameter to train keeps its statistics.

    Raises:
        ValueError: one of ``beginnings`` fits no parameter.
    """
    for beginning in beginnings:
        chosen = [value for name, value in model.named_parameters() if name.startswith(beginning)]
        if not chosen:
            raise ValueError(
                f"frozen must hold beginnings of parameter names, got {beginning!r}, "
                "which fits none"
            )
        for value in chosen:
            value.requires_grad_(False)
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        is_norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
        if is_norm and own and not any(value.requires_grad for value in own):
            # its statistics are as much a part of the weights as its scale
            module.momentum = 0.0


def make_optimiser(model: nn.Module, config: OptimiserConfig) -> torch.optim.AdamW:
    """Return AdamW with a learning rate of its own for the encoder.

    The encoder is everything below ``backbone.``, and a separate TIR patch embedding. With
    ``decay_everything`` off, norms and marked parameters form groups without weight decay.

    Raises:
        ValueError: ``model`` has no parameter to train.
    """
    spared = set[int]()
    if not config.decay_everything:
        spared = {id(parameter) for parameter in undecayed(model)}
    # the others come last: set_learning_rate reports the last group's rate
    groups: list[dict[str, Any]] = []
    for is_encoder, factor in ((True, config.backbone_factor), (False, 1.0)):
        rate = config.learning_rate * factor
        for is_spared in (True, False):
            parameters = []
            for name, parameter in model.named_parameters():
                in_group = _is_of_encoder(name) == is_encoder
                in_group = in_group and (id(parameter) in spared) == is_spared
                if parameter.requires_grad and in_group:
                    parameters.append(parameter)
            if parameters:
                group = {"params": parameters, "lr": rate, "base_lr": rate}
                if is_spared:
                    group["weight_decay"] = 0.0
                groups.append(group)
    if not groups:
        count = sum(1 for _ in model.parameters())
        raise ValueError(
            "the network must have a parameter to train, but frozen, or its own requires_grad, "
            f"fixes all of its {count}"
        )
    return torch.optim.AdamW(
        groups, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )


NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)
"""The layers whose scale and shift are not decayed."""


def undecayed(model: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the parameters that are better not decayed: those of norms, and those marked so.

    A layer marks a parameter by its attribute ``_no_weight_decay``, as mamba-ssm does.
    """
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if isinstance(module, NORMS) or getattr(parameter, "_no_weight_decay", False):
                yield parameter


def _is_of_encoder(name: str) -> bool:
    return "backbone." in name or "patch_embed_tir." in name


def learning_rate_factor(step: int, steps: int, config: OptimiserConfig) -> float:
    """Return what the learning rates are multiplied by at a step, counted from 0.

    Example:
        >>> from rgbt_fusion.training.config import OptimiserConfig
        >>> from rgbt_fusion.training.optimisation import learning_rate_factor
        >>> config = OptimiserConfig(schedule="step", drop_at=0.8, warmup_steps=4)
        >>> [learning_rate_factor(step, 100, config) for step in (0, 3, 4, 79, 80)]
        [0.25, 1.0, 1.0, 1.0, 0.1]
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "step":
        return 1.0 if step < config.drop_at * steps else 0.1
    progress = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    return 0.01 + 0.99 * (1 + cos(pi * progress)) / 2


def set_learning_rate(optimiser: torch.optim.Optimizer, factor: float) -> float:
    """Multiply the learning rate of every group, and return that of the last group."""
    for group in optimiser.param_groups:
        group["lr"] = group["base_lr"] * factor
    return optimiser.param_groups[-1]["lr"]


class WeightAverage:
    r"""Keep an exponential average of a model's weights and statistics.

    .. math::
        \bar\theta \leftarrow d_t\, \bar\theta + (1 - d_t)\, \theta, \qquad
        d_t = \min(d, (1 + t) / (10 + t))

    Args:
        model: the model to follow.
        decay: ``d``.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after a step, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        current = model.state_dict()
        ours: list[Tensor] = []
        theirs: list[Tensor] = []
        for name, value in self.values.items():
            if value.is_floating_point():
                ours.append(value)
                theirs.append(current[name])
            else:
                value.copy_(current[name])
        torch._foreach_lerp_(ours, theirs, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Continue from an average that was saved."""
        for name, value in self.values.items():
            value.copy_(values[name])
