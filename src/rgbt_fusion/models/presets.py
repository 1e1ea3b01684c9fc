"""The tracking models by name: tables of sizes and presets."""

import inspect
from dataclasses import dataclass, field, fields, replace
from typing import Any

from rgbt_fusion.checks import did_you_mean
from rgbt_fusion.models.ainet import AINet
from rgbt_fusion.models.compensation_tracker import CompensationTracker
from rgbt_fusion.models.encoder import EncoderSettings
from rgbt_fusion.models.mutual_prompt import MutualPromptTeacher, OneStreamStudent
from rgbt_fusion.models.network import TrackingNetwork
from rgbt_fusion.models.ostrack import OSTrack
from rgbt_fusion.models.tpmri import TPMRI
from rgbt_fusion.models.two_stream import TwoStream

__all__ = [
    "MODELS",
    "TINY_128",
    "VITB_256",
    "VITB_384",
    "VITS_256",
    "VITS_384",
    "Preset",
    "build_from_configuration",
    "build_preset",
    "check_preset_name",
    "list_models",
]

VITB_256 = EncoderSettings()

VITB_384 = replace(VITB_256, template_size=192, search_size=384)

VITS_256 = replace(VITB_256, dim=384, num_heads=6)

VITS_384 = replace(VITS_256, template_size=192, search_size=384)

TINY_128 = EncoderSettings(
    dim=128,
    depth=4,
    num_heads=2,
    template_size=64,
    search_size=128,
    stem="convolution",
    head_channels=64,
)

ELIMINATING: dict[str, Any] = {"keep_ratio": 0.7}

RELEASED: dict[str, Any] = {
    "order_predictor": "released",
    "order_gradient": "none",
    "ofm_tokens": "released",
}


@dataclass(frozen=True)
class Preset:
    """A tracking model with its sizes and options; call it to build the model.

    A network of your own is built by name, and read from its files by :func:`load_model`, once it
    has a preset: ``MODELS["mine"] = Preset(Mine, EncoderSettings(...))``.

    Args:
        network: class of the model.
        settings: its sizes.
        options: those of its options that differ from the defaults of the class.

    Example:
        >>> from rgbt_fusion.models.presets import MODELS
        >>> MODELS["ainet_tiny_128_compact"].options
        {'inner_width': 8}
    """

    network: type[TrackingNetwork]
    settings: EncoderSettings
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self) -> TrackingNetwork:
        """Return a new model of this preset, its weights drawn at random."""
        # every network is built from its settings and its own options by name
        return self.network(self.settings, **self.options)

    def option_names(self) -> list[str]:
        """Return what the constructor of the model takes besides the settings."""
        parameters = inspect.signature(self.network).parameters
        return [name for name in parameters if name != "settings"]


MODELS: dict[str, Preset] = {
    "ostrack_vitb_256": Preset(OSTrack, replace(VITB_256, **ELIMINATING)),
    "ostrack_vitb_384": Preset(OSTrack, replace(VITB_384, search_factor=5.0, **ELIMINATING)),
    "ostrack_vits_256": Preset(OSTrack, replace(VITS_256, **ELIMINATING)),
    "ostrack_vits_384": Preset(OSTrack, replace(VITS_384, search_factor=5.0, **ELIMINATING)),
    "ostrack_tiny_128": Preset(OSTrack, replace(TINY_128, **ELIMINATING)),
    "two_stream_vitb_256": Preset(TwoStream, VITB_256),
    "two_stream_vits_256": Preset(TwoStream, VITS_256),
    "two_stream_tiny_128": Preset(TwoStream, TINY_128),
    "ainet_vitb_256": Preset(AINet, VITB_256),
    "ainet_vitb_384": Preset(AINet, VITB_384),
    "ainet_vits_256": Preset(AINet, VITS_256),
    "ainet_vits_384": Preset(AINet, VITS_384),
    "ainet_tiny_128": Preset(AINet, TINY_128),
    "ainet_vitb_256_compact": Preset(AINet, VITB_256, {"inner_width": 48}),
    "ainet_vits_256_compact": Preset(AINet, VITS_256, {"inner_width": 24}),
    "ainet_tiny_128_compact": Preset(AINet, TINY_128, {"inner_width": 8}),
    "ainet_vitb_256_released": Preset(AINet, VITB_256, RELEASED),
    "ainet_vitb_384_released": Preset(AINet, VITB_384, RELEASED),
    "tpmri_vitb_256": Preset(TPMRI, replace(VITB_256, **ELIMINATING)),
    "tpmri_vits_256": Preset(TPMRI, replace(VITS_256, **ELIMINATING)),
    "tpmri_tiny_128": Preset(TPMRI, replace(TINY_128, **ELIMINATING)),
    "mutual_prompt_teacher_vitb_256": Preset(MutualPromptTeacher, VITB_256),
    "mutual_prompt_teacher_vits_256": Preset(MutualPromptTeacher, VITS_256),
    "mutual_prompt_teacher_tiny_128": Preset(MutualPromptTeacher, TINY_128),
    "one_stream_student_vitb_256": Preset(OneStreamStudent, VITB_256),
    "one_stream_student_vits_256": Preset(OneStreamStudent, VITS_256),
    "one_stream_student_tiny_128": Preset(OneStreamStudent, TINY_128),
    "compensation_vitb_256": Preset(CompensationTracker, VITB_256),
    "compensation_vits_256": Preset(CompensationTracker, VITS_256),
    "compensation_tiny_128": Preset(CompensationTracker, TINY_128),
}
"""Every preset by name."""


