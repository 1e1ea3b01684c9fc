"""Models by name, with the trained weights that ship with the package."""

from importlib import resources
from typing import Any

from rgbt_fusion.models.network import TrackingNetwork
from rgbt_fusion.models.presets import build_preset, check_preset_name
from rgbt_fusion.weights.checkpoints import load_checkpoint

__all__ = ["PRETRAINED", "create_model"]

PRETRAINED = {"ainet_tiny_128": "ainet_tiny_128.safetensors"}
"""The presets whose trained weights ship with the package, and their files in ``weights``."""


def create_model(name: str, *, pretrained: bool = False, **overrides: Any) -> TrackingNetwork:
    """Build a model by the name of its preset.

    Args:
        name: one of :func:`list_models`.
        pretrained: load the weights that come with the package.
        **overrides: settings (:class:`EncoderSettings`) and options of the constructor of the
            model to change.

    Raises:
        ValueError: ``name`` is unknown, with the nearest names; ``pretrained`` is true for a preset
            without weights; a value is out of range.
        TypeError: an override is neither a setting nor an option of this model.
        FileNotFoundError: the installation lacks the weights.
        CheckpointError: the weights do not fit the model with these overrides.

    Example:
        >>> from rgbt_fusion import create_model
        >>> model = create_model("two_stream_tiny_128", depth=2)
        >>> len(model.backbone.blocks)
        2
    """
    check_preset_name(name, name="name")
    if pretrained and name not in PRETRAINED:
        raise ValueError(
            f"pretrained must be False for {name}: weights come with {', '.join(PRETRAINED)} only"
        )
    model = build_preset(name, **overrides)
    if pretrained:
        _load_pretrained(model, name)
    return model


def _load_pretrained(model: TrackingNetwork, name: str) -> None:
    file = PRETRAINED[name]
    weights = resources.files("rgbt_fusion") / "weights" / file
    if not weights.is_file():
        raise FileNotFoundError(
            f"the trained weights of {name} are not in this installation, "
            f"which lacks weights/{file}: "
            "give a file of weights, or train one with rgbt-fusion train"
        )
    with resources.as_file(weights) as path:
        load_checkpoint(model, path)
