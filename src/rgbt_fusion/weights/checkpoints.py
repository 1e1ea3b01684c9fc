"""Weights in and out of files, read safely and with a report.

Read are files of OSTrack, DropTrack, AINet, ViT and MAE, and our own.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor, nn

from rgbt_fusion.checks import check_finite_number
from rgbt_fusion.files.whole import write_bytes
from rgbt_fusion.models.interface import configuration_of, unwrapped
from rgbt_fusion.models.network import TrackingNetwork
from rgbt_fusion.models.presets import MODELS, build_from_configuration, build_preset
from rgbt_fusion.models.tracking_settings import TrackingSettings
from rgbt_fusion.weights.formats import (
    CONFIGURATION_KEY,
    TRACKING_SETTINGS_KEY,
    RecognisedFile,
    StoredEntry,
    recognise,
    tracking_texts,
)
from rgbt_fusion.weights.stored_tensors import CheckpointError, open_weight_file

__all__ = [
    "CheckpointError",
    "LoadReport",
    "convert_checkpoint",
    "fitting_preset",
    "load_checkpoint",
    "load_model",
    "save_checkpoint",
    "store_tracking_settings",
]

UNREAD = ("backbone.cls_token", "backbone.pos_embed", "num_batches_tracked")
"""Endings of entries that no output depends on."""

NOT_IN_WEIGHTS = {
    "drop_path",
    "attention",
    "keep_ratio",
    "search_factor",
    "order_gradient",
    "detach_history",
}
"""Settings and options that may differ between a file and the model it is loaded into."""


MOST_PLACES = 1 << 16
"""The largest table of positions that is resized: that of a crop of 4,096 pixels."""


@dataclass(frozen=True)
class LoadReport:
    """What was loaded: entries of the model by outcome, then entries of the file without use."""

    path: Path
    layout: str
    """Whose file it was: ``"rgbt_fusion"``, ``"ostrack"``, ``"droptrack"``, ``"ainet"``, ``"vit"``
    or ``"state_dict"``."""
    share: float
    """How much of the model, by elements, now comes from the file."""
    loaded: tuple[str, ...]
    """Entries that were taken as they are."""
    resized: tuple[str, ...]
    """Tables of positions that were resized."""
    duplicated: tuple[str, ...]
    """Entries that were copied from another entry of the file."""
    missing: tuple[str, ...]
    """Entries that the file does not have: they stay as they were."""
    unexpected: tuple[str, ...]
    """Entries of the file that the model does not have."""
    prefixes: tuple[str, ...] = ()
    """Beginnings that wrappers had put before the names, and that were taken away: ``"module."`` of
    DataParallel, ``"_orig_mod."`` of ``torch.compile``, ``"model."`` of Lightning."""

    def __str__(self) -> str:
        lines = [
            f"{self.path} ({self.layout}): {self.share:.1%} of the model loaded",
            f"  loaded     {len(self.loaded)}",
        ]
        for title in ("resized", "duplicated", "missing", "unexpected"):
            names = getattr(self, title)
            line = f"  {title:<10} {len(names)}"
            if names:
                line += f": {_some(names)}"
            lines.append(line)
        if self.prefixes:
            lines.append(f"  taken off the names: {', '.join(self.prefixes)}")
        return "\n".join(lines)


def load_checkpoint(
    model: nn.Module, path: str | Path, *, minimum_share: float | None = None
) -> LoadReport:
    """Load a file of weights into a model and say what was loaded.

    Reads files of OSTrack, DropTrack, official AINet, ViT and MAE, and our own. Nothing in a file
    is ever run. Tables of positions are resized and the temporal embeddings of DropTrack folded in.
    A head that was trained on one stream is divided by the number of streams that are added up in
    front of it here, so that equal streams give the result of the file.

    A file of the same class of model must hold all of it and have its configuration. Files that any
    tracker here may start from (OSTrack, DropTrack, ViT and MAE) must provide at least half of it.
    The model is unchanged when a file is refused.

    The ``tracking_settings`` of the model become those of the file, if it holds the whole of a
    model of the same class, else those of the paper.

    Args:
        model: the model to fill; any ``nn.Module`` of your own as well.
        path: the file; its content, not its name, says what it is.
        minimum_share: how much of the model, by elements, the file must provide; replaces both
            rules above.

    Returns:
        A :class:`LoadReport`; print it.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is damaged, holds values that are not finite or too large for the
            dtype of the model, or does not fit; where a preset fits it, the message names it.
        ValueError: ``minimum_share`` is not in [0, 1].

    Example:
        >>> import os, tempfile
        >>> from rgbt_fusion import create_model
        >>> from rgbt_fusion import load_checkpoint, save_checkpoint
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "ostrack.safetensors")
        ...     save_checkpoint(create_model("ostrack_tiny_128"), path)
        ...     report = load_checkpoint(create_model("two_stream_tiny_128"), path)
        >>> report.share, report.missing
        (1.0, ())
    """
    if minimum_share is not None:
        check_finite_number(minimum_share, name="minimum_share", low=0.0, high=1.0)
    model = unwrapped(model)
    path = Path(path)
    file = recognise(open_weight_file(path), own_names=model.state_dict())
    plan = _plan_of(model, path, file, minimum_share)
    report = plan.report(path, file)
    _refuse_values_not_finite(plan, model, path)
    plan.carry_out(model)
    _take_tracking_settings(model, file, report)
    return report


def _take_tracking_settings(model: nn.Module, file: RecognisedFile, report: LoadReport) -> None:
    """Give a model the settings that were measured for its weights; others say nothing of them."""
    known = None
    if file.configuration is not None and file.configuration["model"] == type(model).__name__:
        known = file.tracking_settings
    if report.share < 1.0:
        known = None
    if known is not None or hasattr(model, "tracking_settings"):
        # a network of one's own need not have the attribute
        setattr(model, "tracking_settings", known)  # noqa: B010


def save_checkpoint(
    model: nn.Module,
    path: str | Path,
    *,
    dtype: torch.dtype | None = None,
    metadata: dict[str, str] | None = None,
) -> None:
    """Write a model as safetensors, with its configuration and its tracking settings inside.

    Equal weights, dtypes and texts give equal bytes.

    Args:
        model: the model to write; any ``nn.Module`` of your own as well.
        path: the file; whatever is there is replaced only by a complete new file.
        dtype: of floating-point entries in the file; that of the model by default.
        metadata: further texts to store.

    Raises:
        CheckpointError: a value is too large for ``dtype``, or the file cannot be written; nothing
            is left behind.
    """
    model = unwrapped(model)
    state = {name: _as_saved(name, value, dtype) for name, value in model.state_dict().items()}
    texts = dict(metadata or {})
    texts[CONFIGURATION_KEY] = json.dumps(configuration_of(model))
    texts |= tracking_texts(model)
    try:
        # not save_file: it makes a file of its own, which a kill would leave behind
        write_bytes(Path(path), _with_texts(save(state, metadata=texts), {}))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be written: {error}") from error


def store_tracking_settings(
    path: str | Path, settings: TrackingSettings, out: str | Path | None = None
) -> None:
    """Write tracking settings into a file of weights; its tensors stay as they are.

    Args:
        path: a file that :func:`save_checkpoint` wrote.
        settings: what was measured for its weights.
        out: the file to write; ``path`` itself by default.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: ``path`` is damaged or is not ours, or the file cannot be written.

    Example:
        >>> import os, tempfile
        >>> from rgbt_fusion import create_model, load_model, save_checkpoint
        >>> from rgbt_fusion.models.tracking_settings import TrackingSettings
        >>> from rgbt_fusion.weights.checkpoints import store_tracking_settings
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "ostrack.safetensors")
        ...     save_checkpoint(create_model("ostrack_tiny_128"), path)
        ...     store_tracking_settings(path, TrackingSettings(size_inertia=0.5))
        ...     print(load_model(path).tracking_settings.plain())
        {'size_inertia': 0.5}
    """
    path = Path(path)
    file = recognise(open_weight_file(path))
    if file.kind != "rgbt_fusion":
        raise CheckpointError(
            f"{path} must be a file of this library to store tracking settings in, "
            f"got one of kind {file.kind}"
        )
    written = _with_texts(path.read_bytes(), {TRACKING_SETTINGS_KEY: json.dumps(settings.plain())})
    try:
        write_bytes(path if out is None else Path(out), written)
    except OSError as error:
        raise CheckpointError(
            f"{path if out is None else out} cannot be written: {error}"
        ) from error


def _with_texts(file: bytes, texts: Mapping[str, str]) -> bytes:
    """Return a file in the safetensors format with other texts, in the order of their names.

    The writer of safetensors puts them in another order in each process; equal weights would then
    not give equal bytes.
    """
    size = int.from_bytes(file[:8], "little")
    header = json.loads(file[8 : 8 + size])
    header["__metadata__"] = dict(sorted({**header["__metadata__"], **texts}.items()))
    written = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    written += b" " * (-len(written) % 8)  # the tensors stay aligned
    return len(written).to_bytes(8, "little") + written + file[8 + size :]


def _as_saved(name: str, value: Tensor, dtype: torch.dtype | None) -> Tensor:
    value = value.detach().cpu()
    if dtype is not None and value.is_floating_point():
        if _overflows(value, dtype):
            raise CheckpointError(
                f"dtype must hold all values of the model, but {name} has "
                f"{_largest(value):.3g}, which is beyond {dtype}"
            )
        value = value.to(dtype)
    return value.contiguous()


def _overflows(value: Tensor, dtype: torch.dtype) -> bool:
    """Say whether finite values become infinite, or whole numbers others, in another dtype."""
    if dtype == value.dtype or not value.numel():
        return False
    if not dtype.is_floating_point:
        return bool((value.to(dtype).double() != value.double()).any())
    was_finite = bool(value.isfinite().all())
    is_finite = bool(value.to(dtype).isfinite().all())
    return was_finite and not is_finite


def _largest(value: Tensor) -> float:
    return float(value.detach().double().abs().max())


def load_model(path: str | Path) -> TrackingNetwork:
    """Build the model that a file of ours describes, with its weights.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is damaged, is not ours, or holds a network of another package.
    """
    path = Path(path)
    file = recognise(open_weight_file(path))
    configuration = file.configuration
    if file.kind != "rgbt_fusion" or configuration is None:
        raise CheckpointError(
            f"{path} carries no configuration: create_model, then load_checkpoint; {_hint(file)}"
        )
    name = configuration["model"][:80]
    if name not in _model_names():
        raise CheckpointError(
            f"{path} describes a model that this version does not know: {name}; "
            f"if {name} is your own class, build one and call load_checkpoint(model, path), "
            f"or name it on the command line: --model package.module:{name} --checkpoint {path}"
        )
    try:
        # without memory for its weights, until the file is seen to hold them
        with torch.device("meta"):
            described = build_from_configuration(configuration)
        _plan_of(described, path, file, None)
        model = build_from_configuration(configuration)
    except CheckpointError:
        raise
    except (TypeError, ValueError, KeyError, OverflowError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} describes a model that this version does not know: {str(error)[:200]}"
        ) from error
    load_checkpoint(model, path)
    return model


def convert_checkpoint(
    path: str | Path,
    out: str | Path,
    *,
    name: str | None = None,
    dtype: torch.dtype | None = None,
    minimum_share: float | None = None,
) -> LoadReport:
    """Write any readable file of weights as one of ours.

    Args:
        path: the file to read.
        out: the file to write.
        name: the preset that it is meant for; the one it fits by default.
        dtype: of floating-point entries in the new file; float32 by default.
        minimum_share: see :func:`load_checkpoint`.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is damaged, does not fit ``name``, fits no preset where no name is
            given, or holds a value that is too large for ``dtype``.
    """
    if name is None:
        name = _preset_of(Path(path))
    model = build_preset(name)
    report = load_checkpoint(model, path, minimum_share=minimum_share)
    save_checkpoint(model, out, dtype=dtype)
    return report


def fitting_preset(configuration: dict[str, Any]) -> str | None:
    """Return the name of a preset that the configuration of a file fits; None where none does.

    A file does not always tell its whole configuration: what it does not tell may be anything.
    """
    for name, preset in MODELS.items():
        if preset.network.__name__ != configuration["model"]:
            continue
        # most are told apart without building them
        if _differences(configuration["settings"], vars(preset.settings)):
            continue
        with torch.device("meta"):
            model = preset()
        if not _misfits(configuration, model):
            return name
    return None


def _preset_of(path: Path) -> str:
    file = recognise(open_weight_file(path))
    name = None if file.configuration is None else fitting_preset(file.configuration)
    if name is None:
        raise CheckpointError(
            f"{path} ({file.kind}) fits no preset by itself: say for which model it is meant"
        )
    return name


def _model_names() -> set[str]:
    return {preset.network.__name__ for preset in MODELS.values()}


def _misfits(configuration: dict[str, Any], model: nn.Module) -> list[str]:
    """Return in what the configuration of a file differs from that of a model of the same class."""
    own = configuration_of(model)
    misfits = []
    for part in ("settings", "options"):
        misfits += _differences(configuration[part], own[part])
    return misfits


def _differences(theirs: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """Return in which values of a file it differs from those of a model, in words."""
    found = []
    for key, value in theirs.items():
        own_value = own.get(key)
        if key not in NOT_IN_WEIGHTS and own_value != value:
            shown = repr(value)[:80]
            found.append(f"{key[:80]} is {shown} in the file and {own_value!r} in the model")
    return found


def _hint(file: RecognisedFile) -> str:
    name = None if file.configuration is None else fitting_preset(file.configuration)
    return "no preset fits the file" if name is None else f"the file fits create_model({name!r})"


def _plan_of(
    model: nn.Module, path: Path, file: RecognisedFile, minimum_share: float | None
) -> "_Plan":
    """Match a file with a model, and refuse it where it does not fit or lacks too much."""
    if minimum_share is None:
        _refuse_another_configuration(model, path, file)
        minimum_share = _share_needed(model, file)
    plan = _Plan.of(model, file)
    report = plan.report(path, file)
    if report.share < minimum_share:
        _refuse_what_is_missing(model, plan, report, file, minimum_share)
    return plan


def _refuse_another_configuration(model: nn.Module, path: Path, file: RecognisedFile) -> None:
    if file.configuration is None:
        return
    theirs = file.configuration["model"]
    ours = type(model).__name__
    if theirs == ours:
        misfits = _misfits(file.configuration, model)
    elif theirs == "OSTrack":
        # every tracker here may start from one
        misfits = []
    else:
        misfits = [f"it holds {theirs}, this is {ours}"]
    if file.kind in ("ostrack", "droptrack"):
        # the same network at another size: its tables of positions are resized
        misfits = [
            misfit for misfit in misfits if not misfit.startswith(("search_size", "template_size"))
        ]
    if misfits:
        raise CheckpointError(
            f"{path} does not fit this model: {_some(misfits, 20, '; ')}; {_hint(file)}"
        )


def _share_needed(model: nn.Module, file: RecognisedFile) -> float:
    if file.kind == "vit":
        # it brings the encoder only
        return 0.5
    if file.configuration is None:
        return 1.0
    # a file of this very class must hold all of it; another tracker brings the encoder only
    return 1.0 if file.configuration["model"] == type(model).__name__ else 0.5


def _refuse_what_is_missing(
    model: nn.Module,
    plan: "_Plan",
    report: LoadReport,
    file: RecognisedFile,
    minimum_share: float,
) -> None:
    """Raise unless all that is needed is all that is read, and nothing of that is missing."""
    unread = UNREAD
    if isinstance(model, TrackingNetwork) and not model.backbone.norm.weight.requires_grad:
        unread = (*UNREAD, "backbone.norm.weight", "backbone.norm.bias")
    neutral = getattr(model, "neutral", ())
    missing = []
    for name in report.missing:
        if not name.endswith(unread) and not name.startswith(neutral):
            missing.append(name)
    if minimum_share == 1.0 and not missing:
        return
    reasons = []
    if plan.clashes:
        clashes = [
            f"{name} has shape {shape}, the model's {plan.sizes[name]}"
            for name, shape in plan.clashes.items()
        ]
        reasons.append(_some(clashes, 2))
    absent = [name for name in missing if name not in plan.clashes]
    if absent:
        reasons.append(f"it lacks {_some(absent)}")
    raise CheckpointError(
        f"{report.path} ({file.kind}) provides {report.share:.1%} of the model, "
        f"at least {minimum_share:.0%} must be there: {'; '.join(reasons)}; {_hint(file)}; "
        "the model is unchanged"
    )


def _refuse_values_not_finite(plan: "_Plan", model: nn.Module, path: Path) -> None:
    own = model.state_dict()
    for name, value in plan.values():
        if value.is_floating_point() and not value.isfinite().all():
            raise CheckpointError(
                f"{path} holds values that are not finite in {name}; the model is unchanged"
            )
        if _overflows(value, own[name].dtype):
            raise CheckpointError(
                f"{path} holds {_largest(value):.3g} in {name}, which is beyond "
                f"{own[name].dtype} of the model; the model is unchanged"
            )


@dataclass(frozen=True)
class _Plan:
    """What goes where, before anything is read.

    Args:
        sizes: shape of every entry of the model.
        entries: which stored entry fills an entry of the model.
        duplicated: entries of the model that are filled by a copy of another.
        clashes: entries whose stored shape cannot become that of the model, with the stored one.
        neutral: beginnings of the names of entries that change nothing as they start.
        head_scale: factor for the first weights of the head, which read the sum of the streams.
    """

    sizes: dict[str, tuple[int, ...]]
    entries: dict[str, StoredEntry]
    duplicated: set[str]
    clashes: dict[str, tuple[int, ...]]
    neutral: tuple[str, ...]
    head_scale: float

    @classmethod
    def of(cls, model: nn.Module, file: RecognisedFile) -> "_Plan":
        """Match the entries of a file with those of a model, by name and shape."""
        sizes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        found = {name: file.entries[name] for name in sizes if name in file.entries}
        copies = _copies(model, file, [name for name in sizes if name not in found])
        candidates = found | copies
        entries = {}
        clashes = {}
        for name, entry in candidates.items():
            if _can_become(entry, sizes[name]):
                entries[name] = entry
            else:
                clashes[name] = entry.shape
        configuration = file.configuration or {}
        own_streams = getattr(model, "summed_streams", 1)
        streams_of_file = configuration.get("summed_streams", own_streams)
        return cls(
            sizes=sizes,
            entries=entries,
            duplicated=copies.keys() & entries.keys(),
            clashes=clashes,
            neutral=getattr(model, "neutral", ()),
            head_scale=streams_of_file / own_streams,
        )

    def values(self) -> Iterator[tuple[str, Tensor]]:
        """Read entry after entry: never more than one in memory."""
        for name, entry in self.entries.items():
            value = entry.read()
            if entry.shape != self.sizes[name]:
                value = _resize(value, self.sizes[name], entry.interpolation or "bilinear")
            if self.head_scale != 1 and _reads_the_streams(name):
                value = value * self.head_scale
            yield name, value

    def carry_out(self, model: nn.Module) -> None:
        """Fill the model."""
        own = model.state_dict(keep_vars=True)
        with torch.no_grad():
            for name, value in self.values():
                own[name].copy_(value)

    def report(self, path: Path, file: RecognisedFile) -> LoadReport:
        """Say what the plan will do."""
        resized = []
        loaded = []
        for name, entry in self.entries.items():
            if entry.shape != self.sizes[name]:
                resized.append(name)
            elif name not in self.duplicated:
                loaded.append(name)
        missing = [name for name in self.sizes if name not in self.entries]
        unused = _origins(file.entries.values()) - _origins(self.entries.values())
        return LoadReport(
            path=path,
            layout=file.kind,
            share=self._share(),
            loaded=tuple(loaded),
            resized=tuple(resized),
            duplicated=tuple(sorted(self.duplicated)),
            missing=tuple(missing),
            unexpected=tuple(sorted(unused)),
            prefixes=file.prefixes,
        )

    def _share(self) -> float:
        """Return how much of what is read of the model the file provides, by elements."""
        provided = 0
        everything = 0
        for name, size in self.sizes.items():
            if name.endswith(UNREAD):
                continue
            if name.startswith(self.neutral) and name not in self.entries:
                continue
            count = torch.Size(size).numel()
            everything += count
            if name in self.entries:
                provided += count
        return provided / everything if everything else 1.0


def _copies(model: nn.Module, file: RecognisedFile, lacking: list[str]) -> dict[str, StoredEntry]:
    """Return stored entries for those of the model that start as a copy of another."""
    copies = {}
    for own_prefix, other_prefix in getattr(model, "duplicated", ()):
        for name in lacking:
            other = other_prefix + name.removeprefix(own_prefix)
            if name.startswith(own_prefix) and other in file.entries:
                copies[name] = file.entries[other]
    return copies


def _origins(entries: Iterable[StoredEntry]) -> set[str]:
    """Return the names in the file of all tensors that make these entries."""
    names: set[str] = set()
    for entry in entries:
        names.update(entry.origins)
    return names


def _can_become(entry: StoredEntry, size: tuple[int, ...]) -> bool:
    if entry.shape == size:
        return True
    is_table = len(entry.shape) == 3 and entry.interpolation is not None
    # only the number of places may differ
    if not is_table or entry.shape[::2] != size[::2]:
        return False
    places = entry.shape[1]
    return 1 <= places <= MOST_PLACES and math.isqrt(places) ** 2 == places


def _reads_the_streams(name: str) -> bool:
    """Say whether an entry is a weight of the head that reads the features themselves."""
    return name.startswith("box_head.conv1_") and name.endswith(".0.weight")


def _resize(table: Tensor, size: tuple[int, ...], interpolation: str) -> Tensor:
    """Resize a table of positions ``(1, g * g, C)`` to another square grid."""
    old = math.isqrt(table.shape[1])
    new = math.isqrt(size[1])
    grid = table.float().transpose(1, 2).unflatten(2, (old, old))
    resized = F.interpolate(grid, (new, new), mode=interpolation, align_corners=False)
    return resized.flatten(2).transpose(1, 2)


def _some(names: Sequence[str], count: int = 4, separator: str = ", ") -> str:
    """List the first names, and say how many more there are."""
    text = separator.join(name[:200] for name in names[:count])
    if len(names) > count:
        text += f" and {len(names) - count} more"
    return text
