"""Fixtures of the op tests."""

import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import torch


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """Every uninitialised tensor is full of NaN, so a result that is not written shows."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all() and torch.ones(1).new_empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def skip_at_a_second_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip what starts a process, where RGBT_FUSION_ONE_PROCESS says why (`make sanitize`)."""
    reason = os.environ.get("RGBT_FUSION_ONE_PROCESS")
    if not reason:
        return

    def skip(*_: Any, **__: Any) -> int:
        pytest.skip(f"starts a process: {reason}")

    monkeypatch.setattr(subprocess.Popen, "__init__", skip)
    monkeypatch.setattr(os, "fork", skip)
