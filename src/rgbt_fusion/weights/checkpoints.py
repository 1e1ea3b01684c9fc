"""Weights in and out of files: OSTrack, DropTrack, AINet, ViT/MAE and our own, read safely and with
a report."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from rgbt_fusion.checks import check_finite_number
from rgbt_fusion.files.whole import write_bytes
from rgbt_fusion.models.network import TrackingNetwork
from rgbt_fusion.models.presets import MODELS, build_model
from rgbt_fusion.weights.formats import CONFIGURATION_KEY, Layout, Source, recognise
from rgbt_fusion.weights.pretrained import create_model
from rgbt_fusion.weights.stored_tensors import CheckpointError, open_weight_file

__all__ = [
    "CheckpointError",
    "LoadReport",
    "convert_checkpoint",
    "fitting_preset",
    "load_checkpoint",
    "load_model",
    "save_checkpoint",
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


@dataclass(frozen=True)
class LoadReport:
    """What became of a file: names of the model's entries, and at last those of the file that had
    no use.

    ``layout`` says whose file it was; ``share`` how much of the model, by elements, now comes from
    it. Entries in ``duplicated`` were copied from another of the file's.
    """

    path: Path
    layout: str
    share: float
    loaded: tuple[str, ...]
    resized: tuple[str, ...]
    duplicated: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.path} ({self.layout}): {self.share:.1%} of the model loaded"]
        for title in ("loaded", "resized", "duplicated", "missing", "unexpected"):
            names = getattr(self, title)
            shown = "" if title == "loaded" else ": " + _some(names) if names else ""
            lines.append(f"  {title:<10} {len(names)}{shown}")
        return "\n".join(lines)


def load_checkpoint(
    model: TrackingNetwork, path: str | Path, *, minimum_share: float | None = None
) -> LoadReport:
    """Load a file of weights into a model and say what became of it.

    Reads files of OSTrack, DropTrack, official AINet, ViT and MAE, and our own. Nothing in a file
    is ever run. Tables of positions are resized, DropTrack's temporal embeddings folded in, and a
    head that was trained on one stream is divided by the number of streams that are added up before
    it here, so that equal streams give the file's result.

    A file of the model's own kind must hold all of it and have its configuration. What any tracker
    here may start from, OSTrack, DropTrack, ViT and MAE, must provide at least half of it. The
    model is unchanged when a file is refused.

    Args:
        model: the model to fill.
        path: the file; its content, not its name, says what it is.
        minimum_share: how much of the model, by elements, the file must provide; takes the place of
            both rules above.

    Returns:
        A :class:`LoadReport`; print it.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is damaged, holds values that are not finite, or does not fit;
            where a preset fits it, the message names it.

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
    path = Path(path)
    layout = recognise(open_weight_file(path))
    if minimum_share is None:
        _refuse_another_configuration(model, path, layout)
    plan = _Plan.of(model, layout)
    report = plan.report(path, layout)
    _refuse_too_little(model, plan, report, layout, minimum_share)
    for name, value in plan.values():
        if value.is_floating_point() and not value.isfinite().all():
            raise CheckpointError(
                f"{path} holds values that are not finite in {name}; the model is unchanged"
            )
    entries = model.state_dict(keep_vars=True)
    with torch.no_grad():
        for name, value in plan.values():
            entries[name].copy_(value)
    return report


def save_checkpoint(
    model: TrackingNetwork,
    path: str | Path,
    *,
    dtype: torch.dtype | None = None,
    metadata: dict[str, str] | None = None,
) -> None:
    """Write a model as safetensors with its configuration inside, beside ``path`` first, then
    renamed over it.

    Args:
        model: the model to write.
        path: the file; whatever is there is replaced only by a complete new file.
        dtype: of floating-point entries in the file; the model's own by default.
        metadata: further texts to store.

    Raises:
        CheckpointError: the file cannot be written; nothing is left behind.
    """
    path = Path(path)
    state = {}
    for name, value in model.state_dict().items():
        value = value.detach().cpu()
        state[name] = (
            value.to(dtype) if dtype is not None and value.is_floating_point() else value
        ).contiguous()
    texts = (metadata or {}) | {CONFIGURATION_KEY: json.dumps(model.configuration)}
    try:
        # not save_file: it makes a file of its own, which a kill would leave behind
        write_bytes(path, save(state, metadata=texts))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be written: {error}") from error


