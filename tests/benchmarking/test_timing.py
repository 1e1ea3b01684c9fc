import gc

import pytest

from rgbt_fusion.benchmarking import timing
from rgbt_fusion.benchmarking.timing import Effort, interleave, spread


class Clock:
    """A clock that stands still but for what the contenders add to it."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(timing.time, "process_time", lambda: 2 * self.now)

    def contender(self, seconds, calls):
        def call():
            calls.append(seconds)
            self.now += seconds

        return call


def test_medians_of_both_clocks(monkeypatch):
    clock, calls = Clock(monkeypatch), []
    found = interleave(
        {"a": clock.contender(0.1, calls), "b": clock.contender(0.2, calls)}, Effort(rounds=4)
    )
    assert found["a"].wall_ms.median == pytest.approx(100)
    assert found["b"].cpu_ms.median == pytest.approx(400)
    assert found["a"].wall_ms.samples == 4


def test_rounds_interleave_and_rotate_after_one_warm_up_each(monkeypatch):
    clock, calls = Clock(monkeypatch), []
    interleave({"a": clock.contender(1, calls), "b": clock.contender(2, calls)}, Effort(rounds=3))
    assert calls == [1, 2, 1, 2, 2, 1, 1, 2]


@pytest.mark.parametrize(("seconds", "samples"), [(0.6, 8), (1.0, 5), (4.0, 3), (40.0, 1)])
def test_a_slow_contender_takes_part_in_fewer_rounds(monkeypatch, seconds, samples):
    clock, calls = Clock(monkeypatch), []
    effort = Effort(rounds=10, budget_s=5.0, least_samples=3, patience_s=30.0)
    found = interleave({"slow": clock.contender(seconds, calls)}, effort)
    assert found["slow"].wall_ms.samples == samples
    assert len(calls) == (samples + 1 if seconds < effort.patience_s else 1)


def test_a_fast_contender_is_called_several_times_a_sample(monkeypatch):
    clock, calls = Clock(monkeypatch), []
    found = interleave({"fast": clock.contender(0.001, calls)}, Effort(rounds=2))
    assert len(calls) == 2 + 2 * 5
    assert found["fast"].wall_ms.median == pytest.approx(1.0)


def test_a_slow_first_call_does_not_count_for_the_others(monkeypatch):
    """What prepares at its first call is fast all the same, and is called as often as it should."""
    clock = Clock(monkeypatch)
    first = iter([0.3])
    calls = []

    def prepares_first():
        calls.append(None)
        clock.now += next(first, 0.001)

    found = interleave({"prepares": prepares_first}, Effort(rounds=2))
    assert len(calls) == 2 + 2 * 5
    assert found["prepares"].wall_ms.median == pytest.approx(1.0)


def test_progress_adds_up_to_one_and_the_device_is_waited_for(monkeypatch):
    clock, waits, shares = Clock(monkeypatch), [], []
    contenders = {"a": clock.contender(1, []), "b": clock.contender(9, [])}
    interleave(
        contenders,
        Effort(rounds=4, budget_s=9, patience_s=10),
        synchronise=lambda: waits.append(1),
        on_sample=shares.append,
    )
    assert sum(shares) == pytest.approx(1.0)
    assert len(waits) == 2 * (2 + len(shares))


def test_what_is_called_once_is_done_at_once(monkeypatch):
    shares = []
    interleave(
        {"slow": Clock(monkeypatch).contender(9, [])}, Effort(patience_s=8), on_sample=shares.append
    )
    assert shares == [1.0]


def test_garbage_collection_is_on_again_after_a_failure():
    def fail():
        assert not gc.isenabled()
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        interleave({"a": fail}, Effort())
    assert gc.isenabled()


def test_spread():
    assert spread([4.0, 1.0, 3.0, 2.0, 5.0]) == (3.0, 2.0, 4.0, 5)
    assert spread([7.0]) == (7.0, 7.0, 7.0, 1)
