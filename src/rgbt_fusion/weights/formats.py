"""Whose file it is, and what its tensors are called here.

Known are OSTrack, DropTrack, AINet, ViT and MAE, and our own.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from rgbt_fusion.files.plain import from_plain
from rgbt_fusion.models.tracking_settings import TrackingSettings, tracking_settings_of
from rgbt_fusion.weights.stored_tensors import CheckpointError, StoredTensor, WeightFile

__all__ = [
    "CONFIGURATION_KEY",
    "TRACKING_SETTINGS_KEY",
    "FileKind",
    "RecognisedFile",
    "StoredEntry",
    "recognise",
    "stored_tracking_settings",
    "tracking_texts",
]

CONFIGURATION_KEY = "rgbt_fusion.configuration"
"""Under which text a file of ours carries the configuration of the model."""

TRACKING_SETTINGS_KEY = "rgbt_fusion.tracking_settings"
"""Under which text a file of ours carries how a tracker goes from answers to boxes."""

FileKind = Literal["rgbt_fusion", "ostrack", "droptrack", "ainet", "vit", "state_dict"]


@dataclass(frozen=True)
class StoredEntry:
    """An entry of a model's state as a file stores it: which tensors, and how they make it.

    Args:
        parts: the tensors that make the entry.
        origins: their names in the file.
        shape: of the entry, before any resizing.
        combine: what makes the entry of several parts, or of a part of one; None for one as it is.
        interpolation: how a table of positions is resized; None where the shape must fit.
    """

    parts: tuple[StoredTensor, ...]
    origins: tuple[str, ...]
    shape: tuple[int, ...]
    combine: Callable[[list[Tensor]], Tensor] | None = None
    interpolation: Literal["bilinear", "bicubic"] | None = None

    @classmethod
    def as_stored(cls, name: str, tensor: StoredTensor) -> "StoredEntry":
        """Return the entry that is one tensor of the file as it is."""
        return cls((tensor,), (name,), tensor.shape)

    def read(self) -> Tensor:
        """Read the parts and put them together."""
        parts = [part.read() for part in self.parts]
        return parts[0] if self.combine is None else self.combine(parts)


@dataclass(frozen=True)
class RecognisedFile:
    """A file of weights in our names.

    Args:
        kind: whose file it is.
        configuration: what the model of the file is, as far as the file tells; None if it does not.
        entries: what it holds, by the names of our models.
        prefixes: what wrappers had put before the names.
        tracking_settings: what was measured for the weights; None where the file tells nothing.
    """

    kind: FileKind
    configuration: dict[str, Any] | None
    entries: dict[str, StoredEntry]
    prefixes: tuple[str, ...] = ()
    tracking_settings: TrackingSettings | None = None


def recognise(file: WeightFile, own_names: Iterable[str] = ()) -> RecognisedFile:
    """Say whose file it is, by its names, and map them to the names of our models.

    Beginnings that wrappers put before every name are taken off first.

    Args:
        file: the file.
        own_names: the names of the model that is to be filled: a beginning that they have, too, is
            not a wrapper's.

    Raises:
        CheckpointError: a file of ours carries a configuration that cannot be read, or a tensor has
            another shape than its name promises.
    """
    stored, prefixes = _without_wrappers(file.tensors, tuple(own_names))
    return replace(_recognised(file, stored), prefixes=prefixes)


def _recognised(file: WeightFile, stored: Mapping[str, StoredTensor]) -> RecognisedFile:
    if CONFIGURATION_KEY in file.metadata:
        return RecognisedFile(
            "rgbt_fusion",
            _own_configuration(file),
            _as_stored(stored),
            tracking_settings=_own_tracking_settings(file),
        )
    if any(name.startswith("backbone.cross_mamba.") for name in stored):
        return RecognisedFile("ainet", _ainet_configuration(stored), _ainet(stored))
    if "backbone.blocks.0.attn.qkv.weight" in stored and "backbone.pos_embed_x" in stored:
        configuration = _ostrack_configuration(stored)
        if "backbone.temporal_pos_embed_x" in stored:
            return RecognisedFile("droptrack", configuration, _droptrack(stored))
        if all(name.startswith(("backbone.", "box_head.")) for name in stored):
            return RecognisedFile("ostrack", configuration, _ostrack(stored))
    if "blocks.0.attn.qkv.weight" in stored and "pos_embed" in stored:
        return RecognisedFile("vit", None, _vit(stored))
    return RecognisedFile("state_dict", None, _as_stored(stored))


MOST_WRAPPERS = 16
"""How many wrappers around a model are taken off."""

_WRAPPERS = ("_orig_mod.", "module.", "model.")
"""What ``torch.compile``, DataParallel and Lightning put before the names of a model."""


def _without_wrappers(
    tensors: Mapping[str, StoredTensor], own_names: tuple[str, ...]
) -> tuple[dict[str, StoredTensor], tuple[str, ...]]:
    """Take the names of wrappers off, and say which ones there were."""
    stored = dict(tensors)
    removed: list[str] = []
    for _ in range(MOST_WRAPPERS):
        prefix = _wrapper(stored, own_names)
        if prefix is None or not stored:
            break
        stored = {name.removeprefix(prefix): tensor for name, tensor in stored.items()}
        removed.append(prefix)
    if any("._orig_mod." in name for name in stored):
        # a part of the model was compiled by itself
        stored = {name.replace("._orig_mod.", "."): tensor for name, tensor in stored.items()}
        removed.append("_orig_mod.")
    return stored, tuple(dict.fromkeys(removed))


def _wrapper(names: Iterable[str], own_names: tuple[str, ...]) -> str | None:
    """Return the beginning that a wrapper put before the names; None where there is none."""
    for prefix in _WRAPPERS:
        if any(name.startswith(prefix) for name in own_names):
            continue
        with_prefix = [name.startswith(prefix) for name in names]
        # a file may hold further tensors beside a model that was trained on several cards
        if all(with_prefix) or (prefix == "module." and any(with_prefix)):
            return prefix
    return None


def _own_configuration(file: WeightFile) -> dict[str, Any]:
    try:
        configuration = json.loads(file.metadata[CONFIGURATION_KEY])
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{file.path} carries a configuration that is not JSON: {error}"
        ) from error
    kinds = {"model": str, "settings": dict, "options": dict}
    is_complete = isinstance(configuration, dict) and all(
        isinstance(configuration.get(key), kind) for key, kind in kinds.items()
    )
    if not is_complete:
        raise CheckpointError(
            f"{file.path} carries a configuration without model, settings and options"
        )
    return configuration


def _own_tracking_settings(file: WeightFile) -> TrackingSettings | None:
    try:
        return stored_tracking_settings(file.metadata)
    except ValueError as error:
        raise CheckpointError(
            f"{file.path} carries tracking settings that cannot be used: {str(error)[:200]}"
        ) from error


def stored_tracking_settings(texts: Mapping[str, str]) -> TrackingSettings | None:
    """Return the tracking settings among the texts of a file; None where there are none.

    Args:
        texts: what a file carries beside its tensors, by name.

    Raises:
        ValueError: the settings are not JSON, name one that is not known, or are out of range.

    Example:
        >>> from rgbt_fusion.weights.formats import stored_tracking_settings
        >>> texts = {"rgbt_fusion.tracking_settings": '{"size_inertia": 0.9}'}
        >>> stored_tracking_settings(texts).size_inertia
        0.9
    """
    if TRACKING_SETTINGS_KEY not in texts:
        return None
    try:
        values = json.loads(texts[TRACKING_SETTINGS_KEY])
    except RecursionError as error:
        raise ValueError(str(error)) from error
    return from_plain(TrackingSettings, values)


def tracking_texts(model: object) -> dict[str, str]:
    """Return the texts that :func:`stored_tracking_settings` reads; none for a model without.

    Raises:
        NetworkError: ``tracking_settings`` of the model is something else.
    """
    if getattr(model, "tracking_settings", None) is None:
        return {}
    return {TRACKING_SETTINGS_KEY: json.dumps(tracking_settings_of(model).plain())}


def _ostrack_configuration(stored: Mapping[str, StoredTensor]) -> dict[str, Any]:
    """Return what the shapes of a file of OSTrack's family tell of its model."""
    settings: dict[str, Any] = {"depth": _depth(stored)}
    search = stored.get("backbone.pos_embed_x")
    if search is not None:
        _, places, settings["dim"] = _shape(search, "backbone.pos_embed_x", axes=3)
        settings["search_size"] = 16 * math.isqrt(places)
    template = stored.get("backbone.pos_embed_z")
    if template is not None:
        _, places, _ = _shape(template, "backbone.pos_embed_z", axes=3)
        settings["template_size"] = 16 * math.isqrt(places)
    head_name = "box_head.conv1_ctr.0.weight"
    if head_name in stored:
        settings["head_channels"], *_ = _shape(stored[head_name], head_name, axes=4)
    return {"model": "OSTrack", "settings": settings, "options": {}, "summed_streams": 1}


