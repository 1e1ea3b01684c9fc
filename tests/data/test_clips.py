"""Clips: which frames they hold, and crops that agree with those the tracker cuts."""

from pathlib import Path

import numpy as np
import pytest
import torch

from rgbt_fusion.data.clips import DatasetClips, MixedClips, SyntheticClips
from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.frames.crop import crop_pair
from rgbt_fusion.frames.thermal import follow_range

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")


def write_lasher(
    root: Path, *, frames: int = 6, boxes: list[str] | None = None, bits: int = 8, size=(80, 60)
) -> Path:
    """A dataset in LasHeR's layout: one sequence of smooth frames and a box that moves."""
    for folder in ("visible", "infrared"):
        (root / "walk" / folder).mkdir(parents=True)
    for k in range(frames):
        plane = (np.add.outer(np.arange(60), np.arange(80)) + 5 * k) % 200
        rgb = np.stack([plane, plane // 2, 255 - plane], axis=2).astype(np.uint8)
        cv2.imwrite(str(root / "walk" / "visible" / f"{k:04}.png"), rgb)
        tir = (
            plane.astype(np.uint8)
            if bits == 8
            else (1000 + 100 * plane + 3000 * k).astype(np.uint16)
        )
        tir = cv2.resize(tir, size) if size != (80, 60) else tir
        cv2.imwrite(str(root / "walk" / "infrared" / f"{k:04}.png"), tir)
    lines = boxes or [f"{20 + k},15,20,16" for k in range(frames)]
    for name in ("init.txt", "visible.txt", "infrared.txt"):
        (root / "walk" / name).write_text("\n".join(lines) + "\n")
    return root


def draw(clips, seed=0, **options):
    return clips.draw(np.random.default_rng(seed), **({"length": 1, "max_gap": 200} | options))


def test_a_draw_is_a_function_of_the_generator():
    clips = SyntheticClips(sequences=5, frames=30)
    first, again, other = (draw(clips, seed) for seed in (3, 3, 4))
    assert first == again
    assert first != other


@pytest.mark.parametrize("length", [1, 3])
def test_clips_are_in_order_and_near_their_template(length):
    clips = SyntheticClips(sequences=5, frames=60, challenges=("missing",))
    for seed in range(30):
        clip = draw(clips, seed, length=length, max_gap=10)
        assert len(clip.searches) == length
        assert list(clip.searches) == sorted(set(clip.searches))
        assert all(abs(frame - clip.template) <= 10 for frame in clip.searches)


def test_a_sequence_shorter_than_a_clip_repeats_its_last_frame():
    clip = draw(SyntheticClips(sequences=1, frames=2), length=4)
    assert clip.searches == (0, 1, 1, 1)


@pytest.mark.parametrize("modality", ["rgb", "tir"])
def test_no_frame_is_chosen_in_which_the_only_modality_is_missing(modality):
    clips = SyntheticClips(sequences=4, frames=40, challenges=("missing",))
    absent = 0
    for seed in range(60):
        clip = draw(clips, seed, modality=modality)
        for frame in (clip.template, *clip.searches):
            images = clip.sequence.crop(frame, clip.sequence.box(frame, modality), 2.0, 16).images
            assert getattr(images, modality).any()
            absent += not all(image.any() for image in images)
    assert absent, "the other modality should be missing now and then"


def test_a_rendered_crop_is_that_of_the_frame():
    clips = SyntheticClips(sequences=3, frames=20, challenges=("none",))
    sequence = draw(clips).sequence
    box = sequence.box(7, "rgb")
    frame = sequence.sequence[7]
    crop, expected = sequence.crop(7, box, 4.0, 128), crop_pair(*frame, box, factor=4.0, size=128)
    assert crop.side_px == expected.side_px
    assert crop.image_size == expected.image_size
    target = torch.from_numpy(box)
    assert torch.allclose(crop.to_crop(target), expected.to_crop(target))
    # sensor noise falls elsewhere in a window
    for ours, theirs in zip(crop.images, expected.images, strict=True):
        assert (ours - theirs).abs().mean() < 0.15


def test_thermal_boxes_are_those_of_the_thermal_image():
    clips = SyntheticClips(sequences=1, frames=10, challenges=("misalignment",))
    sequence = draw(clips).sequence
    assert np.abs(sequence.box(3, "rgb") - sequence.box(3, "tir")).max() > 1


def test_an_absent_target_is_looked_for_in_another_sequence():
    clips = SyntheticClips(sequences=3, frames=20)
    for seed in range(20):
        clip = draw(clips, seed, length=2, absent=True)
        assert clip.absent is not None
        assert clip.absent.sequence.sequence.name != clip.sequence.sequence.name
        assert clip.absent.places == clip.searches
        plain = draw(clips, seed, length=2)
        assert (plain.sequence, plain.template, plain.absent) == (
            clip.sequence,
            clip.template,
            None,
        )


def test_a_synthetic_clip_is_drawn_from_120_frames():
    assert len(draw(SyntheticClips(sequences=1)).sequence.sequence) == 120


def test_a_short_sequence_without_the_target_is_searched_again_in_its_last_frame():
    clips = SyntheticClips(sequences=3, frames=3)
    clip = draw(clips, 0, length=5, absent=True)
    first, *others = clip.searches
    assert len(clip.searches) == 5
    assert others == sorted(others) and others[-3:] == [others[-1]] * 3
    assert first == 0


def test_an_absent_target_is_looked_for_where_the_dataset_marks_it(tmp_path):
    boxes = ["20,15,20,16", "21,15,20,16", "0,0,0,0", "0,0,0,0", "24,15,20,16", "25,15,20,16"]
    clips = DatasetClips(write_lasher(tmp_path, boxes=boxes), "lasher")
    found = set()
    for seed in range(20):
        clip = draw(clips, seed, absent=True)
        assert clip.absent is not None
        assert clip.absent.sequence is clip.sequence
        found |= set(clip.searches)
        # the last box before
        assert clip.absent.places == (1,)
        assert clip.absent.sequence.box(1, "both").tolist() == [21, 15, 20, 16]
    assert found == {2, 3}
    longer = draw(clips, length=3, absent=True)
    assert longer.searches == (2, 3, 3)


def test_a_box_without_width_is_not_trained_on(tmp_path):
    boxes = ["20,15,20,16", "21,15,20,16", "22,15,0,16", "nan,15,20,16", "24,15,20,16"]
    sequence = draw(DatasetClips(write_lasher(tmp_path, boxes=boxes), "lasher")).sequence
    assert sequence.usable("both").tolist() == [0, 1, 4]


def test_one_sequence_with_its_target_always_there_has_no_absent_samples(tmp_path):
    with pytest.raises(DataError, match=r"data\.absent must be 0 where one sequence is all"):
        draw(DatasetClips(write_lasher(tmp_path), "lasher"), absent=True)


def test_sources_are_mixed_by_weight():
    day = SyntheticClips(sequences=2, frames=5, challenges=("none",))
    night = SyntheticClips(sequences=2, frames=5, challenges=("night",))
    mixed = MixedClips([day, night], [1, 4])
    generator = np.random.default_rng(0)
    clips = [mixed.draw(generator, length=1, max_gap=5) for _ in range(400)]
    names = [clip.sequence.sequence.challenge for clip in clips]
    assert names.count("night") == pytest.approx(320, abs=30)
    assert all(clip.absent is None for clip in clips)
    assert mixed.draw(generator, length=1, max_gap=5, absent=True).absent is not None


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, -1.0], [1.0, float("nan")]])
def test_every_source_needs_a_weight(weights):
    with pytest.raises(ValueError, match="weights must be"):
        MixedClips([SyntheticClips(), SyntheticClips()], weights)


