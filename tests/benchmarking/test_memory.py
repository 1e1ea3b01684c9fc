import pytest

from rgbt_fusion.benchmarking.memory import MemoryMeter
from rgbt_fusion.benchmarking.workloads import Workload

SIZES = {"B": 1, "D": 256, "L": 512, "N": 16}
STATES = 4 * 256 * 512 * 16
"""Bytes of one tensor of all states, 8 MB."""


@pytest.fixture(scope="module")
def meter():
    with MemoryMeter() as meter:
        yield meter


def test_a_loop_over_whole_sequences_takes_the_states_of_all_tokens(meter):
    loop = meter.peak_extra_bytes(Workload("scan", "PyTorch loop", SIZES))
    assert 3 * STATES < loop < 4.5 * STATES


def test_a_chunked_scan_takes_less_than_the_states_of_all_tokens(meter):
    chunked = meter.peak_extra_bytes(Workload("scan", "vectorised", SIZES))
    out = 4 * 256 * 512
    assert out < chunked < 1.5 * STATES


def test_what_goes_wrong_in_the_fresh_process_is_said_and_the_next_is_measured(meter):
    with pytest.raises(RuntimeError, match=r"memory of scan \(nobody\) failed: .*nobody"):
        meter.peak_extra_bytes(Workload("scan", "nobody", SIZES))
    assert meter.peak_extra_bytes(Workload("scan", "vectorised", SIZES)) > 0


def test_a_process_that_ends_is_named(monkeypatch):
    monkeypatch.setattr("sys.executable", "/bin/true")
    with MemoryMeter() as meter, pytest.raises(RuntimeError, match="ended without an answer"):
        meter.peak_extra_bytes(Workload("scan", "vectorised", SIZES))
