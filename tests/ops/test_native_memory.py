"""The memory of large results: used again once a result is gone, and never before."""

import os
from collections.abc import Iterator

import pytest
import torch

from rgbt_fusion.ops.native import memory

LIKE = torch.empty(1)
LARGE = (3, memory.LARGE_PAGE // 4)
"""A shape of three large pages."""


@pytest.fixture(autouse=True)
def no_free_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(memory, "_FREE", memory._FreeBlocks())
    yield


def test_the_memory_of_a_result_that_is_gone_is_used_again() -> None:
    first = memory.empty_strided(LIKE, LARGE, (LARGE[1], 1))
    address = first.data_ptr()
    part = first[1]
    del first
    # a view still holds the memory
    second = memory.empty_strided(LIKE, LARGE, (LARGE[1], 1))
    assert second.data_ptr() != address
    del part
    third = memory.empty_strided(LIKE, LARGE, (LARGE[1], 1))
    assert third.data_ptr() == address


def test_a_result_has_the_dtype_the_strides_and_the_bytes_it_was_asked_for() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        x = memory.empty_strided(LIKE.to(dtype), (4, 512, 300), (512 * 300, 1, 512))
        assert x.dtype == dtype and x.stride() == (512 * 300, 1, 512)
        assert x.untyped_storage().nbytes() == x.numel() * x.element_size()
        x.fill_(1)
        assert x.eq(1).all()


def test_large_results_lie_in_large_pages_but_not_at_the_same_place() -> None:
    results = [memory.empty_strided(LIKE, LARGE, (LARGE[1], 1)) for _ in range(4)]
    places = [x.data_ptr() % memory.LARGE_PAGE for x in results]
    assert places == [0, memory.STAGGER, 2 * memory.STAGGER, 3 * memory.STAGGER]


def test_a_small_result_is_left_to_torch() -> None:
    x = memory.empty_strided(LIKE, (4, 4), (4, 1))
    assert not memory._FREE.in_use
    x.untyped_storage().resize_(1024)


def test_free_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST_KEPT", 2 * LARGE[0] * memory.LARGE_PAGE)
    results = [memory.empty_strided(LIKE, LARGE, (LARGE[1], 1)) for _ in range(4)]
    assert len(memory._FREE.in_use) == 4
    results.clear()
    assert not memory._FREE.in_use
    assert memory._FREE.bytes == 2 * LARGE[0] * memory.LARGE_PAGE


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_a_forked_process_has_memory_of_its_own() -> None:
    x = memory.empty_strided(LIKE, LARGE, (LARGE[1], 1)).fill_(1)
    child = os.fork()
    if child == 0:
        # not by torch, whose threads are not in the child
        x.numpy()[...] = 2
        os._exit(0)
    os.waitpid(child, 0)
    assert x.eq(1).all()
