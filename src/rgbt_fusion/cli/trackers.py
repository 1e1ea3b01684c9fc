"""Trackers as the command line names them: what ``--model``, ``--checkpoint`` and ``--device``
mean."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rgbt_fusion.tracking.tracker import FrameTracker

BASELINE = "ncc"
"""The tracker without a network."""


def check_tracker(model: str, checkpoint: Path | None, device: str) -> None:
    """Raise where :func:`make_tracker` would, as far as that is known without reading weights."""
    from rgbt_fusion.models.presets import MODELS
    from rgbt_fusion.weights.pretrained import PRETRAINED

    if checkpoint is not None and model not in MODELS:
        raise ValueError(f"--checkpoint must come with the name of a preset, got --model {model}")
    if checkpoint is not None and not checkpoint.is_file():
        raise ValueError(f"--checkpoint must be a file, got {checkpoint}")
    if checkpoint is None and model in MODELS and model not in PRETRAINED:
        raise ValueError(
            f"--checkpoint must be given for {model}: weights come with {', '.join(PRETRAINED)} only"
        )
    if model not in (BASELINE, *MODELS) and not Path(model).is_file():
        raise ValueError(
            f"--model must be {BASELINE}, a preset or a file of weights, got {model!r}"
        )
    _check_device(device)


def make_tracker(model: str, checkpoint: Path | None, device: str) -> "FrameTracker":
    """Return a tracker: a preset with the weights of a file or its own, what a file of ours
    describes, or the baseline.

    Raises:
        ValueError: as :func:`check_tracker`; CheckpointError: the weights cannot be read or do not
            fit.
    """
    check_tracker(model, checkpoint, device)
    from rgbt_fusion.cli.model_argument import open_model
    from rgbt_fusion.tracking.ncc import NCCTracker
    from rgbt_fusion.tracking.tracker import Tracker
    from rgbt_fusion.weights.pretrained import PRETRAINED

    if model == BASELINE:
        return NCCTracker()
    network = open_model(model, checkpoint, pretrained=checkpoint is None and model in PRETRAINED)
    return Tracker(network, device=device)


def tracker_name(model: str) -> str:
    """Return a preset's name, or a file's without its ending."""
    return Path(model).stem if Path(model).is_file() else model


def tracker_settings(model: str, checkpoint: Path | None) -> dict[str, str]:
    """Return what tells one tracker from another: this version, the preset, and the content of its
    weights."""
    from hashlib import sha256

    from rgbt_fusion import __version__

    weights = Path(model) if checkpoint is None and Path(model).is_file() else checkpoint
    settings = {"rgbt_fusion": __version__, "model": tracker_name(model)}
    if weights is not None:
        digest = sha256()
        with weights.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
        settings["weights"] = f"sha256 {digest.hexdigest()}"
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