def _shape(tensor: StoredTensor, name: str, *, axes: int) -> tuple[int, ...]:
    """Return the shape of a tensor that must have so many axes."""
    if len(tensor.shape) != axes:
        raise CheckpointError(
            f"{tensor.path} must hold {name} with {axes} axes, got shape {tensor.shape}"
        )
    return tensor.shape


def _ainet_configuration(stored: Mapping[str, StoredTensor]) -> dict[str, Any]:
    """Return what a file of the official AINet tells: only the number of DFMs varies."""
    options: dict[str, Any] = {
        "dfm": "mamba",
        "ofm": "mamba",
        "order_predictor": "released",
        "ofm_tokens": "released",
    }
    fusions = _count_numbers(stored, "backbone.cross_mamba.")
    if fusions == _depth(stored):
        options["fusion_layers"] = list(range(fusions))
    return _ostrack_configuration(stored) | {"model": "AINet", "options": options}


def _depth(stored: Mapping[str, StoredTensor]) -> int:
    return _count_numbers(stored, "backbone.blocks.")


def _count_numbers(stored: Mapping[str, StoredTensor], prefix: str) -> int:
    """Count the different words behind a prefix: ``backbone.blocks.0.``, ``backbone.blocks.1.``."""
    return len(
        {name.removeprefix(prefix).split(".")[0] for name in stored if name.startswith(prefix)}
    )


