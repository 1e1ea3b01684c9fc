"""Models by name, with the trained weights that ship with the package."""

from importlib import resources
from pathlib import Path
from typing import Any

from rgbt_fusion.models.network import TrackingNetwork
from rgbt_fusion.models.presets import build_preset, check_preset_name
from rgbt_fusion.weights.checkpoints import load_checkpoint
from rgbt_fusion.weights.download import download_bar, fetch_weights, is_address

__all__ = ["AUTHORS_FILES", "PRETRAINED", "create_model", "weights_of"]

PRETRAINED = {"ainet_tiny_128": "ainet_tiny_128.safetensors"}
"""The presets whose trained weights ship with the package, and their files in ``weights``."""

AUTHORS_FILES = {
    "ostrack_vitb_256": "files of OSTrack (Ye et al., ECCV 2022)",
    "ostrack_vitb_384": (
        "files of OSTrack (Ye et al., ECCV 2022) and DropTrack (Wu et al., CVPR 2023)"
    ),
    "ainet_vitb_256_released": "files of AINet (Lu et al., AAAI 2025)",
    "ainet_vitb_384_released": "files of AINet (Lu et al., AAAI 2025)",
}
"""The presets that files of the authors of a tracker fill whole, and whose they are."""


def weights_of(name: str) -> str:
    """Return where trained weights of a preset come from; empty where none are known.

    Args:
        name: one of :func:`list_models`.

    Raises:
        ValueError: ``name`` is unknown.

    Example:
        >>> from rgbt_fusion.weights.pretrained import weights_of
        >>> weights_of("ainet_tiny_128"), weights_of("ainet_vits_256")
        ('in the package', '')
    """
    check_preset_name(name, name="name")
    if name in PRETRAINED:
        return "in the package"
    return AUTHORS_FILES.get(name, "")


def create_model(
    name: str,
    *,
    pretrained: bool | str | Path = False,
    sha256: str | None = None,
    **overrides: Any,
) -> TrackingNetwork:
    """Build a model by the name of its preset.

    Args:
        name: one of :func:`list_models`.
        pretrained: True loads the weights that come with the package; a file or an address
            (``https://...``) is read as :func:`load_checkpoint` reads it. What is downloaded stays
            in the folder ``$RGBT_FUSION_CACHE``, by default ``~/.cache/rgbt_fusion``.
        sha256: the SHA-256 that the file of an address must have. Without it the sum of the first
            download is recorded, and the file is held to it from then on.
        **overrides: settings (:class:`EncoderSettings`) and options of the constructor of the
            model to change.

    Raises:
        ValueError: ``name`` is unknown, with the nearest names; ``pretrained`` is true for a preset
            without weights; ``sha256`` comes without an address; a value is out of range.
        TypeError: an override is neither a setting nor an option of this model.
        FileNotFoundError: the installation lacks the weights, or there is no such file.
        CheckpointError: the weights do not fit the model with these overrides, or cannot be
            downloaded.

    Example:
        >>> from rgbt_fusion import create_model
        >>> model = create_model("two_stream_tiny_128", depth=2)
        >>> len(model.backbone.blocks)
        2
    """
    check_preset_name(name, name="name")
    if sha256 is not None and (isinstance(pretrained, bool) or not is_address(pretrained)):
        raise ValueError(f"sha256 must come with an address, got pretrained={pretrained!r}")
    if pretrained is True and name not in PRETRAINED:
        raise ValueError(
            f"pretrained must be False for {name}: weights come with {', '.join(PRETRAINED)} only"
        )
    model = build_preset(name, **overrides)
    if pretrained is True:
        _load_pretrained(model, name)
    elif pretrained is not False:
        file = Path(pretrained)
        if is_address(pretrained):
            file = fetch_weights(str(pretrained), sha256=sha256, on_progress=download_bar())
        load_checkpoint(model, file)
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
