"""Fixtures of the op tests."""

import os
import subprocess
import sys
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
def skip_at_a_second_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the tests that start Python, where RGBT_FUSION_NO_PYTHON says why (`make sanitize`)."""
    reason = os.environ.get("RGBT_FUSION_NO_PYTHON")
    if not reason:
        return
    start = subprocess.Popen.__init__

    def start_or_skip(self: Any, args: Any, *others: Any, **options: Any) -> None:
        if not isinstance(args, str) and next(iter(args)) == sys.executable:
            pytest.skip(f"starts Python: {reason}")
        start(self, args, *others, **options)

    monkeypatch.setattr(subprocess.Popen, "__init__", start_or_skip)
