"""Trackers as the command line names them: by model, checkpoint and device."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rgbt_fusion.tracking.interface import FrameTracker

__all__ = [
    "CHECKPOINT_HELP",
    "DEVICE_HELP",
    "NETWORK_HELP",
    "TEMPLATE_MATCHING",
    "TRACKER_HELP",
    "check_tracker",
    "make_tracker",
    "tracker_name",
    "tracker_settings",
]

TEMPLATE_MATCHING = "ncc"
"""The tracker without a network."""

NETWORK_HELP = (
    "Tracker to run: preset name, file of this library, exported .onnx file, or "
    "package.module:function, which builds your own network."
)
TRACKER_HELP = f"{NETWORK_HELP} ncc is template matching."
CHECKPOINT_HELP = (
    "Weights for a preset or your own network; by default those that come with a preset."
)
DEVICE_HELP = "Device that runs the network: cpu, cuda or cuda:NUMBER."

ONNX_ENDING = ".onnx"


def check_tracker(model: str, checkpoint: Path | None, device: str) -> None:
    """Raise where :func:`make_tracker` would, as far as that is known without reading weights."""
    from rgbt_fusion.checks import did_you_mean
    from rgbt_fusion.models.named import names_code
    from rgbt_fusion.models.presets import MODELS
    from rgbt_fusion.weights.pretrained import PRETRAINED

    is_own = names_code(model)
    if checkpoint is not None and model not in MODELS and not is_own:
        raise ValueError(
            "--checkpoint must come with the name of a preset or with package.module:function, "
            f"got --model {model}"
        )
    if checkpoint is not None and not checkpoint.is_file():
        raise ValueError(f"--checkpoint must be a file, got {checkpoint}")
    if checkpoint is None and model in MODELS and model not in PRETRAINED:
        known = ", ".join(PRETRAINED)
        raise ValueError(f"--checkpoint must be given for {model}: weights come with {known} only")
    if model not in (TEMPLATE_MATCHING, *MODELS) and not is_own and not Path(model).is_file():
        hint = did_you_mean(model, [TEMPLATE_MATCHING, *MODELS], most=3)
        if Path(model).suffix:
            hint = ", which is no file here"
        raise ValueError(
            f"--model must be {TEMPLATE_MATCHING}, a preset, a file of weights, an .onnx file or "
            f"package.module:function, got {model!r}{hint}"
        )
    if model.endswith(ONNX_ENDING) and device != "cpu":
        raise ValueError(f"--device must be cpu for an ONNX file, got {device!r}")
    _check_device(device)
    if model == TEMPLATE_MATCHING and device != "cpu":
        raise ValueError(f"--device must be cpu for template matching, got {device!r}")


def make_tracker(
    model: str,
    checkpoint: Path | None,
    device: str,
    settings: Mapping[str, Any] | None = None,
) -> "FrameTracker":
    """Return a tracker.

    Args:
        model: a preset, a file of this library, an ONNX file, ``package.module:function``, or
            ``TEMPLATE_MATCHING``.
        checkpoint: weights for a preset, by default its own, or for your own network.
        device: what runs the network.
        settings: further options of :class:`~rgbt_fusion.tracking.tracker.Tracker`; template
            matching takes none.

    Raises:
        ValueError: see :func:`check_tracker`.
        CheckpointError: the weights cannot be read or do not fit.
    """
    check_tracker(model, checkpoint, device)
    from rgbt_fusion.cli.model_argument import open_model
    from rgbt_fusion.tracking.ncc import NCCTracker
    from rgbt_fusion.tracking.tracker import Tracker
    from rgbt_fusion.weights.pretrained import PRETRAINED

    if model == TEMPLATE_MATCHING:
        return NCCTracker()
    if model.endswith(ONNX_ENDING):
        from rgbt_fusion.export.onnx_model import OnnxModel

        return Tracker(OnnxModel(model), **settings or {})
    # open_model has checked it: a checker cannot know what an nn.Module of a user has
    network: Any = open_model(
        model, checkpoint, pretrained=checkpoint is None and model in PRETRAINED
    )
    return Tracker(network, device=device, **settings or {})


def tracker_name(model: str) -> str:
    """Return the name of a preset or of a function, or that of a file without its ending."""
    if Path(model).is_file():
        return Path(model).stem
    return model.replace(":", ".")


def tracker_settings(model: str, checkpoint: Path | None) -> dict[str, str]:
    """Return what tells one tracker from another.

    This is the version of the library, the preset, and the content of the weights.
    """
    from rgbt_fusion import __version__

    weights = checkpoint
    if checkpoint is None and Path(model).is_file():
        weights = Path(model)
    settings = {"rgbt_fusion": __version__, "model": tracker_name(model)}
    if weights is not None:
        from rgbt_fusion.weights.download import sha256_of

        settings["weights"] = f"sha256 {sha256_of(weights)}"
    return settings


def _check_device(device: str) -> None:
    import torch

    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise ValueError(f"--device must be cpu, cuda or cuda:NUMBER, got {device!r}")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"--device must be one of {torch.cuda.device_count()} CUDA devices, got {device!r}"
        )
