"""Track with an exported ONNX file, in ONNX Runtime."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rgbt_fusion.checks import check_finite_number, check_positive_int, first_line
from rgbt_fusion.export.onnx_file import (
    INITIAL_STATE_KEY,
    TRACKING_KEY,
    inputs_read,
    open_session,
    run_session,
)
from rgbt_fusion.export.step import IMAGE_INPUTS
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.models.interface import ModelOutput
from rgbt_fusion.shapes import check_shape
from rgbt_fusion.weights.formats import stored_tracking_settings

__all__ = ["OnnxModel", "OnnxState", "OnnxTemplate"]


_IMAGES = IMAGE_INPUTS[:2]

SIZES = ("template_size", "search_size", "batch", "grid")

LARGEST_SIZE = 4096
"""The largest side of a search crop in pixels."""


class OnnxState(NamedTuple):
    """What a file remembers from one frame to the next."""

    values: tuple[Tensor, ...]
    """The state inputs of the next frame, ``(B, ...)`` each."""
    initial: tuple[Tensor, ...]
    """The state inputs before a first frame, ``(1, ...)`` each."""

    def reset(self, mask: Tensor) -> "OnnxState":
        """Return the state with the rows of ``mask``, boolean ``(B,)``, as before a first frame."""
        values = []
        for value, initial in zip(self.values, self.initial, strict=True):
            rows = mask.view(-1, *(1 for _ in value.shape[1:]))
            values.append(torch.where(rows, initial, value))
        return OnnxState(tuple(values), self.initial)


class OnnxTemplate(NamedTuple):
    """A template as a file takes it: the tokens of a file that embeds it, or the images."""

    values: tuple[Tensor, ...]
    """In the order of the inputs of the step, ``(B, ...)`` each."""


class OnnxModel:
    """A tracking network that is an ONNX file: hand it to ``Tracker``.

    The file is one that :func:`~rgbt_fusion.export.onnx_file.export_onnx` wrote for a tracking
    network. Its metadata say how frames are cropped, and name the file beside it that embeds the
    template, if the network embeds it once per sequence. A file for one target also follows
    several, one after the other.

    Args:
        path: the file.
        threads: threads of ONNX Runtime; 0 leaves the number to it.

    Shape:
        - template, search: an ``ImagePair`` of ``(B, 3, template_size, template_size)`` and
          ``(B, 3, search_size, search_size)``, normalised, float32 on the CPU
        - returns :class:`ModelOutput`

    Raises:
        ModuleNotFoundError: ONNX Runtime is not installed.
        FileNotFoundError: there is no such file, or none beside it that embeds the template.
        ValueError: the file is not an exported tracking network, or the one beside it belongs to
            another export.
        ShapeError: an image does not have the shape above, or B is not that of the file.
    """

    def __init__(self, path: str | Path, *, threads: int = 0) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"path must be an ONNX file, there is no {path}")
        self._session = _session(self.path, threads)
        texts = self._session.get_modelmeta().custom_metadata_map
        if TRACKING_KEY not in texts:
            raise ValueError(
                f"{path} must be a tracking network that export_onnx of this version wrote: "
                f"its metadata lack {TRACKING_KEY}"
            )
        try:
            values: Any = json.loads(texts[TRACKING_KEY])
            self._take(values)
            self.tracking_settings = stored_tracking_settings(texts)
            """What the network's weights were measured with; None is the paper's way."""
            state: dict[str, Any] = json.loads(texts.get(INITIAL_STATE_KEY, "{}"))
            self._state_names = tuple(state)
            self._initial = tuple(torch.tensor(value) for value in state.values())
            # a file of an earlier version takes images
            template = values.get("template")
            known = None
            if template is not None:
                known = (str(template["file"]), str(template["sha256"]))
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
            raise ValueError(
                f"{path} must say in its metadata how it tracks, but: {str(error)[:200]}"
            ) from error
        self._template_session: Any = None
        self._template_names = _IMAGES
        if known is not None:
            self._template_session = _session(_template_beside(self.path, *known), threads)
            outputs = self._template_session.get_outputs()
            self._template_names = tuple(one.name for one in outputs)

    def embed_template(self, template: ImagePair) -> OnnxTemplate:
        """Run the file that embeds the template, where there is one."""
        size = self.template_size
        targets = len(template.rgb)
        for name, image in zip(("rgb", "tir"), template, strict=True):
            check_shape(image, "B 3 H W", B=targets, H=size, W=size, name=f"template.{name}")
        if self._template_session is None:
            return OnnxTemplate(tuple(template))
        found = []
        for rows in self._rows(targets):
            images = [image[rows] for image in template]
            found.append(self._run(self._template_session, _IMAGES, images))
        tokens = _merged(found)
        return OnnxTemplate(tuple(tokens[name] for name in self._template_names))

    def _take(self, values: Any) -> None:
        """Take over what the metadata say of the network, each number checked."""
        sizes = [check_positive_int(values[name], name=name) for name in SIZES]
        self.template_size, self.search_size, self.batch, self._grid = sizes
        self.search_factor = check_finite_number(
            values["search_factor"], name="search_factor", low=1.0
        )
        if self._grid > self.search_size or self.search_size > LARGEST_SIZE:
            raise ValueError(
                f"search_size must be at least grid = {self._grid} and at most {LARGEST_SIZE}, "
                f"got {self.search_size}"
            )

    def __call__(
        self,
        template: OnnxTemplate | ImagePair,
        search: ImagePair,
        state: OnnxState | None = None,
    ) -> ModelOutput:
        """Look for the target of the template in the search crop."""
        if isinstance(template, ImagePair):
            template = self.embed_template(template)
        size = self.search_size
        targets = len(template.values[0])
        for name, image in zip(("rgb", "tir"), search, strict=True):
            check_shape(image, "B 3 H W", B=targets, H=size, W=size, name=f"search.{name}")
        if self.batch != 1:
            check_shape(search.rgb, "B 3 H W", B=self.batch, name="search.rgb")
        if state is None:
            repeats = targets if self.batch == 1 else 1
            values = tuple(torch.cat([one] * repeats) for one in self._initial)
            state = OnnxState(values, self._initial)
        names = (*self._template_names, "search_rgb", "search_tir", *self._state_names, "window")
        window = torch.ones(self._grid, self._grid)
        found = []
        for rows in self._rows(targets):
            values = [value[rows] for value in (*template.values, *search, *state.values)]
            found.append(self._run(self._session, names, [*values, window]))
        merged = _merged(found)
        after = None
        if self._state_names:
            values = tuple(merged[f"next_{name}"] for name in self._state_names)
            after = OnnxState(values, self._initial)
        return ModelOutput(
            score_map=merged["score_map"],
            score_logits=merged["score_map"].logit(),
            size_map=merged["size_map"],
            offset_map=merged["offset_map"],
            box_cxcywh_unit=merged["box_cxcywh_unit"],
            state=after,
        )

    def _rows(self, targets: int) -> list[slice]:
        """Return the targets that each run of a file looks for."""
        return [slice(first, first + self.batch) for first in range(0, targets, self.batch)]

    def _run(self, session: Any, names: Sequence[str], values: list[Tensor]) -> dict[str, Tensor]:
        contiguous = [value.contiguous() for value in values]
        return run_session(session, inputs_read(session, names, contiguous))


def _merged(found: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the outputs of several runs by name, their rows one after another."""
    return {name: torch.cat([one[name] for one in found]) for name in found[0]}


def _template_beside(path: Path, name: str, digest: str) -> Path:
    """Return the file that embeds the template for the step of ``path``.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is not the one that was written with the step, or no name of a file.
    """
    if Path(name).name != name:
        raise ValueError(f"{path} must name a file beside it for its template, got {name!r}")
    beside = path.with_name(name)
    if not beside.is_file():
        raise FileNotFoundError(
            f"{path} needs {name} beside it, which embeds its template: keep both files together"
        )
    if hashlib.sha256(beside.read_bytes()).hexdigest() != digest:
        raise ValueError(f"{beside} must be the file that was written with {path}: export again")
    return beside


def _session(path: Path, threads: int) -> Any:
    try:
        return open_session(path, threads=threads)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"an ONNX file needs {error.name}: pip install 'rgbt-fusion[export]'", name=error.name
        ) from error
    except Exception as error:
        # ONNX Runtime has errors of its own for damaged files
        raise ValueError(f"{path} cannot be read as ONNX: {first_line(error)}") from error
