"""A launch that was made before takes the tensors of this call, where all else is equal."""

import pytest
import torch

pytest.importorskip("triton", minversion="3.3", reason="Triton is not installed")

from rgbt_fusion.ops.triton import launching
from rgbt_fusion.ops.triton.launching import launch, note_scratch, note_sum, replay_or_record


class Compiled:
    """A compiled kernel that keeps what it was launched with."""

    function = packed_metadata = 0

    def __init__(self, log):
        self.log = log

    def run(self, *arguments):
        self.log.append(arguments[9:])


class Parameter:
    def __init__(self, name):
        self.name = name


class Kernel:
    """Triton's side: a launch through it is told apart from one of :class:`Compiled`."""

    def __init__(self):
        self.through_triton = 0
        self.log = []
        self.params = [Parameter(name) for name in ("x", "y", "kept", "size")]

    def __getitem__(self, grid):
        def run(**given):
            self.through_triton += 1
            return Compiled(self.log)

        return run


@pytest.fixture
def kernel(monkeypatch):
    from triton.runtime.driver import driver

    class Driver:
        def get_current_device(self):
            return 0

        def get_current_stream(self, device):
            return 0

    monkeypatch.setattr(driver, "_active", Driver())
    monkeypatch.setattr(launching, "_RECORDINGS", {})
    return Kernel()


def call_of(kernel):
    def call(tensors):
        x, y, total = tensors
        kept = note_scratch(x.new_empty(3, 2))
        launch(kernel, (5,), x=x, y=y, kept=kept, size=7)
        if total is not None:
            note_sum(total, y)

    return call


def test_the_second_call_launches_with_its_own_tensors(kernel):
    call = call_of(kernel)
    first = torch.zeros(4)
    # the same tensor twice: the next call gives two
    replay_or_record((first, first, None), "facts", call)
    x, y = torch.zeros(4), torch.ones(4)
    replay_or_record((x, y, None), "facts", call)
    assert kernel.through_triton == 1
    ((got_x, got_y, kept, size),) = kernel.log
    assert got_x is x
    assert got_y is y
    assert kept.shape == (3, 2)
    assert size == 7


def test_sums_are_made_again(kernel):
    call = call_of(kernel)
    total, y = torch.empty(1, 2), torch.ones(3, 2)
    for factor in (1, 2):
        replay_or_record((torch.zeros(3, 2), factor * y, total), "facts", call)
        assert torch.equal(total, factor * torch.full((1, 2), 3.0))
    assert kernel.through_triton == 1


@pytest.mark.parametrize(
    "other",
    [
        torch.zeros(5),
        torch.zeros(8)[::2],
        torch.zeros(4, dtype=torch.float16),
        torch.zeros(5)[1:],  # not aligned
    ],
    ids=["shape", "strides", "dtype", "alignment"],
)
def test_what_triton_looks_at_is_looked_at(kernel, other):
    call = call_of(kernel)
    x = torch.zeros(4)
    replay_or_record((x, x, None), "facts", call)
    replay_or_record((other, x, None), "facts", call)
    assert kernel.through_triton == 2
    replay_or_record((x, x, None), "other facts", call)
    assert kernel.through_triton == 3


def test_an_error_leaves_no_half_a_recording(kernel):
    def failing(tensors):
        note_scratch(tensors[0].new_empty(1))
        raise RuntimeError("out of memory")

    x = torch.zeros(4)
    with pytest.raises(RuntimeError, match="out of memory"):
        replay_or_record((x,), "facts", failing)
    replay_or_record((x, x, None), "facts", call_of(kernel))
    replay_or_record((x, x, None), "facts", call_of(kernel))
    assert kernel.through_triton == 1


def test_a_profiler_sees_every_launch(kernel, monkeypatch):
    call = call_of(kernel)
    x = torch.zeros(4)
    replay_or_record((x, x, None), "facts", call)
    monkeypatch.setattr(launching, "_is_watched", lambda: True)
    replay_or_record((x, x, None), "facts", call)
    assert kernel.through_triton == 2