def test_the_last_share_of_the_sequences_is_of_the_wide_world():
    clips = SyntheticClips(sequences=20, frames=5, wide=0.25)
    drawn = [draw(clips, seed).sequence.sequence for seed in range(60)]
    assert {one.seed for one in drawn if one.wide} <= set(range(15, 20))
    assert any(one.wide for one in drawn)
    assert not any(
        draw(SyntheticClips(sequences=20), seed).sequence.sequence.wide for seed in (1, 2)
    )


def test_a_crop_of_the_wide_world_shows_no_more_than_the_frame_does():
    clips = SyntheticClips(sequences=1, frames=5, challenges=("none",), wide=1.0)
    clip = draw(clips)
    frame = clip.template
    x, y, width, height = clip.sequence.box(frame, "both")
    # a part of the target, so that the crop has fewer pixels than it is drawn with
    part = np.array([x, y, width / 2, height / 2])
    crop = clip.sequence.crop(frame, part, 2.0, 128)
    assert crop.side_px < 128
    whole = crop_pair(*clip.sequence.sequence[frame], part, factor=2.0, size=128)
    difference = (crop.images.rgb - whole.images.rgb).abs().mean()
    # both have noise of their own
    assert difference < 0.15
    assert crop.centre_px == whole.centre_px


def test_held_out_sequences_show_other_things():
    shown, held = (
        {
            draw(SyntheticClips(held_out=held), seed).sequence.sequence.plan.place
            for seed in range(40)
        }
        for held in (False, True)
    )
    assert not shown & held


def test_a_dataset_is_cropped_as_the_tracker_crops_it(tmp_path):
    clips = DatasetClips(write_lasher(tmp_path), "lasher")
    clip = draw(clips, max_gap=3)
    assert abs(clip.template - clip.searches[0]) <= 3
    box = clip.sequence.box(clip.template, "both")
    assert box.tolist() == [20 + clip.template, 15, 20, 16]
    crop = clip.sequence.crop(clip.template, box, 2.0, 64)
    expected = crop_pair(*clip.sequence.sequence[clip.template], box, factor=2.0, size=64)
    assert torch.equal(crop.images.rgb, expected.images.rgb)
    assert torch.equal(crop.images.tir, expected.images.tir)