def load_model(path: str | Path) -> TrackingNetwork:
    """Build the model that a file of ours describes, with its weights.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is damaged or is not ours.
    """
    layout = recognise(open_weight_file(path))
    configuration = layout.configuration
    if layout.kind != "rgbt_fusion" or configuration is None:
        raise CheckpointError(
            f"{path} carries no configuration: create_model, then load_checkpoint; {_hint(layout)}"
        )
    try:
        model = build_model(configuration)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} describes a model that this version does not know: {error}"
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
    """Write any readable file of weights as one of ours, for the preset ``name`` or the one it
    fits.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is damaged, does not fit ``name``, or fits no preset where no name
            is given.
    """
    if name is None:
        layout = recognise(open_weight_file(path))
        name = None if layout.configuration is None else fitting_preset(layout.configuration)
        if name is None:
            raise CheckpointError(
                f"{path} ({layout.kind}) fits no preset by itself: say for which model it is meant"
            )
    model = create_model(name)
    report = load_checkpoint(model, path, minimum_share=minimum_share)
    save_checkpoint(model, out, dtype=dtype)
    return report


def fitting_preset(configuration: dict[str, Any]) -> str | None:
    """Return the name of a preset that the configuration of a file fits, as far as the file tells,
    or None."""
    for name, preset in MODELS.items():
        if preset.func.__name__ == configuration["model"] and not _misfits(
            configuration, _built(preset)
        ):  # pyright: ignore
            return name
    return None


def _built(preset: partial[TrackingNetwork]) -> TrackingNetwork:
    with torch.device("meta"):
        return preset()


def _misfits(configuration: dict[str, Any], model: TrackingNetwork) -> list[str]:
    """Return in what a file's configuration, as far as the file tells it, differs from a model's of
    the same class."""
    own = model.configuration
    return [
        f"{key} is {value!r} in the file and {own[part].get(key)!r} in the model"
        for part in ("settings", "options")
        for key, value in configuration[part].items()
        if key not in NOT_IN_WEIGHTS and own[part].get(key) != value
    ]


def _hint(layout: Layout) -> str:
    name = None if layout.configuration is None else fitting_preset(layout.configuration)
    return "no preset fits the file" if name is None else f"the file fits create_model({name!r})"


def _refuse_another_configuration(model: TrackingNetwork, path: Path, layout: Layout) -> None:
    configuration = layout.configuration
    if configuration is None:
        return
    if configuration["model"] == type(model).__name__:
        misfits = _misfits(configuration, model)
    elif configuration["model"] == "OSTrack":
        misfits = []
    else:
        misfits = [f"it holds {configuration['model']}, this is {type(model).__name__}"]
    if layout.kind in ("ostrack", "droptrack"):
        # the same network at another size: its tables of positions are resized
        misfits = [
            misfit for misfit in misfits if not misfit.startswith(("search_size", "template_size"))
        ]
    if misfits:
        raise CheckpointError(
            f"{path} does not fit this model: {'; '.join(misfits)}; {_hint(layout)}"
        )