def _as_stored(stored: Mapping[str, StoredTensor]) -> dict[str, StoredEntry]:
    return {name: StoredEntry.as_stored(name, tensor) for name, tensor in stored.items()}


def _ostrack(stored: Mapping[str, StoredTensor]) -> dict[str, StoredEntry]:
    """Map a file of OSTrack, whose tables of positions may be resized."""
    entries = _as_stored(stored)
    for name in ("backbone.pos_embed_x", "backbone.pos_embed_z"):
        if name in entries:
            entries[name] = replace(entries[name], interpolation="bilinear")
    return entries


def _droptrack(stored: Mapping[str, StoredTensor]) -> dict[str, StoredEntry]:
    """Map a file of DropTrack: its temporal embeddings are folded into the tables of positions.

    Each is one vector per frame, and interpolation keeps a constant.
    """
    entries = _ostrack(stored)
    for letter in "xz":
        name = f"backbone.pos_embed_{letter}"
        temporal = f"backbone.temporal_pos_embed_{letter}"
        if name in stored and temporal in stored:
            _, places, dim = _shape(stored[name], name, axes=3)
            if stored[temporal].shape not in ((1, 1, dim), (1, places, dim)):
                raise CheckpointError(
                    f"{stored[name].path} must hold {temporal} of shape {(1, 1, dim)}, "
                    f"got {stored[temporal].shape}"
                )
            entries[name] = StoredEntry(
                parts=(stored[name], stored[temporal]),
                origins=(name, temporal),
                shape=stored[name].shape,
                combine=lambda parts: parts[0] + parts[1],
                interpolation="bilinear",
            )
            del entries[temporal]
    return entries