def test_frames_without_a_target_are_left_out(tmp_path):
    boxes = ["10,10,20,20", "0,0,0,0", "nan,nan,nan,nan", "12,10,20,20"]
    clips = DatasetClips(write_lasher(tmp_path, frames=4, boxes=boxes), "lasher")
    chosen = {
        frame
        for seed in range(20)
        for frame in (draw(clips, seed).template, *draw(clips, seed).searches)
    }
    assert chosen == {0, 3}


def test_a_16_bit_sequence_is_scaled_as_a_tracker_scales_it(tmp_path):
    sequence = draw(DatasetClips(write_lasher(tmp_path, bits=16), "lasher")).sequence
    known = None
    for frame in range(6):
        rgb, tir = sequence.sequence[frame]
        known = follow_range(known, tir)
        box = sequence.box(frame, "both")
        trained = sequence.crop(frame, box, 2.0, 32).images.tir
        tracked = crop_pair(rgb, tir, box, factor=2.0, size=32, tir_range=known).images.tir
        # the level of this sequence rises by a sixth of its span per frame
        assert (trained - tracked).abs().max() < 0.5


def test_modalities_of_different_size_are_refused(tmp_path):
    sequence = draw(DatasetClips(write_lasher(tmp_path, size=(40, 30)), "lasher")).sequence
    with pytest.raises(
        DataError, match=r"walk: both modalities must have one size .* 80x60 and 40x30 at frame 1"
    ):
        sequence.crop(0, sequence.box(0, "both"), 2.0, 32)


def test_a_dataset_without_boxes_is_refused(tmp_path):
    write_lasher(tmp_path, frames=2, boxes=["0,0,0,0", "0,0,0,0"])
    with pytest.raises(DataError, match="data must hold sequences of lasher with boxes"):
        DatasetClips(tmp_path, "lasher")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"challenges": ("rain",)}, "challenges must be one of"),
        ({"challenges": ()}, "challenges must name at least one challenge"),
        ({"sequences": 0}, "sequences must be at least 1, got 0"),
        ({"wide": 1.5}, r"wide must be .*, got 1\.5"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        SyntheticClips(**options)


@pytest.mark.parametrize(("left_out", "modality"), [("visible", "tir"), ("infrared", "rgb")])
def test_a_dataset_of_one_modality_is_trained_on(tmp_path, left_out, modality):
    root = write_lasher(tmp_path)
    for path in (root / "walk" / left_out).iterdir():
        path.unlink()
    (root / "walk" / left_out).rmdir()
    clips = DatasetClips(root, "folder")
    for asked in ("both", modality):
        clip = draw(clips, modality=asked)
        box = clip.sequence.box(clip.template, asked)
        images = clip.sequence.crop(clip.template, box, 2.0, 16).images
        assert getattr(images, modality).any()
    other = "rgb" if modality == "tir" else "tir"
    with pytest.raises(DataError, match=f"data must hold images of {other} to train on them"):
        draw(clips, modality=other)


def test_what_is_left_out_of_a_training_is_told(tmp_path, caplog):
    boxes = ["10,10,20,20", "0,0,0,0", "9000,9000,40,40", "12,10,20,20", "-900,-900,2000,2000"]
    root = write_lasher(tmp_path, frames=5, boxes=boxes)
    (root / "broken" / "visible").mkdir(parents=True)
    clips = DatasetClips(root, "lasher")
    assert {frame for seed in range(9) for frame in draw(clips, seed).searches} == {0, 3}
    assert clips.notices[0].startswith("not trained on: ")
    assert clips.notices[1].startswith(
        "3 boxes without size, outside of the image or far larger are not"
    )
    assert [record.getMessage() for record in caplog.records] == [
        f"{root}: {notice}" for notice in clips.notices
    ]


def test_boxes_at_the_edge_of_the_image_are_trained_on(tmp_path):
    """The image is 80 x 60: a part of a pixel must be inside, and twice its size is the limit."""
    boxes = [
        "10,10,20,20",
        "-19.5,10,20,20",
        "10,-19.5,20,20",
        "79.5,10,20,20",
        "10,59.5,20,20",
        "0,0,160,120",
        "-20,10,20,20",
        "80,10,20,20",
        "0,0,160.5,120",
    ]
    root = write_lasher(tmp_path, frames=len(boxes), boxes=boxes)
    sequence = draw(DatasetClips(root, "lasher")).sequence
    assert sequence.usable("both").tolist() == [0, 1, 2, 3, 4, 5]
    assert sequence.left_out == 3


@pytest.mark.parametrize("modality", ["both", "rgb", "tir"])
def test_no_clip_is_drawn_of_what_is_held_out(tmp_path, modality):
    write_lasher(tmp_path)
    (tmp_path / "walk").rename(tmp_path / "run")
    write_lasher(tmp_path)
    clips = DatasetClips(tmp_path, "lasher")

    def drawn() -> set[str]:
        return {draw(clips, seed, modality=modality).sequence.sequence.name for seed in range(20)}

    assert drawn() == {"run", "walk"}
    clips.hold_out(["walk"])
    assert drawn() == {"run"}
    with pytest.raises(DataError, match="data must hold sequences besides the 1 of the validation"):
        clips.hold_out(["run"])