@dataclass(frozen=True)
class _Plan:
    """What goes where: for entries of a model the source, how it was found, and a factor."""

    sizes: dict[str, tuple[int, ...]]
    sources: dict[str, Source]
    duplicated: set[str]
    clashes: dict[str, tuple[int, ...]]
    scale: float

    @classmethod
    def of(cls, model: TrackingNetwork, layout: Layout) -> "_Plan":
        """Match the sources of a file with the entries of a model, by name and shape."""
        sizes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        candidates = {name: layout.sources[name] for name in sizes if name in layout.sources}
        duplicated = set()
        for own, other in model.duplicated:
            for name in sizes:
                if (
                    name.startswith(own)
                    and name not in candidates
                    and other + name[len(own) :] in layout.sources
                ):
                    candidates[name] = layout.sources[other + name[len(own) :]]
                    duplicated.add(name)
        clashes = {
            name: source.shape
            for name, source in candidates.items()
            if not _can_become(source, sizes[name])
        }
        sources = {name: source for name, source in candidates.items() if name not in clashes}
        streams = (layout.configuration or {}).get("summed_streams", model.summed_streams)
        return cls(
            sizes, sources, duplicated & set(sources), clashes, streams / model.summed_streams
        )

    def values(self) -> Iterator[tuple[str, Tensor]]:
        """Read entry after entry: never more than one in memory."""
        for name, source in self.sources.items():
            value = source.read()
            if source.shape != self.sizes[name]:
                value = _resize(value, self.sizes[name], source.interpolation or "bilinear")
            if (
                self.scale != 1
                and name.startswith("box_head.conv1_")
                and name.endswith(".0.weight")
            ):
                value = value * self.scale
            yield name, value

    def report(self, path: Path, layout: Layout) -> LoadReport:
        """Say what the plan will do."""
        resized = tuple(
            name for name, source in self.sources.items() if source.shape != self.sizes[name]
        )
        plain = tuple(
            name for name in self.sources if name not in resized and name not in self.duplicated
        )
        missing = tuple(name for name in self.sizes if name not in self.sources)
        used = {origin for name in self.sources for origin in layout.used.get(name, ())}
        every = {origin for origins in layout.used.values() for origin in origins}
        counts = {
            name: torch.Size(size).numel()
            for name, size in self.sizes.items()
            if not name.endswith(UNREAD)
        }
        share = sum(count for name, count in counts.items() if name in self.sources) / sum(
            counts.values()
        )
        return LoadReport(
            path,
            layout.kind,
            share,
            plain,
            resized,
            tuple(sorted(self.duplicated)),
            missing,
            tuple(sorted(every - used)),
        )


def _can_become(source: Source, size: tuple[int, ...]) -> bool:
    if source.shape == size:
        return True
    return (
        source.interpolation is not None
        and len(source.shape) == 3
        and source.shape[::2] == size[::2]
    )


def _resize(table: Tensor, size: tuple[int, ...], interpolation: str) -> Tensor:
    """Resize a table of positions ``(1, g * g, C)`` to another square grid."""
    old, new = (int(length**0.5) for length in (table.shape[1], size[1]))
    grid = table.float().transpose(1, 2).unflatten(2, (old, old))
    return (
        F.interpolate(grid, (new, new), mode=interpolation, align_corners=False)
        .flatten(2)
        .transpose(1, 2)
    )


def _refuse_too_little(
    model: TrackingNetwork,
    plan: _Plan,
    report: LoadReport,
    layout: Layout,
    minimum_share: float | None,
) -> None:
    kin = layout.configuration is None or layout.configuration["model"] == type(model).__name__
    needed = (
        (1.0 if kin and layout.kind != "vit" else 0.5) if minimum_share is None else minimum_share
    )
    unread = (
        UNREAD
        if model.backbone.norm.weight.requires_grad
        else (*UNREAD, "backbone.norm.weight", "backbone.norm.bias")
    )
    missing = [name for name in report.missing if not name.endswith(unread)]
    if report.share >= needed or (needed == 1.0 and not missing):
        return
    reasons = [
        f"{name} has shape {shape}, the model's {plan.sizes[name]}"
        for name, shape in plan.clashes.items()
    ]
    absent = [name for name in missing if name not in plan.clashes]
    reasons = [_some(reasons, 2)] * bool(reasons) + [f"it lacks {_some(absent)}"] * bool(absent)
    raise CheckpointError(
        f"{report.path} ({layout.kind}) provides {report.share:.1%} of the model, at least {needed:.0%} must be there: "
        f"{'; '.join(reasons)}; {_hint(layout)}; the model is unchanged"
    )


def _some(names: list[str] | tuple[str, ...], count: int = 4) -> str:
    rest = len(names) - count
    return ", ".join(names[:count]) + (f" and {rest} more" if rest > 0 else "")
