"""Whose file it is and what its tensors are called here: OSTrack, DropTrack, AINet, ViT/MAE and our
own."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from rgbt_fusion.weights.stored_tensors import CheckpointError, StoredTensor, WeightFile

__all__ = ["CONFIGURATION_KEY", "Layout", "Source", "recognise"]

CONFIGURATION_KEY = "rgbt_fusion.configuration"
"""Under which text a file of ours carries the model's configuration."""

Kind = Literal["rgbt_fusion", "ostrack", "droptrack", "ainet", "vit", "state_dict"]


@dataclass(frozen=True)
class Source:
    """Where a parameter comes from: tensors of a file, and what to do with them.

    ``interpolation`` names how a table of positions is resized where the model's has another
    length.
    """

    parts: tuple[StoredTensor, ...]
    shape: tuple[int, ...]
    combine: Callable[[list[Tensor]], Tensor] | None = None
    interpolation: Literal["bilinear", "bicubic"] | None = None

    def read(self) -> Tensor:
        """Read the parts and put them together."""
        parts = [part.read() for part in self.parts]
        return parts[0] if self.combine is None else self.combine(parts)


@dataclass(frozen=True)
class Layout:
    """A file of weights in our names.

    ``configuration`` says what the file's model is, as far as the file tells; ``used`` the names in
    the file that have a meaning here.
    """

    kind: Kind
    configuration: dict[str, Any] | None
    sources: dict[str, Source]
    used: dict[str, tuple[str, ...]]


def recognise(file: WeightFile) -> Layout:
    """Say whose file it is, by its keys, and map them to the names of our models.

    Raises:
        CheckpointError: a file of ours whose configuration cannot be read.
    """
    stored = {name.removeprefix("module."): tensor for name, tensor in file.tensors.items()}
    if CONFIGURATION_KEY in file.metadata:
        return _layout("rgbt_fusion", _own_configuration(file), _as_they_are(stored))
    if any(name.startswith("backbone.cross_mamba.") for name in stored):
        configuration = _configuration("AINet", stored) | {"options": _released_options(stored)}
        return _layout("ainet", configuration, _ainet(stored))
    if "backbone.blocks.0.attn.qkv.weight" in stored and "backbone.pos_embed_x" in stored:
        if "backbone.temporal_pos_embed_x" in stored:
            return _layout("droptrack", _configuration("OSTrack", stored), _droptrack(stored))
        if all(name.startswith(("backbone.", "box_head.")) for name in stored):
            return _layout("ostrack", _configuration("OSTrack", stored), _ostrack(stored))
    if "blocks.0.attn.qkv.weight" in stored and "pos_embed" in stored:
        return _layout("vit", None, _vit(stored))
    return _layout("state_dict", None, _as_they_are(stored))


Sources = dict[str, tuple[Source, tuple[str, ...]]]


def _layout(kind: Kind, configuration: dict[str, Any] | None, sources: Sources) -> Layout:
    return Layout(
        kind,
        configuration,
        {name: source for name, (source, _) in sources.items()},
        {name: origin for name, (_, origin) in sources.items()},
    )


def _own_configuration(file: WeightFile) -> dict[str, Any]:
    try:
        configuration = json.loads(file.metadata[CONFIGURATION_KEY])
    except json.JSONDecodeError as error:
        raise CheckpointError(
            f"{file.path} carries a configuration that is not JSON: {error}"
        ) from error
    if (
        not isinstance(configuration, dict)
        or {"model", "settings", "options"} - configuration.keys()
    ):
        raise CheckpointError(
            f"{file.path} carries a configuration without model, settings and options"
        )
    return configuration


def _configuration(model: str, stored: Mapping[str, StoredTensor]) -> dict[str, Any]:
    """Return what the shapes of an OSTrack-like file tell of its model."""
    search = stored.get("backbone.pos_embed_x")
    template = stored.get("backbone.pos_embed_z")
    head = stored.get("box_head.conv1_ctr.0.weight")
    settings: dict[str, Any] = {"depth": _depth(stored)}
    if search is not None:
        settings |= {"dim": search.shape[-1], "search_size": 16 * math.isqrt(search.shape[1])}
    if template is not None:
        settings["template_size"] = 16 * math.isqrt(template.shape[1])
    if head is not None:
        settings["head_channels"] = head.shape[0]
    return {"model": model, "settings": settings, "options": {}, "summed_streams": 1}


def _depth(stored: Mapping[str, StoredTensor]) -> int:
    numbers = {name.split(".")[2] for name in stored if name.startswith("backbone.blocks.")}
    return len(numbers)


def _as_they_are(stored: Mapping[str, StoredTensor]) -> Sources:
    return {name: (Source((tensor,), tensor.shape), (name,)) for name, tensor in stored.items()}


