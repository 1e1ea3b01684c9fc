"""Samples: functions of seed, step and place alone, whichever process makes them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation_material import write_dataset
from rgbt_fusion.data.clips import DatasetClips, SyntheticClips
from rgbt_fusion.frames.crop import IMAGENET_MEAN, IMAGENET_STD
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.synthetic.plan import Challenge
from rgbt_fusion.training import AugmentationConfig, DataConfig, TrainConfig, samples
from rgbt_fusion.training.augmentation import (
    Misalignment,
    fail,
    is_blind,
    rotate_offset,
    rotate_pair,
)
from rgbt_fusion.training.samples import Batch, Sampler, batches, open_clips, with_layouts
from rgbt_fusion.weights.pretrained import create_model

PLAIN = AugmentationConfig(flip=0.0, grey=0.0, brightness=0.0)


def sampler(**changes) -> Sampler:
    settings = {
        "model": "ostrack_tiny_128",
        "data": DataConfig(sequences=4, frames=20, workers=0),
    } | changes
    config = TrainConfig(**settings)
    return Sampler(config, open_clips(config, "synthetic"), 32, 64, 4.0)


def tensors(batch: Batch) -> list[torch.Tensor]:
    return [
        *batch.template,
        *(image for pair in batch.searches for image in pair),
        *batch.boxes_cxcywh_unit,
        # NaN is not equal to itself
        *(seen.nan_to_num(-1.0) for seen in batch.seen),
        *(offset.nan_to_num(-9.0) for offset in batch.offsets),
    ]


def same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(other), strict=True))


def test_a_sample_depends_on_seed_step_and_place_alone():
    first, again = sampler(), sampler()
    again.batch(9, 0, 3)
    assert same(first.batch(5, 0, 3), again.batch(5, 0, 3))
    assert not same(first.batch(5, 0, 3), first.batch(6, 0, 3))
    assert not same(first.batch(5, 0, 3), first.batch(5, 1, 4))
    assert not same(first.batch(5, 0, 3), sampler(seed=1).batch(5, 0, 3))


def test_parts_of_a_batch_are_the_batch():
    one = sampler()
    whole, parts = one.batch(2, 0, 4), [one.batch(2, 0, 2), one.batch(2, 2, 4)]
    for a, *b in zip(tensors(whole), *map(tensors, parts), strict=True):
        assert torch.equal(a, torch.cat(b))


def test_worker_processes_give_the_same_batches_in_order():
    alone = sampler()
    config = replace(alone.config, data=replace(alone.config.data, workers=2))
    shared = replace(alone, config=config)
    made = list(batches(shared, 3, 8, start=0, stop=2))
    assert len(made) == 5
    for step, batch in enumerate(made, 3):
        assert same(batch, alone.batch(step, 0, 2))


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_sample_meets_reaches_the_caller_as_it_was(workers):
    class Broken:
        def draw(self, generator, **options):
            raise ValueError("the image is gone")

    one = replace(sampler(data=DataConfig(workers=workers)), clips=Broken())
    with pytest.raises(ValueError, match=r"^the image is gone$"):
        next(iter(batches(one, 0, 2, start=0, stop=1)))


def test_the_box_is_around_the_target():
    """Where the search crop is cut without jitter, the box is in the middle, as large as the factor
    says."""
    still = AugmentationConfig(
        flip=0.0, grey=0.0, brightness=0.0, centre_jitter=0.0, scale_jitter=0.0
    )
    batch = sampler(augmentation=still).batch(0, 0, 8)
    boxes = batch.boxes_cxcywh_unit[0]
    assert torch.allclose(boxes[:, :2], torch.full((8, 2), 0.5), atol=0.03)
    assert torch.allclose(boxes[:, 2:].prod(1).sqrt(), torch.full((8,), 0.25), atol=0.02)


def test_a_flip_mirrors_template_and_search_together():
    config = AugmentationConfig(grey=0.0, brightness=0.0, flip=1.0)
    straight, mirrored = (
        sampler(augmentation=PLAIN).sample(1, 0),
        sampler(augmentation=config).sample(1, 0),
    )
    assert torch.equal(mirrored.template.tir, straight.template.tir.flip(-1))
    assert torch.equal(mirrored.searches[0].rgb, straight.searches[0].rgb.flip(-1))
    assert torch.allclose(
        mirrored.boxes_cxcywh_unit[0][:, 0], 1 - straight.boxes_cxcywh_unit[0][:, 0]
    )


def test_clips_have_as_many_search_frames_as_asked_for():
    batch = sampler(clip_length=3).batch(0, 0, 2)
    assert len(batch.searches) == len(batch.boxes_cxcywh_unit) == 3
    assert batch.searches[2].tir.shape == (2, 3, 64, 64)


@pytest.mark.parametrize(("modality", "other"), [("rgb", "tir"), ("tir", "rgb")])
def test_one_modality_alone_leaves_the_other_blank(modality, other):
    batch = sampler(modality=modality).batch(0, 0, 4)
    for pair in (batch.template, *batch.searches):
        assert not getattr(pair, other).any()
        assert all(getattr(pair, modality).flatten(1).any(1))


def test_either_modality_stands_in_both_places():
    batch = sampler(
        modality="either", augmentation=PLAIN, data=DataConfig(sequences=4, challenges=("none",))
    ).batch(0, 0, 12)
    assert torch.equal(batch.template.rgb, batch.template.tir)
    assert torch.equal(batch.searches[0].rgb, batch.searches[0].tir)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    image = batch.template.rgb * std + mean
    colourless = (image.amax(1) - image.amin(1)).flatten(1).amax(1) < 1e-5
    assert 0 < colourless.sum() < 12, "thermal images have no colour, the others do"


def batch_with_one_camera(challenge: Challenge, samples: int) -> Batch:
    """Return samples of which every search crop shows one modality, and not the other."""
    batch = sampler(
        augmentation=AugmentationConfig(missing=1.0),
        data=DataConfig(sequences=4, challenges=(challenge,)),
    ).batch(0, 0, samples)
    rgb_is_seen, tir_is_seen = (image.flatten(1).any(1) for image in batch.searches[0])
    assert torch.equal(rgb_is_seen, ~tir_is_seen)
    return batch


def test_a_camera_fails_now_and_then():
    template = batch_with_one_camera("none", 6).template
    assert all(image.flatten(1).any(1).all() for image in template)


def test_the_only_camera_of_a_frame_does_not_fail():
    batch_with_one_camera("missing", 24)


def test_a_misaligned_camera_is_moved_in_template_and_search_alike(monkeypatch):
    views: list[np.ndarray] = []
    monkeypatch.setattr(
        Misalignment, "view", lambda self, around, height: views.append(around) or around + 8.0
    )
    data = DataConfig(sequences=4, challenges=("none",))
    still = replace(PLAIN, centre_jitter=0.0, scale_jitter=0.0)
    here = sampler(augmentation=still, data=data)
    there = sampler(augmentation=replace(still, misalignment=0.4), data=data)
    clip = here.clips.draw(np.random.default_rng(0), length=1, max_gap=20)
    monkeypatch.setattr(SyntheticClips, "draw", lambda *arguments, **options: clip)
    aligned, misaligned = here.sample(0, 0), there.sample(0, 0)
    assert torch.equal(misaligned.boxes_cxcywh_unit[0], aligned.boxes_cxcywh_unit[0])
    frames = (clip.template, clip.searches[0])
    crops = ((aligned.template, misaligned.template), (aligned.searches[0], misaligned.searches[0]))
    for frame, around, factor, (one, other) in zip(frames, views, (2.0, 4.0), crops, strict=True):
        np.testing.assert_array_equal(around, clip.sequence.box(frame, "both"))
        moved = clip.sequence.crop(frame, around + 8.0, factor, one.rgb.shape[-1])
        assert torch.equal(other.rgb, one.rgb)
        assert not torch.equal(other.tir, one.tir)
        assert torch.equal(other.tir, moved.images.tir)


def test_a_single_modality_is_never_misaligned():
    one, other = (
        sampler(augmentation=replace(PLAIN, misalignment=shift, failing=shift), modality="tir")
        for shift in (0.0, 1.0)
    )
    assert same(one.batch(0, 0, 4), other.batch(0, 0, 4))


def test_one_modality_of_the_search_crops_fails():
    data = DataConfig(sequences=4, challenges=("none",))
    still = replace(PLAIN, centre_jitter=0.0, scale_jitter=0.0)
    sound = sampler(augmentation=still, data=data)
    failing = sampler(augmentation=replace(still, failing=1.0), data=data)
    changed = []
    for number in range(24):
        here, there = sound.sample(0, number), failing.sample(0, number)
        assert torch.equal(here.template.rgb, there.template.rgb)
        pairs = zip(here.searches[0], there.searches[0], strict=True)
        changed.append(tuple(not torch.equal(a, b) for a, b in pairs))
    kinds = set(changed)
    assert {(True, False), (False, True), (True, True)} <= kinds, "each camera, and both swapped"


def test_a_late_camera_that_is_misaligned_stays_where_it_is(monkeypatch):
    monkeypatch.setattr(Misalignment, "view", lambda self, around, height: around + 8.0)
    monkeypatch.setattr(samples, "_FAILURES", ("late",))
    monkeypatch.setattr(Sampler, "_earlier", lambda self, clip, frame, generator: clip.template)
    data = DataConfig(sequences=4, challenges=("none",))
    still = replace(PLAIN, centre_jitter=0.0, scale_jitter=0.0)
    one = sampler(augmentation=replace(still, misalignment=0.4, failing=1.0), data=data)
    clip = one.clips.draw(np.random.default_rng(1), length=1, max_gap=20)
    assert clip.template != clip.searches[0]
    monkeypatch.setattr(SyntheticClips, "draw", lambda *arguments, **options: clip)
    around = clip.sequence.box(clip.searches[0], "both")
    late_rgb = clip.sequence.crop(clip.template, around, 4.0, 64).images.rgb
    late_tir = clip.sequence.crop(clip.template, around + 8.0, 4.0, 64).images.tir
    now = clip.sequence.crop(clip.searches[0], around + 8.0, 4.0, 64).images.tir
    seen = set()
    for number in range(8):
        rgb, tir = one.sample(0, number).searches[0]
        if torch.equal(tir, now):
            assert torch.equal(rgb, late_rgb)
            seen.add("rgb")
        else:
            assert torch.equal(tir, late_tir)
            seen.add("tir")
    assert seen == {"rgb", "tir"}


def test_a_rotation_is_part_of_the_sample():
    turned = sampler(augmentation=replace(PLAIN, rotation=30.0)).batch(0, 0, 2)
    straight = sampler(augmentation=PLAIN).batch(0, 0, 2)
    assert torch.equal(turned.template.rgb, straight.template.rgb)
    assert not torch.equal(turned.boxes_cxcywh_unit[0], straight.boxes_cxcywh_unit[0])


def test_samples_are_cut_as_the_model_takes_them():
    config = TrainConfig(model="ostrack_tiny_128", overrides={"search_factor": 5.0})
    model = create_model("ostrack_tiny_128", search_factor=5.0)
    one = Sampler.of(config, open_clips(config, "synthetic"), model)
    assert (one.template_size, one.search_size, one.search_factor) == (64, 128, 5.0)


def test_batches_move_to_a_precision():
    batch = sampler().batch(0, 0, 2).to(torch.device("cpu"), torch.float64)
    assert {tensor.dtype for tensor in tensors(batch)} == {torch.float64}
    assert np.isfinite(batch.template.rgb.numpy()).all()


@pytest.mark.parametrize(
    ("layout", "data", "message"),
    [
        (
            "synthetic",
            "somewhere",
            "data must be 'synthetic', as data.layout says, got 'somewhere'",
        ),
        (
            "lasher",
            None,
            "data must be the folder of a dataset of layout 'lasher', .* got none",
        ),
        ("lasher", ["one", "two"], "data must be one folder for each of 1 datasets.* got 2"),
    ],
)
def test_data_and_layout_must_agree(layout, data, message):
    with pytest.raises(ValueError, match=message):
        open_clips(TrainConfig(model="ostrack_tiny_128", data=DataConfig(layout=layout)), data)


def test_synthetic_data_is_its_own_layout():
    config = TrainConfig(model="ostrack_tiny_128", data=DataConfig(layout="lasher"))
    assert isinstance(open_clips(config, "synthetic"), SyntheticClips)
    assert with_layouts(config, "synthetic").data.layout == "synthetic"
    assert isinstance(open_clips(TrainConfig(model="ostrack_tiny_128")), SyntheticClips)


def test_a_share_of_the_samples_does_not_show_the_target():
    data = DataConfig(sequences=5, frames=20, challenges=("none",), workers=0, absent=0.25)
    mixed = sampler(data=data, clip_length=2).batch(0, 0, 40)
    gone = torch.stack([boxes.isnan().all(1) for boxes in mixed.boxes_cxcywh_unit])
    # all frames of a clip alike, and no other box is NaN
    assert torch.equal(gone[0], gone[1])
    assert 4 <= int(gone[0].sum()) <= 16
    assert torch.stack(mixed.boxes_cxcywh_unit)[~gone].isfinite().all()
    again = sampler(data=data, clip_length=2).batch(0, 0, 40)
    assert torch.equal(again.searches[1].tir, mixed.searches[1].tir)


def test_a_list_of_names_is_for_datasets():
    with pytest.raises(ValueError, match="names must be absent with synthetic data"):
        open_clips(TrainConfig(model="ostrack_tiny_128"), "synthetic", names="list.txt")


def test_a_list_of_sequences_may_have_any_name(tmp_path, monkeypatch):
    root = write_dataset(tmp_path / "data", {"walk": 3, "run": 3})
    monkeypatch.chdir(tmp_path)
    Path("None").write_text("walk\n")
    config = TrainConfig(model="ostrack_tiny_128", data=DataConfig(layout="rgbt234"))
    listed = open_clips(config, root, names="None")
    assert isinstance(listed, DatasetClips)
    assert [stored.sequence.name for stored in listed.sequences] == ["walk"]
    assert len(open_clips(config, root, names="all").sequences) == 2  # pyright: ignore


def test_a_dataset_may_be_aligned_by_a_file(tmp_path):
    root = write_dataset(tmp_path / "data", {"walk": 3})
    known = tmp_path / "align.json"
    known.write_text(json.dumps({"tir_from_rgb": [[1, 0, 5], [0, 1, 0], [0, 0, 1]]}))
    config = TrainConfig(model="ostrack_tiny_128", data=DataConfig(layout="rgbt234"))
    plain = open_clips(config, root).draw(np.random.default_rng(0), length=1, max_gap=2)
    moved = open_clips(config, root, align=known).draw(
        np.random.default_rng(0), length=1, max_gap=2
    )
    box = np.array([10.0, 10, 20, 20])
    shifted = box + np.array([5.0, 0, 0, 0])
    before = plain.sequence.crop(0, shifted, 1.0, 20).images
    after = moved.sequence.crop(0, box, 1.0, 20).images
    assert torch.allclose(after.tir, before.tir)
    assert not torch.allclose(after.rgb, before.rgb)


def test_an_alignment_is_for_datasets():
    with pytest.raises(ValueError, match="align must be absent with synthetic data"):
        open_clips(TrainConfig(model="ostrack_tiny_128"), "synthetic", align="auto")


def failing(monkeypatch, kind: str, **changes) -> Sampler:
    """A sampler every sample of which fails in one way."""
    monkeypatch.setattr(samples, "_FAILURES", (kind,))
    settings = {
        "augmentation": replace(PLAIN, failing=1.0, centre_jitter=0.0, scale_jitter=0.0),
        "data": DataConfig(sequences=6, challenges=("none",), workers=0),
    }
    return sampler(**(settings | changes))


@pytest.mark.parametrize("kind", ["flat", "noise", "foreign"])
def test_a_sample_says_which_camera_does_not_show_the_target(monkeypatch, kind):
    one = failing(monkeypatch, kind)
    sound = replace(one, config=replace(one.config, augmentation=PLAIN))
    assert sound.sample(0, 0).seen[0].tolist() == [[1.0, 1.0]]
    states = set()
    for number in range(12):
        here = one.sample(0, number)
        seen = here.seen[0].tolist()[0]
        states.add(tuple(seen))
        if kind == "flat":
            level = [
                image.std() < 1e-5
                for image in (here.searches[0].rgb[:, 0], here.searches[0].tir[:, 0])
            ]
            assert level == [value == 0.0 for value in seen]
    assert states == {(0.0, 1.0), (1.0, 0.0)}


def test_the_image_of_a_foreign_camera_is_one_of_another_sequence(monkeypatch):
    one = failing(monkeypatch, "foreign")
    clip, other = (
        one.clips.draw(np.random.default_rng(number), length=1, max_gap=20) for number in (0, 3)
    )
    assert clip.sequence is not other.sequence
    drawn = iter([clip, clip, other])
    monkeypatch.setattr(SyntheticClips, "draw", lambda *arguments, **options: next(drawn))
    here = one.sample(0, 0)
    frame = other.searches[0]
    there = other.sequence.crop(frame, other.sequence.box(frame, "both"), 4.0, 64).images
    failed = here.seen[0][0].tolist().index(0.0)
    assert torch.equal(here.searches[0][failed], there[failed])


def test_of_a_single_sequence_nobody_knows_what_a_foreign_image_shows(monkeypatch):
    data = DataConfig(sequences=1, challenges=("none",), workers=0)
    one = failing(monkeypatch, "foreign", data=data)
    assert one.sample(0, 0).seen[0].isnan().sum() == 1


def test_a_late_camera_shows_an_earlier_frame_and_is_blind_where_the_target_has_moved(monkeypatch):
    one = failing(
        monkeypatch, "late", data=DataConfig(sequences=6, challenges=("none",), workers=0)
    )
    states = set()
    for number in range(40):
        clip = one.clips.draw(np.random.default_rng(number), length=1, max_gap=90)
        (frame,) = clip.searches
        earlier = one._earlier(clip, frame, np.random.default_rng(number))
        assert frame - samples.LONGEST_DELAY <= earlier < frame or earlier == clip.template
        states.add(str(one.sample(1, number).seen[0].sort().values.tolist()))
    assert states == {"[[0.0, 1.0]]", "[[1.0, nan]]"}


def test_too_much_light_blinds_where_half_of_the_picture_is_white(monkeypatch):
    bright, dark = torch.full((1, 3, 8, 8), 1.0), torch.full((1, 3, 8, 8), -2.0)
    assert is_blind(fail(bright, "saturated", np.random.default_rng(0)))
    assert not is_blind(fail(dark, "saturated", np.random.default_rng(0)))
    one = failing(monkeypatch, "saturated")
    for number in range(8):
        here = one.sample(0, number)
        for image, seen in zip(here.searches[0], here.seen[0][0].tolist(), strict=True):
            assert is_blind(image) == (seen == 0.0)


def test_of_swapped_cameras_and_absent_targets_nobody_says_who_sees(monkeypatch):
    assert failing(monkeypatch, "swapped").sample(0, 0).seen[0].isnan().all()
    data = DataConfig(sequences=6, challenges=("none",), workers=0, absent=1.0)
    assert failing(monkeypatch, "flat", data=data).sample(0, 0).seen[0].isnan().all()


def test_a_blank_image_shows_nothing():
    blank = sampler(
        augmentation=AugmentationConfig(missing=1.0),
        data=DataConfig(sequences=4, challenges=("none",)),
    ).batch(0, 0, 6)
    for pair, seen in zip(blank.searches, blank.seen, strict=True):
        shows = torch.stack([image.flatten(1).any(1) for image in pair], dim=1)
        assert torch.equal(seen, shows.float())


def test_a_sample_says_how_far_its_thermal_crop_is_off(monkeypatch):
    data = DataConfig(sequences=4, challenges=("none",), workers=0)
    still = replace(PLAIN, centre_jitter=0.0, scale_jitter=0.0)
    aligned = sampler(augmentation=still, data=data)
    assert aligned.sample(0, 0).offsets[0].tolist() == [[0.0, 0.0]]
    shift = Misalignment((0.3, -0.2), 1.0)
    monkeypatch.setattr(samples, "draw_misalignment", lambda *arguments: shift)
    clip = aligned.clips.draw(np.random.default_rng(0), length=1, max_gap=20)
    monkeypatch.setattr(SyntheticClips, "draw", lambda *arguments, **options: clip)
    box = clip.sequence.box(clip.searches[0], "both")
    # the thermal camera looks to the right and up: it shows the target to the left and below
    expected = box[3] * np.array((-0.3, 0.2)) / (4 * np.sqrt(box[2] * box[3]))
    # corners of crops are whole pixels
    off = aligned.sample(0, 0).offsets[0]
    np.testing.assert_allclose(off.numpy(), expected[None], atol=0.03)
    assert (off[0].numpy() * expected > 0).all()
    mirrored = sampler(augmentation=replace(still, flip=1.0), data=data).sample(0, 0)
    assert torch.equal(mirrored.offsets[0], off * torch.tensor((-1.0, 1.0)))


def test_an_offset_is_turned_as_the_pictures_are():
    box = torch.tensor([[0.75, 0.5, 0.1, 0.1]])
    blank = ImagePair(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))
    for degrees in (90.0, -30.0):
        _, turned = rotate_pair(blank, box, degrees)
        offset = rotate_offset(box[:, :2] - 0.5, degrees)
        torch.testing.assert_close(offset, turned[:, :2] - 0.5)


def test_the_offset_is_that_of_the_pictures(monkeypatch):
    """The thermal image of a misaligned crop, looked at so much farther on, is the aligned one."""
    data = DataConfig(sequences=4, challenges=("none",), workers=0)
    still = replace(PLAIN, centre_jitter=0.0, scale_jitter=0.0)
    one = sampler(augmentation=still, data=data)
    clip = one.clips.draw(np.random.default_rng(0), length=1, max_gap=20)
    monkeypatch.setattr(SyntheticClips, "draw", lambda *arguments, **options: clip)
    aligned = one.sample(0, 0).searches[0].tir
    shift = Misalignment((0.4, 0.3), 1.0)
    monkeypatch.setattr(samples, "draw_misalignment", lambda *arguments: shift)
    misaligned = one.sample(0, 0)
    x, y = (64 * misaligned.offsets[0][0]).round().int().tolist()
    assert x < 0
    assert y < 0
    there = misaligned.searches[0].tir.roll((-x, -y), dims=(3, 2))
    inside = (..., slice(16, 48), slice(16, 48))
    after = (there - aligned)[inside].square().mean()
    before = (misaligned.searches[0].tir - aligned)[inside].square().mean()
    assert after < 0.3 * before


def test_where_the_world_is_misaligned_the_offset_is_that_of_its_boxes():
    data = DataConfig(sequences=4, challenges=("misalignment",), workers=0)
    one = sampler(augmentation=replace(PLAIN, centre_jitter=0.0, scale_jitter=0.0), data=data)
    offsets = torch.cat([one.sample(0, number).offsets[0] for number in range(6)])
    assert (offsets.norm(dim=-1) > 0.01).all()


def test_of_a_single_modality_there_is_no_offset():
    assert sampler(modality="tir").sample(0, 0).offsets[0].isnan().all()
