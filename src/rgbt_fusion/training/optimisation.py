"""AdamW groups, the schedule of the learning rate, and the exponential average of the weights."""

from collections.abc import Iterable, Mapping
from math import cos, pi

import torch
from torch import Tensor, nn

from rgbt_fusion.training.config import OptimiserConfig

__all__ = ["WeightAverage", "freeze", "learning_rate_factor", "make_optimiser", "set_learning_rate"]


def freeze(model: nn.Module, beginnings: Iterable[str]) -> None:
    """Take parameters whose names begin so out of the training.

    Raises:
        ValueError: a beginning that fits no parameter.
    """
    for beginning in beginnings:
        chosen = [value for name, value in model.named_parameters() if name.startswith(beginning)]
        if not chosen:
            raise ValueError(
                f"frozen must hold beginnings of parameter names, got {beginning!r}, which fits none"
            )
        for value in chosen:
            value.requires_grad_(False)


def make_optimiser(model: nn.Module, config: OptimiserConfig) -> torch.optim.AdamW:
    """Return AdamW with the encoder's parameters (``backbone.``, and a TIR patch embedding of its
    own) in a group of a smaller learning rate.

    Raises:
        ValueError: nothing is left to train.
    """
    groups: dict[bool, list[Tensor]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups["backbone." in name or "patch_embed_tir." in name].append(parameter)
    factors = {True: config.backbone_factor, False: 1.0}
    filled = [
        {
            "params": group,
            "lr": config.learning_rate * factors[key],
            "base_lr": config.learning_rate * factors[key],
        }
        for key, group in groups.items()
        if group
    ]
    if not filled:
        raise ValueError("frozen must leave a parameter to train, got all of them")
    return torch.optim.AdamW(
        filled, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )


def learning_rate_factor(step: int, steps: int, config: OptimiserConfig) -> float:
    """Return what the learning rates are multiplied by at a step, the first being 0.

    Example:
        >>> from rgbt_fusion.training.config import OptimiserConfig
        >>> from rgbt_fusion.training.optimisation import learning_rate_factor
        >>> config = OptimiserConfig(schedule="step", drop_at=0.8, warmup_steps=4)
        >>> [learning_rate_factor(step, 100, config) for step in (0, 3, 4, 79, 80)]
        [0.25, 1.0, 1.0, 1.0, 0.1]
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.schedule == "step":
        return 1.0 if step < config.drop_at * steps else 0.1
    if config.schedule == "cosine":
        progress = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
        return 0.01 + 0.99 * (1 + cos(pi * progress)) / 2
    return 1.0


def set_learning_rate(optimiser: torch.optim.Optimizer, factor: float) -> float:
    """Multiply every group's learning rate; return the last group's, which is not the encoder's
    where both are."""
    for group in optimiser.param_groups:
        group["lr"] = group["base_lr"] * factor
    return optimiser.param_groups[-1]["lr"]


class WeightAverage:
    r"""Keep an exponential average of a model's weights and statistics.

    .. math::
        \bar\theta \leftarrow d_t\, \bar\theta + (1 - d_t)\, \theta, \qquad d_t = \min(d, (1 + t) / (10 + t))

    Args:
        model: the model to follow.
        decay: ``d``.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after a step."""
        decay = min(self.decay, (1 + step) / (10 + step))
        current = model.state_dict()
        ours, theirs = [], []
        for name, value in self.values.items():
            if value.is_floating_point():
                ours.append(value)
                theirs.append(current[name])
            else:
                value.copy_(current[name])
        torch._foreach_lerp_(ours, theirs, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Go on from an average that was saved."""
        for name, value in self.values.items():
            value.copy_(values[name])
