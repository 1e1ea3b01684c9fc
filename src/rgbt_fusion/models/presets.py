"""The tracking models by name: tables of sizes and presets."""

from dataclasses import replace
from functools import partial
from typing import Any

from rgbt_fusion.models.ainet import AINet
from rgbt_fusion.models.compensation_tracker import CompensationTracker
from rgbt_fusion.models.encoder import EncoderSettings
from rgbt_fusion.models.mutual_prompt import MutualPromptTeacher, OneStreamStudent
from rgbt_fusion.models.network import TrackingNetwork
from rgbt_fusion.models.ostrack import OSTrack
from rgbt_fusion.models.tpmri import TPMRI
from rgbt_fusion.models.two_stream import TwoStream

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

MODELS: dict[str, partial[TrackingNetwork]] = {
    "ostrack_vitb_256": partial(OSTrack, replace(VITB_256, **ELIMINATING)),
    "ostrack_vitb_384": partial(OSTrack, replace(VITB_384, search_factor=5.0, **ELIMINATING)),
    "ostrack_vits_256": partial(OSTrack, replace(VITS_256, **ELIMINATING)),
    "ostrack_vits_384": partial(OSTrack, replace(VITS_384, search_factor=5.0, **ELIMINATING)),
    "ostrack_tiny_128": partial(OSTrack, replace(TINY_128, **ELIMINATING)),
    "two_stream_vitb_256": partial(TwoStream, VITB_256),
    "two_stream_vits_256": partial(TwoStream, VITS_256),
    "two_stream_tiny_128": partial(TwoStream, TINY_128),
    "ainet_vitb_256": partial(AINet, VITB_256),
    "ainet_vitb_384": partial(AINet, VITB_384),
    "ainet_vits_256": partial(AINet, VITS_256),
    "ainet_vits_384": partial(AINet, VITS_384),
    "ainet_tiny_128": partial(AINet, TINY_128),
    "ainet_vitb_256_compact": partial(AINet, VITB_256, inner_width=48),
    "ainet_vits_256_compact": partial(AINet, VITS_256, inner_width=24),
    "ainet_tiny_128_compact": partial(AINet, TINY_128, inner_width=8),
    "ainet_vitb_256_released": partial(AINet, VITB_256, **RELEASED),
    "ainet_vitb_384_released": partial(AINet, VITB_384, **RELEASED),
    "tpmri_vitb_256": partial(TPMRI, replace(VITB_256, **ELIMINATING)),
    "tpmri_vits_256": partial(TPMRI, replace(VITS_256, **ELIMINATING)),
    "tpmri_tiny_128": partial(TPMRI, replace(TINY_128, **ELIMINATING)),
    "mutual_prompt_teacher_vitb_256": partial(MutualPromptTeacher, VITB_256),
    "mutual_prompt_teacher_vits_256": partial(MutualPromptTeacher, VITS_256),
    "mutual_prompt_teacher_tiny_128": partial(MutualPromptTeacher, TINY_128),
    "one_stream_student_vitb_256": partial(OneStreamStudent, VITB_256),
    "one_stream_student_vits_256": partial(OneStreamStudent, VITS_256),
    "one_stream_student_tiny_128": partial(OneStreamStudent, TINY_128),
    "compensation_vitb_256": partial(CompensationTracker, VITB_256),
    "compensation_vits_256": partial(CompensationTracker, VITS_256),
    "compensation_tiny_128": partial(CompensationTracker, TINY_128),
}
"""Every preset: a model, its settings, and the options in which it differs from the model's
defaults."""


def list_models() -> list[str]:
    """Return the names that :func:`create_model` knows.

    Example:
        >>> from rgbt_fusion import list_models
        >>> "ainet_tiny_128" in list_models()
        True
    """
    return list(MODELS)


def build_model(configuration: dict[str, Any]) -> TrackingNetwork:
    """Build the model that a configuration describes: a model's own, or the one inside a file of
    ours.

    Raises:
        KeyError, TypeError, ValueError: it describes a model that this version does not know.

    Example:
        >>> from rgbt_fusion import create_model
        >>> model = create_model("ainet_tiny_128", depth=2)
        >>> build_model(model.configuration).configuration == model.configuration
        True
    """
    classes = {preset.func.__name__: preset.func for preset in MODELS.values()}  # pyright: ignore
    return classes[configuration["model"]](
        EncoderSettings(**configuration["settings"]), **configuration["options"]
    )
