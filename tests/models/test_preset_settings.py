"""Every number of every preset, as its published tracker and the saved weights have it.

    python tests/models/test_preset_settings.py

writes them down again, where a change is meant.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from rgbt_fusion.models.presets import MODELS

RECORDED = Path(__file__).with_name("preset_settings.json")


def settings(name: str) -> dict[str, Any]:
    """Return network, settings and options of a preset, as JSON gives them back."""
    preset = MODELS[name]
    row = {
        "network": preset.network.__name__,
        "settings": asdict(preset.settings),
        "options": dict(preset.options),
    }
    return json.loads(json.dumps(row))


@pytest.mark.parametrize("name", MODELS)
def test_a_preset_has_the_numbers_of_its_tracker(name: str) -> None:
    assert settings(name) == json.loads(RECORDED.read_text())[name]


@pytest.mark.parametrize("name", [name for name in MODELS if name.endswith("_vitb_256")])
def test_a_network_without_settings_is_its_preset_of_vit_b(name: str) -> None:
    preset = MODELS[name]
    network: Any = preset.network
    with torch.device("meta"):
        assert network().settings == preset.settings


def record() -> None:
    """Write what the test compares with, a preset per line."""
    lines = [f"{json.dumps(name)}: {json.dumps(settings(name))}" for name in MODELS]
    RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    record()