def list_models() -> list[str]:
    """Return the names that :func:`create_model` knows.

    Example:
        >>> from rgbt_fusion import list_models
        >>> "ainet_tiny_128" in list_models()
        True
    """
    return list(MODELS)


def check_preset_name(value: Any, *, name: str) -> None:
    """Check that ``value`` is the name of a preset; the error names the nearest ones.

    Raises:
        ValueError: there is no such preset.
    """
    if value not in MODELS:
        hint = did_you_mean(value, MODELS, most=3)
        raise ValueError(f"{name} must be one of list_models(), got {value!r}{hint}")


def build_preset(name: str, **overrides: Any) -> TrackingNetwork:
    """Return a new model of a preset, its weights drawn at random.

    Args:
        name: one of :func:`list_models`.
        **overrides: settings (:class:`EncoderSettings`) and options of the constructor of the
            model to change.

    Raises:
        ValueError: ``name`` is unknown; a value is out of range.
        TypeError: an override is neither a setting nor an option of this model.

    Example:
        >>> from rgbt_fusion.models.presets import build_preset
        >>> build_preset("two_stream_tiny_128", depth=2).settings.depth
        2
    """
    check_preset_name(name, name="name")
    preset = MODELS[name]
    option_names = preset.option_names()
    setting_names = [setting.name for setting in fields(EncoderSettings)]
    changed_settings: dict[str, Any] = {}
    changed_options: dict[str, Any] = {}
    for key, value in overrides.items():
        if key in setting_names:
            changed_settings[key] = value
        elif key in option_names:
            changed_options[key] = value
        else:
            nearest = did_you_mean(key, [*option_names, *setting_names], most=3)
            raise TypeError(
                f"{name} has no option {key!r}{nearest or '.'} "
                f"Its options: {', '.join(option_names) or 'none'}; "
                f"its settings: {', '.join(setting_names)}"
            )
    changed = Preset(
        preset.network,
        replace(preset.settings, **changed_settings),
        preset.options | changed_options,
    )
    return changed()


def build_from_configuration(configuration: dict[str, Any]) -> TrackingNetwork:
    """Build the model that a configuration describes, its weights drawn at random.

    Args:
        configuration: that of a model, or the one inside a file of ours.

    Raises:
        KeyError: no model here has this class.
        TypeError: it has settings or options that this version does not know.
        ValueError: a value is out of range.

    Example:
        >>> from rgbt_fusion import create_model
        >>> from rgbt_fusion.models.presets import build_from_configuration
        >>> model = create_model("ainet_tiny_128", depth=2)
        >>> build_from_configuration(model.configuration).configuration == model.configuration
        True
    """
    networks = {preset.network.__name__: preset.network for preset in MODELS.values()}
    network = networks[configuration["model"]]
    settings = EncoderSettings(**configuration["settings"])
    return Preset(network, settings, configuration["options"])()
