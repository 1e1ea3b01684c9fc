"""Track with an exported ONNX file, in ONNX Runtime."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rgbt_fusion.checks import check_finite_number, check_positive_int
from rgbt_fusion.export.onnx_file import (
    INITIAL_STATE_KEY,
    TRACKING_KEY,
    open_session,
    run_session,
)
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.models.interface import ModelOutput
from rgbt_fusion.shapes import check_shape

__all__ = ["OnnxModel", "OnnxState"]

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


class OnnxModel:
    """A tracking network that is an ONNX file: hand it to ``Tracker``.

    The file is one that :func:`~rgbt_fusion.export.onnx_file.export_onnx` wrote for a tracking
    network. Its metadata say how frames are cropped. A file for one target also follows several,
    one after the other.

    Args:
        path: the file.
        threads: threads of ONNX Runtime; 0 leaves the number to it.

    Shape:
        - template, search: an ``ImagePair`` of ``(B, 3, template_size, template_size)`` and
          ``(B, 3, search_size, search_size)``, normalised, float32 on the CPU
        - returns :class:`ModelOutput`

    Raises:
        ModuleNotFoundError: ONNX Runtime is not installed.
        FileNotFoundError: there is no such file.
        ValueError: the file is not an exported tracking network.
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
            self._take(json.loads(texts[TRACKING_KEY]))
            state: dict[str, Any] = json.loads(texts.get(INITIAL_STATE_KEY, "{}"))
            self._state_names = tuple(state)
            self._initial = tuple(torch.tensor(value) for value in state.values())
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
            raise ValueError(
                f"{path} must say in its metadata how it tracks, but: {str(error)[:200]}"
            ) from error
        self._inputs = {one.name for one in self._session.get_inputs()}

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
        self, template: ImagePair, search: ImagePair, state: OnnxState | None = None
    ) -> ModelOutput:
        """Look for the target of the template in the search crop."""
        targets = len(search.rgb)
        for name, pair, size in (
            ("template", template, self.template_size),
            ("search", search, self.search_size),
        ):
            check_shape(pair.rgb, "B 3 H W", B=targets, H=size, W=size, name=f"{name}.rgb")
            check_shape(pair.tir, "B 3 H W", B=targets, H=size, W=size, name=f"{name}.tir")
        if self.batch != 1:
            check_shape(search.rgb, "B 3 H W", B=self.batch, name="search.rgb")
        if state is None:
            repeats = targets if self.batch == 1 else 1
            values = tuple(torch.cat([one] * repeats) for one in self._initial)
            state = OnnxState(values, self._initial)
        found = []
        for first in range(0, targets, self.batch):
            rows = slice(first, first + self.batch)
            images = [image[rows] for image in (*template, *search)]
            found.append(self._run(images, [value[rows] for value in state.values]))
        merged = {name: torch.cat([one[name] for one in found]) for name in found[0]}
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

    def _run(self, images: list[Tensor], state: list[Tensor]) -> dict[str, Tensor]:
        """Run the file on one batch, with a window of ones."""
        names = ("template_rgb", "template_tir", "search_rgb", "search_tir")
        inputs = {name: image.contiguous() for name, image in zip(names, images, strict=True)}
        inputs["window"] = torch.ones(self._grid, self._grid)
        inputs |= dict(zip(self._state_names, state, strict=True))
        # a network of one modality does not read the images of the other one
        known = {name: value for name, value in inputs.items() if name in self._inputs}
        return run_session(self._session, known)


def _session(path: Path, threads: int) -> Any:
    try:
        return open_session(path, threads=threads)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"an ONNX file needs {error.name}: pip install 'rgbt-fusion[export]'", name=error.name
        ) from error
    except Exception as error:
        # ONNX Runtime has errors of its own for damaged files
        raise ValueError(f"{path} cannot be read as ONNX: {str(error).splitlines()[0]}") from error
