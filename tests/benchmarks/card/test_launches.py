"""What a card is asked, counted without one.

``RGBT_FUSION_EVERY_PRESET=1`` asks every preset and not only the small ones.
"""

import os

import pytest
import torch
from torch import nn

pytest.importorskip("triton", minversion="3.3", reason="Triton is not installed")

from benchmarks.card import launches
from benchmarks.card.launches import count_frame, count_training_step
from rgbt_fusion import ModelOutput
from rgbt_fusion.models.presets import MODELS

EVERY = bool(os.environ.get("RGBT_FUSION_EVERY_PRESET"))
PRESETS = [name for name in MODELS if EVERY or "_tiny_" in name]


@pytest.mark.parametrize(
    ("preset", "most"),
    [("ainet_vitb_256", 370), ("tpmri_vitb_256", 400), ("mutual_prompt_teacher_vitb_256", 250)],
)
def test_a_frame_takes_few_kernels(preset, most):
    assert count_frame(preset).total <= most


@pytest.mark.parametrize("preset", PRESETS)
def test_a_frame_waits_for_nothing_and_sends_nothing(preset):
    assert count_frame(preset).copies_from_host == 0


@pytest.mark.parametrize("preset", [name for name in PRESETS if "compact" not in name])
def test_a_training_step_waits_for_nothing(preset):
    assert count_training_step(preset).total > 0


class Looking(nn.Module):
    """A network that reads a value on the host."""

    template_size, search_size, search_factor = 64, 128, 4.0

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def embed_template(self, template):
        return template

    def forward(self, template, search, state=None):
        maps = search.rgb.new_zeros(len(search.rgb), 5, 8, 8) * self.weight
        if maps.sum() > 0:
            maps = maps + 1
        return ModelOutput.from_maps(maps[:, :1], maps[:, 1:3], maps[:, 3:])


class Sending(Looking):
    """A network that makes a tensor on the host in the midst of a frame."""

    def forward(self, template, search, state=None):
        maps = search.rgb.new_zeros(len(search.rgb), 5, 8, 8) * self.weight
        maps = maps + torch.arange(8.0).to(maps)
        return ModelOutput.from_maps(maps[:, :1], maps[:, 1:3], maps[:, 3:])


def test_a_read_on_the_host_is_found(monkeypatch):
    monkeypatch.setattr(launches, "build_preset", lambda name: Looking())
    with pytest.raises(RuntimeError, match="host"):
        count_frame("looking")


def test_a_copy_from_the_host_is_found(monkeypatch):
    monkeypatch.setattr(launches, "build_preset", lambda name: Sending())
    assert count_frame("sending").copies_from_host >= 1
