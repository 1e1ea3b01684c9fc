import pytest
import torch
from torch import Tensor

from model_material import tiny
from rgbt_fusion.checks import ShapeError
from rgbt_fusion.export.step import IMAGE_INPUTS, MAP_OUTPUTS, TrackerStep, recorded_steps
from rgbt_fusion.frames.types import ImagePair


def test_a_step_is_the_model_with_a_window() -> None:
    model = tiny("ainet_tiny_128")
    step = TrackerStep(model)
    assert step.input_names == list(IMAGE_INPUTS) and step.output_names == list(MAP_OUTPUTS)
    (recorded,) = recorded_steps(step, 1)
    template, search = ImagePair(*recorded.inputs[:2]), ImagePair(*recorded.inputs[2:4])
    with torch.no_grad():
        out = model(template, search)
        found = step(*recorded.inputs[:4], torch.ones(8, 8))
    assert torch.equal(found["box_cxcywh_unit"], out.box_cxcywh_unit)
    assert torch.equal(recorded.outputs["box_cxcywh_unit"], model.decode(out, recorded.inputs[4]))
    for name in ("score_map", "size_map", "offset_map"):
        assert torch.equal(recorded.outputs[name], getattr(out, name))


def same_state(state: object, tensors: list[Tensor]) -> None:
    flat = [tensor for layer in state.layers for tensor in layer]
    assert len(flat) == len(tensors)
    for mine, given in zip(flat, tensors, strict=True):
        torch.testing.assert_close(mine, given)


@pytest.mark.parametrize("tmr", ["first", "per_layer"])
def test_a_memory_goes_in_and_out_as_tensors(tmr: str) -> None:
    model = tiny("tpmri_tiny_128", tmr=tmr, depth=2)
    step = TrackerStep(model, batch=2)
    assert len(step.state_names) == {"first": 2, "per_layer": 4}[tmr]
    assert all(tensor.shape == (2,) for tensor in step.initial_state)
    state = None
    for recorded in recorded_steps(step, 3):
        template, search = ImagePair(*recorded.inputs[:2]), ImagePair(*recorded.inputs[2:4])
        with torch.no_grad():
            out = model(template, search, state)
        torch.testing.assert_close(out.score_map, recorded.outputs["score_map"])
        state = out.state
        same_state(state, [recorded.outputs[f"next_{name}"] for name in step.state_names])


def test_a_sequence_starts_from_the_initial_state() -> None:
    step = TrackerStep(tiny("tpmri_tiny_128", depth=2))
    assert [float(tensor) for tensor in step.initial_state] == [0.5, 0.0]


def test_frames_differ_and_rows_are_targets_of_their_own() -> None:
    step = TrackerStep(tiny("two_stream_tiny_128", depth=1), batch=2)
    first, second = recorded_steps(step, 2)
    assert not torch.equal(first.inputs[2], second.inputs[2])
    assert torch.equal(first.inputs[0], second.inputs[0])
    assert not torch.equal(first.inputs[2][0], first.inputs[2][1])
    (other,) = recorded_steps(step, 1, seed=5)
    assert not torch.equal(first.inputs[2], other.inputs[2])


def test_a_batch_is_a_positive_number_and_a_window_has_the_size_of_the_map() -> None:
    model = tiny("two_stream_tiny_128", depth=1)
    with pytest.raises(ValueError, match="batch must be"):
        TrackerStep(model, batch=0)
    step = TrackerStep(model)
    (recorded,) = recorded_steps(step, 1)
    with pytest.raises(ShapeError, match=r"window must have shape \(S, S\) with S = 8"):
        step(*recorded.inputs[:4], torch.ones(4, 4))
