"""A step of a model is measured in a process of its own."""

import sys

import pytest

from rgbt_fusion.cli.step_cost import measure_step
from rgbt_fusion.weights.pretrained import create_model


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from Linux's /proc")
def test_a_step_is_measured_in_a_fresh_process() -> None:
    cost = measure_step(create_model("ostrack_tiny_128", depth=1), rounds=3, budget_s=0.1)
    assert cost.threads == 1
    assert 0 < cost.cpu_ms.q1 <= cost.cpu_ms.median <= cost.cpu_ms.q3
    # torch alone takes more than 100 MB; all of this process may hold much more than the fresh one
    assert 1e8 < cost.peak_resident_bytes < 1e9
    assert cost.wall_ms.samples == 3


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from Linux's /proc")
def test_what_goes_wrong_in_the_fresh_process_is_said() -> None:
    model = create_model("ostrack_tiny_128", depth=1)
    model.options = {"modality": "sound"}
    with pytest.raises(
        RuntimeError, match="measuring a step of OSTrack failed: ValueError: modality must be"
    ):
        measure_step(model)