def _ostrack(stored: Mapping[str, StoredTensor]) -> Sources:
    sources = _as_they_are(stored)
    for name in ("backbone.pos_embed_x", "backbone.pos_embed_z"):
        if name in stored:
            sources[name] = (
                Source((stored[name],), stored[name].shape, interpolation="bilinear"),
                (name,),
            )
    return sources


def _droptrack(stored: Mapping[str, StoredTensor]) -> Sources:
    """Fold the temporal embeddings, one vector a frame, into the position tables: interpolation
    keeps a constant."""
    sources = _ostrack(stored)
    for letter in "xz":
        name, temporal = f"backbone.pos_embed_{letter}", f"backbone.temporal_pos_embed_{letter}"
        if name in stored and temporal in stored:
            parts = (stored[name], stored[temporal])
            source = Source(
                parts, stored[name].shape, lambda parts: parts[0] + parts[1], "bilinear"
            )
            sources[name] = (source, (name, temporal))
            del sources[temporal]
    return sources


def _vit(stored: Mapping[str, StoredTensor]) -> Sources:
    """Map a ViT or MAE: its one table, without the class token, starts both of ours."""
    sources = {f"backbone.{name}": entry for name, entry in _as_they_are(stored).items()}
    table = stored["pos_embed"]
    places = math.isqrt(table.shape[1]) ** 2
    if places != table.shape[1]:
        places = math.isqrt(table.shape[1] - 1) ** 2
    shape = (1, places, table.shape[-1])
    for letter in "xz":
        source = Source((table,), shape, lambda parts: parts[0][:, -places:], "bicubic")
        sources[f"backbone.pos_embed_{letter}"] = (source, ("pos_embed",))
    return sources


_AINET_SCANS = {
    "conv1d{}.weight": ("conv_weight", lambda weight: weight[:, 0]),
    "conv1d{}.bias": ("conv_bias", None),
    "x_proj{}.weight": ("x_proj", None),
    "dt_proj{}.weight": ("dt_weight", None),
    "dt_proj{}.bias": ("dt_bias", None),
    "A{}_log": ("A_log", None),
    "D{}": ("D", None),
}
"""What AINet's released OFM calls the parameters of a scan; its three scans are told apart by an
ending."""
_AINET_DIRECTIONS = ("", "_b", "_s")


def _ainet(stored: Mapping[str, StoredTensor]) -> Sources:
    scans = "mamba_fusion.fusion.0.mamba."
    renamed = {
        "backbone.cross_mamba.": "dfm.",
        "mamba_fusion.fusion.0.norm": "ofm.norm",
        "mamba_fusion.norm.": "ofm.norm.",
        f"{scans}mlp.": "ofm.order_predictor.mlp.",
        f"{scans}fc.": "ofm.order_predictor.fc.",
        f"{scans}in_proj.": "ofm.scans.in_proj.",
        f"{scans}out_proj.": "ofm.scans.out_proj.",
    }
    sources: Sources = {}
    for name, entry in _as_they_are(stored).items():
        prefix = next((prefix for prefix in renamed if name.startswith(prefix)), "")
        sources[renamed.get(prefix, "") + name[len(prefix) :]] = entry
    for pattern, (target, pick) in _AINET_SCANS.items():
        names = tuple(scans + pattern.format(direction) for direction in _AINET_DIRECTIONS)
        if all(name in stored for name in names):
            for name in names:
                del sources[name]
            sources[f"ofm.scans.{target}"] = (
                _stacked([stored[name] for name in names], pick),
                names,
            )
    return sources


def _stacked(parts: list[StoredTensor], pick: Callable[[Tensor], Tensor] | None) -> Source:
    """Stack the same parameter of several scans; ``pick`` takes what is meant out of each."""

    def combine(tensors: list[Tensor]) -> Tensor:
        return torch.stack(tensors if pick is None else [pick(tensor) for tensor in tensors])

    shape = parts[0].shape if pick is None else (parts[0].shape[0], *parts[0].shape[2:])
    return Source(tuple(parts), (len(parts), *shape), combine)


def _released_options(stored: Mapping[str, StoredTensor]) -> dict[str, Any]:
    """Return the options of an official AINet, in which only the number of DFMs varies."""
    numbers = {name.split(".")[2] for name in stored if name.startswith("backbone.cross_mamba.")}
    options: dict[str, Any] = {
        "dfm": "mamba",
        "ofm": "mamba",
        "order_predictor": "released",
        "ofm_tokens": "released",
    }
    if len(numbers) == _depth(stored):
        options["fusion_layers"] = list(range(len(numbers)))
    return options
