"""What every command does with the argument MODEL, a preset or a file that describes its model."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

__all__ = ["MODEL_HELP", "open_model", "refuse_overwriting"]

MODEL_HELP = (
    "Preset name, file of this library, which describes its model, or package.module:function, "
    "which builds your own network."
)


def open_model(
    model: str, checkpoint: Path | None = None, *, pretrained: bool = False
) -> "nn.Module":
    """Build the model that MODEL names.

    Args:
        model: a preset, a file of this library, or ``package.module:function``.
        checkpoint: weights to fill a preset or your own network with.
        pretrained: fill a preset with the weights that come with the package.

    Raises:
        ValueError: ``model`` is neither; ``checkpoint`` or ``pretrained`` comes with a file, or
            one of them with the other.
        CheckpointError: a file is damaged or does not fit.
    """
    from rgbt_fusion.checks import did_you_mean
    from rgbt_fusion.models.named import build_named, names_code
    from rgbt_fusion.models.presets import list_models
    from rgbt_fusion.weights.checkpoints import load_checkpoint, load_model
    from rgbt_fusion.weights.pretrained import create_model

    if checkpoint is not None and pretrained:
        raise ValueError(f"--pretrained must not come with --checkpoint, got {checkpoint}")
    if model in list_models():
        network = create_model(model, pretrained=pretrained)
        if checkpoint is not None:
            load_checkpoint(network, checkpoint)
        return network
    if names_code(model) and not pretrained:
        own = build_named(model)
        if checkpoint is not None:
            load_checkpoint(own, checkpoint)
        return own
    if not Path(model).is_file():
        hint = did_you_mean(model, list_models(), most=3)
        if Path(model).suffix:
            hint = ", which is no file here"
        raise ValueError(
            "MODEL must be a preset, a file of weights or package.module:function, "
            f"got {model!r}{hint or '; rgbt-fusion models lists the presets'}"
        )
    if checkpoint is not None or pretrained:
        raise ValueError(
            "--checkpoint and --pretrained must come with the name of a preset, "
            f"got the file {model}"
        )
    return load_model(model)


def refuse_overwriting(path: Path, *, force: bool) -> None:
    """Raise before any work is done where a file would be replaced without ``--force``.

    Raises:
        FileExistsError: the file exists, and ``force`` is false.
        FileNotFoundError: there is no folder to write the file into.
    """
    if path.exists() and not force:
        raise FileExistsError(f"{path} exists: give --force to replace it")
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"{path.parent} must be a folder to write {path.name} into, there is none"
        )
