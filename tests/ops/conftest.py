"""Fixtures of the op tests."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """Every uninitialised tensor is full of NaN, so a result that is not written shows."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all() and torch.ones(1).new_empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)
