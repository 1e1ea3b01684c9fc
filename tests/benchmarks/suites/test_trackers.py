import pytest
import torch

from benchmarks.suites.trackers import (
    FORMS,
    TRACKERS,
    build,
    frame_step,
    network_step,
    parse,
)
from rgbt_fusion.models.presets import list_models

SLOW_FORMS = ("compiled", "ONNX Runtime", "ONNX Runtime, int8")
"""Forms that take tens of seconds to make; the export and the compilation have tests of their
own."""


def test_every_model_is_measured():
    measured = {preset.name.format("tiny_128") for preset in TRACKERS.values()}
    assert {name for name in list_models() if "tiny_128" in name} == measured


@pytest.mark.parametrize("tracker", TRACKERS)
def test_a_tracker_can_be_built_and_run(tracker):
    score = network_step(f"{tracker}: tiny_128", batch=2)()
    assert score.shape == (2, 1, 8, 8)
    assert torch.isfinite(score).all()


@pytest.mark.parametrize("form", [form for form in FORMS if form not in SLOW_FORMS])
def test_a_form_computes_the_same(form):
    torch.manual_seed(0)
    expected = network_step("OSTrack: tiny_128")()
    torch.manual_seed(0)
    found = network_step(f"OSTrack: tiny_128, {form}")()
    torch.testing.assert_close(found, expected, rtol=0, atol=0.01 if form == "int8" else 1e-5)


def test_ostrack_keeps_its_candidates_unless_it_says_otherwise():
    assert build("OSTrack: tiny_128").settings.keep_ratio == 1.0
    assert build("OSTrack, elimination: tiny_128").settings.keep_ratio == 0.7


def test_a_frame_is_tracked_alike_every_time():
    step = frame_step(
        "AINet, compact: tiny_128", height=96, width=128, dtype=torch.float32, device="cpu"
    )
    assert torch.equal(step(), step())


@pytest.mark.parametrize(
    ("contender", "message"),
    [
        ("nobody: tiny_128", "tracker must be one of .*'nobody'"),
        ("OSTrack: tiny_128, folded", "form must be one of .*'folded'"),
    ],
)
def test_what_there_is_not_is_refused(contender, message):
    with pytest.raises(ValueError, match=message):
        parse(contender)
