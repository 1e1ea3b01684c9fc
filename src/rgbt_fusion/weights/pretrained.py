"""Models by name, with the trained weights that ship with the package."""

from dataclasses import fields, replace
from importlib import resources
from typing import Any

from rgbt_fusion.checks import check_choice
from rgbt_fusion.models.encoder import EncoderSettings
from rgbt_fusion.models.network import TrackingNetwork
from rgbt_fusion.models.presets import MODELS

PRETRAINED = {"ainet_tiny_128": "ainet_tiny_128.safetensors"}
"""The presets whose trained weights are part of the package, and their files in its folder
``weights``."""


def create_model(name: str, *, pretrained: bool = False, **overrides: Any) -> TrackingNetwork:
    """Build a model by its preset's name.

    Args:
        name: one of :func:`list_models`.
        pretrained: load the weights that come with the package.
        **overrides: settings (:class:`EncoderSettings`) and options of the model's constructor to
            change.

    Raises:
        ValueError: an unknown name; ``pretrained`` for a preset without weights.
        TypeError: an override that is neither a setting nor an option of this model.
        FileNotFoundError: the installation lacks the weights.

    Example:
        >>> from rgbt_fusion import create_model
        >>> model = create_model("two_stream_tiny_128", depth=2)
        >>> len(model.backbone.blocks)
        2
    """
    check_choice(name, MODELS, name="name")
    preset = MODELS[name]
    names = {field.name for field in fields(EncoderSettings)}
    settings = replace(
        preset.args[0], **{key: value for key, value in overrides.items() if key in names}
    )
    options = preset.keywords | {key: value for key, value in overrides.items() if key not in names}
    try:
        model = preset.func(settings, **options)
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        raise TypeError(
            f"{name} takes the settings {sorted(names)} and its own options; {error}"
        ) from error
    if pretrained:
        _load_pretrained(model, name)
    return model


def _load_pretrained(model: TrackingNetwork, name: str) -> None:
    from rgbt_fusion.weights.checkpoints import load_checkpoint

    if name not in PRETRAINED:
        raise ValueError(
            f"pretrained must be False for {name}: weights come with {', '.join(PRETRAINED)} only"
        )
    weights = resources.files("rgbt_fusion") / "weights" / PRETRAINED[name]
    if not weights.is_file():
        raise FileNotFoundError(
            f"the trained weights of {name} are not in this installation, which lacks weights/{PRETRAINED[name]}: "
            "give a file of weights, or train one with rgbt-fusion train"
        )
    with resources.as_file(weights) as path:
        load_checkpoint(model, path)
