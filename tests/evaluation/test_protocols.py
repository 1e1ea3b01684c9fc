"""The rows of the table, as far as numbers published with the toolkits tell."""

import numpy as np
import pytest

from rgbt_fusion.data.layouts import LAYOUTS
from rgbt_fusion.evaluation.protocols import PROTOCOLS, get_protocol
from rgbt_fusion.evaluation.scoring import BenchmarkTruth, score
from rgbt_fusion.frames.types import GroundTruth

BOXES = np.array([[10.0, 20, 30, 40], [12, 21, 30, 40], [14, 22, 31, 40], [16, 23, 31, 41]])


def test_every_benchmark_has_a_layout():
    assert set(PROTOCOLS) == set(LAYOUTS)


@pytest.mark.parametrize(
    ("benchmark", "metric", "expected"),
    [
        ("gtot", "MSR", 0.99),
        ("rgbt210", "SR", 20 / 21),
        ("rgbt234", "MSR", 20 / 21),
        ("lasher", "SR", 20 / 21),
        ("vtuav_st", "MSR", 20 / 21),
        ("vtuav_lt", "MSR", 20 / 21),
        ("visevent", "SR", 20 / 21),
        ("otb100", "SR", 20 / 21),
        ("got10k", "AO", 1.0),
        ("depthtrack", "F", 1.0),
        ("folder", "SR", 20 / 21),
        ("vot_rgbt", "AO", 1.0),
        ("lasher_unaligned", "SR", 20 / 21),
        ("muart244", "SR", 20 / 21),
        ("luart", "SR", 20 / 21),
        ("drgbt603", "SR", 20 / 21),
        ("drgbt1k", "SR", 20 / 21),
        ("mv_rgbt", "SR", 20 / 21),
        ("rgbdt500", "SR", 20 / 21),
        ("rgbdt500_depth", "SR", 20 / 21),
        ("rgbdt500_depth_infrared", "SR", 20 / 21),
        ("coesot", "SR", 20 / 21),
        ("felt", "SR", 20 / 21),
        ("eventvot", "SR", 20 / 21),
        ("trackingnet", "SR", 20 / 21),
        ("lsotb_tir", "SR", 20 / 21),
        ("ptb_tir", "SR", 20 / 21),
        ("antiuav410", "AO", 1.0),
    ],
)
def test_what_a_perfect_tracker_reaches(benchmark, metric, expected):
    frames = np.arange(4) * LAYOUTS[benchmark].annotated_every
    truth = BenchmarkTruth(benchmark, {"car": GroundTruth(BOXES, BOXES, frames)}, {})
    scores = score({"car": BOXES}, truth)
    assert scores.metrics[metric] == pytest.approx(expected, abs=1e-12)
    assert list(scores.metrics)[: len(scores.protocol.metrics)] == list(scores.protocol.metrics)
    assert all(value == 1 for name, value in scores.metrics.items() if name.endswith("PR"))


def test_thresholds():
    gtot = get_protocol("gtot")
    assert len(gtot.success.thresholds()) == 51
    assert gtot.precision.thresholds()[gtot.precision.position()] == 5
    # as the package rgbt writes them
    assert gtot.precision.thresholds().tolist() == np.linspace(0, 25, 51).tolist()
    lasher = get_protocol("lasher")
    assert lasher.normalised.thresholds()[lasher.normalised.position()] == 0.2
    # (0:50)/100 of LasHeR's toolkit, to the last bit
    assert lasher.normalised.thresholds().tolist() == [k / 100 for k in range(51)]
    assert len(get_protocol("gtot", "rgbt").success.thresholds()) == 21


@pytest.mark.parametrize(
    ("benchmark", "protocol", "message"),
    [
        (
            "lasher",
            "matlab",
            "protocol must be one of 'official', 'rgbt', 'exclude_absent', got 'matlab'",
        ),
        ("lasot", "official", "benchmark must be one of 'gtot', .*, got 'lasot'"),
        ("got10k", "rgbt", "protocol 'rgbt' must be used with one of gtot, .*, got 'got10k'"),
    ],
)
def test_unknown_names(benchmark, protocol, message):
    with pytest.raises(ValueError, match=message):
        get_protocol(benchmark, protocol)