def _vit(stored: Mapping[str, StoredTensor]) -> dict[str, StoredEntry]:
    """Map a ViT or MAE: its one table, without the class token, starts both of ours."""
    entries = {f"backbone.{name}": entry for name, entry in _as_stored(stored).items()}
    table = stored["pos_embed"]
    _, length, dim = _shape(table, "pos_embed", axes=3)
    has_class_token = math.isqrt(length) ** 2 != length
    places = math.isqrt(length - 1) ** 2 if has_class_token else length
    for letter in "xz":
        entries[f"backbone.pos_embed_{letter}"] = StoredEntry(
            parts=(table,),
            origins=("pos_embed",),
            shape=(1, places, dim),
            combine=lambda parts: parts[0][:, -places:],
            interpolation="bicubic",
        )
    return entries


_AINET_SCANS_AT = "mamba_fusion.fusion.0.mamba."

_AINET_DIRECTIONS = ("", "_b", "_s")
"""How the names of AINet's released OFM tell its three scans apart."""

_AINET_SCANS = {
    "conv1d{}.weight": "conv_weight",
    "conv1d{}.bias": "conv_bias",
    "x_proj{}.weight": "x_proj",
    "dt_proj{}.weight": "dt_weight",
    "dt_proj{}.bias": "dt_bias",
    "A{}_log": "A_log",
    "D{}": "D",
}
"""What AINet's released OFM calls the parameters of a scan, and what they are called here."""

_AINET_PREFIXES = {
    "backbone.cross_mamba.": "dfm.",
    "mamba_fusion.fusion.0.norm": "ofm.norm",
    "mamba_fusion.norm.": "ofm.norm.",
    f"{_AINET_SCANS_AT}mlp.": "ofm.order_predictor.mlp.",
    f"{_AINET_SCANS_AT}fc.": "ofm.order_predictor.fc.",
    f"{_AINET_SCANS_AT}in_proj.": "ofm.scans.in_proj.",
    f"{_AINET_SCANS_AT}out_proj.": "ofm.scans.out_proj.",
}
"""What AINet's released code calls its fusion layers, and what they are called here."""


def _ainet(stored: Mapping[str, StoredTensor]) -> dict[str, StoredEntry]:
    """Map a file of the official AINet: the same parameter of three scans becomes one."""
    entries = {_ainet_name(name): entry for name, entry in _as_stored(stored).items()}
    for pattern, target in _AINET_SCANS.items():
        names = [_AINET_SCANS_AT + pattern.format(direction) for direction in _AINET_DIRECTIONS]
        if not all(name in stored for name in names):
            continue
        for name in names:
            del entries[name]
        has_extra_axis = target == "conv_weight"
        entries[f"ofm.scans.{target}"] = _stacked(stored, names, has_extra_axis=has_extra_axis)
    return entries


def _ainet_name(name: str) -> str:
    for theirs, ours in _AINET_PREFIXES.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def _stacked(
    stored: Mapping[str, StoredTensor], names: list[str], *, has_extra_axis: bool
) -> StoredEntry:
    """Stack the same parameter of several scans.

    The weight of a depthwise convolution has an axis of length 1, which falls away.
    """
    parts = tuple(stored[name] for name in names)
    shape = parts[0].shape
    if any(part.shape != shape for part in parts):
        shapes = ", ".join(str(part.shape) for part in parts)
        raise CheckpointError(
            f"{parts[0].path} must hold {names[0]} of one shape in all scans, got {shapes}"
        )

    def combine(tensors: list[Tensor]) -> Tensor:
        if has_extra_axis:
            tensors = [tensor[:, 0] for tensor in tensors]
        return torch.stack(tensors)

    if has_extra_axis:
        channels, _, taps = _shape(parts[0], names[0], axes=3)
        shape = (channels, taps)
    return StoredEntry(parts, tuple(names), (len(parts), *shape), combine)
