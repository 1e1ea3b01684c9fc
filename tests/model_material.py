"""Images, weights and files that several tests of the models share."""

import importlib.util
import json
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.models.network import TrackingNetwork
from rgbt_fusion.weights.pretrained import create_model
from shared_material import shared


def images(model: TrackingNetwork, batch: int = 2, *, seed: int = 0) -> tuple[ImagePair, ImagePair]:
    """A template and a search pair of the model's sizes and dtype."""
    generator = torch.Generator().manual_seed(seed)
    dtype = model.backbone.pos_embed_x.dtype

    def pair(size: int) -> ImagePair:
        rgb, tir = torch.randn(
            2, batch, 3, size, size, generator=generator, dtype=torch.float64
        ).to(dtype)
        return ImagePair(rgb, tir)

    return pair(model.template_size), pair(model.search_size)


def tiny(name: str, **overrides: Any) -> TrackingNetwork:
    """A small model in evaluation mode with seeded weights; every bias and norm moved off its
    start."""
    torch.manual_seed(0)
    model = create_model(name, **overrides)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model.eval()


class Conformance:
    """One recorded case: the weights and inputs it was made from, what came out, and how close one
    must come."""

    def __init__(self, case: str) -> None:
        self.folder = shared(f"conformance/{case}")
        path = self.folder.parent / "make_weights.py"
        spec = importlib.util.spec_from_file_location("make_weights", path)
        assert spec is not None and spec.loader is not None
        self.recipe = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.recipe)
        with np.load(self.folder / "expected.npz") as file:
            self.expected = dict(file)
        self.tolerances = json.loads((self.folder / "tolerances.json").read_text())

    def state_dict(self) -> dict[str, Tensor]:
        made = self.recipe.make_state_dict(str(self.folder / "keys.json"))
        return {name: torch.from_numpy(value) for name, value in made.items()}

    def images(self, dtype: torch.dtype) -> tuple[ImagePair, ImagePair]:
        """The first of the two recorded rows: template and search."""
        sizes = ((1, 128), (2, 128), (3, 256), (4, 256))
        rows = [
            torch.from_numpy(self.recipe.make_input(seed, (2, 3, n, n)))[:1].to(dtype)
            for seed, n in sizes
        ]
        return ImagePair(rows[0], rows[1]), ImagePair(rows[2], rows[3])

    def check(self, name: str, value: Tensor) -> None:
        """Compare with the first row of what was recorded, in the precision of the value."""
        double = value.dtype == torch.float64
        recorded = self.expected[f"{name}@f64" if double else name][:1]
        atol = self.tolerances[name]["atol_f64" if double else "atol_f32"]
        error = np.abs(value.detach().numpy() - recorded).max()
        assert error <= atol, f"{name} differs by {error:.1e}, allowed {atol:.1e}"

    def check_output(self, model: TrackingNetwork, dtype: torch.dtype) -> None:
        """Compare all maps and both boxes."""
        with torch.inference_mode():
            out = model(*self.images(dtype))
            self.check("score_map", out.score_map)
            self.check("size_map", out.size_map)
            self.check("offset_map", out.offset_map)
            self.check("pred_boxes", out.box_cxcywh_unit[:, None])
            window = torch.from_numpy(self.expected["hann"]).to(dtype)
            self.check("pred_boxes_hann", model.decode(out, window))


@contextmanager
def foreign_module(name: str, *classes: str) -> Iterator[types.ModuleType]:
    """A package that exists while a file is written and is gone when it is read, as the official
    trainers' are."""
    parts = name.split(".")
    names = [".".join(parts[: i + 1]) for i in range(len(parts))]
    for made in names:
        sys.modules[made] = types.ModuleType(made)
    for made in classes:
        setattr(sys.modules[name], made, type(made, (), {"__module__": name}))
    try:
        yield sys.modules[name]
    finally:
        for made in names:
            del sys.modules[made]


def save_as_official(state: dict[str, Tensor], path: Path) -> Path:
    """Write a state_dict as the official trainers do: under ``net``, among objects of their own
    package."""
    with foreign_module("lib.train.admin.settings", "Settings", "AverageMeter") as lib:
        settings, meter = lib.Settings(), lib.AverageMeter()
        settings.__dict__.update(project_path="train/ostrack", device=torch.device("cpu"))
        meter.__dict__.update(history=[0.5, 0.25], count=2)
        content = {
            "epoch": 300,
            "actor_type": "OSTrackActor",
            "net": state,
            "stats": {"loss": meter},
        }
        torch.save(
            content | {"settings": settings, "optimizer": {"state": {}, "param_groups": []}}, path
        )
    return path


def assert_changes_nothing_while_new(
    plain: TrackingNetwork, new: TrackingNetwork, use: Callable[[TrackingNetwork], TrackingNetwork]
) -> None:
    """Compare a network with one that has an untaught part more, bit by bit; ``use`` teaches it."""
    template, search = images(plain)
    with torch.no_grad():
        expected = plain(template, search)
        found = new(template, search)
        moved = use(new)(template, search)
    for part, value in expected._asdict().items():
        if part != "state":
            assert torch.equal(getattr(found, part), value), part
    assert not torch.allclose(moved.score_logits, expected.score_logits)
