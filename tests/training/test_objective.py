"""What a step minimises: clips, their state, and what the terms are made of."""

import pytest
import torch

from one_training import SMALL, small_training
from rgbt_fusion.losses.alignment import alignment_loss
from rgbt_fusion.losses.localization import LocalizationLoss
from rgbt_fusion.losses.reliability import reliability_loss
from rgbt_fusion.training.distributed import Processes
from rgbt_fusion.training.objective import LocalizationObjective, mean_iou, shared_positives
from rgbt_fusion.training.samples import Batch, Sampler, open_clips
from rgbt_fusion.weights.pretrained import create_model

ALONE = Processes(0, 1)


def make_batch(**changes) -> Batch:
    config = small_training(**changes)
    return Sampler(config, open_clips(config, "synthetic"), 32, 64, 4.0).batch(0, 0, 2)


def test_the_terms_are_those_of_the_loss():
    batch, config = make_batch(), small_training()
    model = create_model("ostrack_tiny_128", **SMALL).eval()
    terms = LocalizationObjective(model, config.loss, ALONE)(batch)
    out = model(batch.template, batch.searches[0])
    expected = LocalizationLoss()(out.score_map, out.box_cxcywh_unit, batch.boxes_cxcywh_unit[0])
    for name, value in zip(("loss", "focal", "giou", "l1"), expected, strict=True):
        assert torch.allclose(terms[name], value)
    assert terms["loss"].requires_grad
    assert 0 <= terms["iou"] <= 1


def test_weights_are_the_configs():
    batch = make_batch()
    config = small_training(loss={"focal_weight": 0.0, "giou_weight": 0.0, "l1_weight": 3.0})
    terms = LocalizationObjective(
        create_model("ostrack_tiny_128", **SMALL).eval(), config.loss, ALONE
    )(batch)
    assert torch.allclose(terms["loss"], 3 * terms["l1"])


def test_a_state_is_handed_from_frame_to_frame():
    model, calls = create_model("ostrack_tiny_128", **SMALL).eval(), []

    class Remembering(torch.nn.Module):
        def embed_template(self, template):
            return model.embed_template(template)

        def forward(self, template, search, state, *, keep_ratio):
            calls.append((state, keep_ratio))
            return model(template, search)._replace(state=len(calls))

    LocalizationObjective(Remembering(), small_training().loss, ALONE)(
        make_batch(clip_length=3), 0.8
    )
    assert calls == [(None, 0.8), (1, 0.8), (2, 0.8)]


def test_a_memory_learns_from_clips_of_two_frames():
    """The weights with which TMR reads its history get a gradient from the second frame on."""
    for length in (1, 2):
        torch.manual_seed(0)
        model = create_model("tpmri_tiny_128", **SMALL)
        objective = LocalizationObjective(model, small_training().loss, ALONE)
        objective(make_batch(clip_length=length))["loss"].backward()
        # what fc1 reads: the responses of RGB and TIR, then difference and weight of the previous
        # frame
        difference = model.tmr.fc1.weight.grad[:, 2]
        assert bool(difference.any()) == (length == 2)


def test_one_process_counts_its_own_positives():
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.2], [1.7, 0.5, 0.2, 0.2]])
    assert shared_positives(boxes, 8, ALONE) is None


def test_the_overlap_is_that_of_boxes():
    one = torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.5, 0.5, 0.2, 0.2]], requires_grad=True)
    other = torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.6, 0.5, 0.2, 0.2]])
    found = mean_iou(one, other)
    assert found.item() == pytest.approx((1 + 1 / 3) / 2)
    assert not found.requires_grad


def test_a_network_learns_which_modality_shows_the_target():
    batch = make_batch()._replace(seen=(torch.tensor([[1.0, 0.0], [torch.nan, 1.0]]),))
    config = small_training(loss={"reliability_weight": 3.0})
    model = create_model("two_stream_tiny_128", reliability=[0], **SMALL).eval()
    objective = LocalizationObjective(model, config.loss, ALONE)
    terms = objective(batch)
    assert tuple(terms) == objective.names == ("loss", "focal", "giou", "l1", "iou", "reliability")
    trusted = model.encode(batch.template, batch.searches[0]).reliability
    assert trusted is not None
    boxes = batch.boxes_cxcywh_unit[0]
    judged = reliability_loss(trusted, batch.seen[0], box_cxcywh_unit=boxes)
    assert torch.allclose(terms["reliability"], judged)
    localized = terms["focal"] + 2 * terms["giou"] + 5 * terms["l1"]
    assert torch.allclose(terms["loss"], localized + 3 * terms["reliability"])
    terms["loss"].backward()
    for name, parameter in model.reliability.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_where_nothing_is_known_or_wanted_the_reliability_adds_nothing():
    model = create_model("two_stream_tiny_128", reliability=[0], **SMALL).eval()
    unknown = make_batch()._replace(seen=())
    terms = LocalizationObjective(model, small_training().loss, ALONE)(unknown)
    assert terms["reliability"] == 0
    off = small_training(loss={"reliability_weight": 0.0}).loss
    assert "reliability" not in LocalizationObjective(model, off, ALONE).names
    without = create_model("two_stream_tiny_128", **SMALL).eval()
    assert "reliability" not in LocalizationObjective(without, small_training().loss, ALONE).names


def test_a_network_learns_how_far_its_thermal_crop_is_off():
    batch = make_batch()._replace(
        offsets=(torch.tensor([[0.1, -0.2], [0.05, 0.3]]),),
        seen=(torch.tensor([[1.0, 1.0], [0.0, 1.0]]),),
    )
    config = small_training(loss={"alignment_weight": 3.0})
    model = create_model("two_stream_tiny_128", alignment=2, reliability=[0], **SMALL).eval()
    objective = LocalizationObjective(model, config.loss, ALONE)
    terms = objective(batch)
    assert tuple(terms) == objective.names
    assert objective.names[-2:] == ("reliability", "alignment")
    estimate = model.encode(batch.template, batch.searches[0]).alignment
    assert estimate is not None
    # four cells along a side of the crop
    off = alignment_loss(*estimate, 4 * batch.offsets[0], batch.seen[0])
    assert torch.allclose(terms["alignment"], off)
    localized = terms["focal"] + 2 * terms["giou"] + 5 * terms["l1"] + terms["reliability"]
    assert torch.allclose(terms["loss"], localized + 3 * terms["alignment"])
    terms["loss"].backward()
    for name, parameter in model.alignment.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_where_no_offset_is_known_or_wanted_the_alignment_adds_nothing():
    model = create_model("two_stream_tiny_128", alignment=2, **SMALL).eval()
    unknown = make_batch()._replace(offsets=())
    terms = LocalizationObjective(model, small_training().loss, ALONE)(unknown)
    assert terms["alignment"] == 0
    terms["loss"].backward()
    assert model.alignment.of_rgb.weight.grad is not None
    off = small_training(loss={"alignment_weight": 0.0}).loss
    assert "alignment" not in LocalizationObjective(model, off, ALONE).names
    without = create_model("two_stream_tiny_128", **SMALL).eval()
    assert "alignment" not in LocalizationObjective(without, small_training().loss, ALONE).names
