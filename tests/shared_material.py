"""Where the tests find recorded outputs and real image pairs: material that is never part of the
repository."""

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).resolve().parents[2] / "shared"


def shared(path: str = "") -> Path:
    """Return ``path`` inside the shared material, or skip the calling test where it is absent."""
    found = Path(os.environ.get("RGBT_FUSION_SHARED", _BESIDE)) / path
    if not found.exists():
        pytest.skip(
            f"shared material is absent: {path or '.'} (set RGBT_FUSION_SHARED to its folder)"
        )
    return found
