"""A study of a few steps: nothing is done twice, and everything is trained as its row says."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.study import alignments
from benchmarks.study import trials as study_trials
from benchmarks.study.records import StudySettings, read_trials
from benchmarks.study.trials import RESULTS, make_config, network_ms, run_study
from benchmarks.study.variants import BACKBONE, VARIANTS
from rgbt_fusion.alignment.estimate import Alignment
from rgbt_fusion.evaluation.held_out import score_tracker
from rgbt_fusion.weights.checkpoints import save_checkpoint
from rgbt_fusion.weights.pretrained import create_model

TINY = StudySettings(steps=2, batch_size=2, backbone_steps=2, sequences=1, frames=2)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    path = tmp_path_factory.mktemp("study") / "backbone.safetensors"
    save_checkpoint(create_model(BACKBONE.model, **BACKBONE.overrides), path)
    return path


@pytest.mark.parametrize("name", VARIANTS)
def test_a_row_is_a_training(name):
    variant = VARIANTS[name]
    config = make_config(variant, 3, TINY)
    assert (config.model, config.modality, config.seed, config.steps) == (
        variant.model,
        variant.modality,
        3,
        2,
    )
    assert (type(config).__name__ == "DistillConfig") == (variant.teacher is not None)
    model = create_model(config.model, **config.overrides)
    assert model.settings.drop_path == 0


def test_the_backbone_sees_either_modality():
    config = make_config(BACKBONE, 0, TINY, backbone=True)
    assert (config.modality, config.augmentation.missing, config.steps) == ("either", 0, 2)
    assert make_config(VARIANTS["sum"], 0, TINY).augmentation.missing > 0


def test_a_study_goes_on_where_it_was(tmp_path):
    said = []

    def listen(what, progress):
        said.append((what, progress is not None))

    first = run_study(tmp_path, ["tir"], [1], TINY, device="cpu", workers=0, on_progress=listen)
    assert ("backbone: training", True) in said
    assert said[-1][0].startswith("TIR only, seed 1: success 0.")
    (trial,) = first
    assert trial.success["all"] == pytest.approx(
        sum(v for k, v in trial.success.items() if k != "all") / 5, abs=1e-4
    )
    assert trial.curve["step"] == [2.0]
    assert trial.settings.backbone
    assert trial.network_ms > 0
    said.clear()
    again = run_study(tmp_path, ["tir"], [1], TINY, device="cpu", on_progress=listen)
    assert (again, said) == (first, [])
    # without its line, the trial is scored again, from the same weights
    (tmp_path / RESULTS).write_text("")
    (repeated,) = run_study(tmp_path, ["tir"], [1], TINY, device="cpu", on_progress=listen)
    assert repeated.success == trial.success
    assert not any(training for _, training in said)


def test_imperfect_cameras_are_trained_with():
    imperfect = replace(TINY, imperfect_cameras=True, misalignment=0.4, failing=0.15)
    augmentation = make_config(VARIANTS["sum"], 1, imperfect).augmentation
    assert (augmentation.misalignment, augmentation.failing) == (0.4, 0.15)
    # a single camera differs from no other one, and is all that is left
    for variant in (VARIANTS["rgb"], VARIANTS["tir"], BACKBONE):
        augmentation = make_config(variant, 1, imperfect).augmentation
        assert (augmentation.misalignment, augmentation.failing) == (0.0, 0.0)
    augmentation = make_config(VARIANTS["sum"], 1, TINY).augmentation
    assert (augmentation.misalignment, augmentation.failing) == (0.0, 0.0)


def test_one_network_is_scored_without_and_with_alignment(tmp_path, backbone, monkeypatch):
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    estimated = []

    def estimate(sequence):
        estimated.append(sequence.name)
        shift = np.array([[1.0, 0.0, 60.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        return Alignment(shift, 0.0, 0.9, "empty" not in sequence.name, 0.2, 0.8, "a test")

    shown = []

    def watched_score(make_tracker, groups, **options):
        first = groups["misalignment"][0]
        shown.append((options["folder"].name, first[1].tir))
        return score_tracker(make_tracker, groups, **options)

    monkeypatch.setattr(alignments, "align_source", estimate)
    monkeypatch.setattr(study_trials, "score_tracker", watched_score)
    imperfect = replace(TINY, imperfect_cameras=True, misalignment=0.4, failing=0.15)
    said = []

    def run(*variants):
        return run_study(
            tmp_path,
            variants,
            [1],
            imperfect,
            backbone=backbone,
            device="cpu",
            workers=0,
            on_progress=lambda what, progress: said.append((what, progress is not None)),
        )

    single, fused = run("rgb", "sum")
    challenges = imperfect.challenges
    assert single.aligned is None
    assert fused.aligned is not None
    for scores in (single, fused, fused.aligned):
        assert set(scores.success) == set(scores.precision) == {*challenges, "all"}
        assert len(scores.sequences) == len(challenges) == 9
    assert fused.aligned.unsure == dict.fromkeys(challenges, 0) | {"empty_rgb": 1, "empty_tir": 1}
    # what is not sure stays as it is
    for name in ("empty_rgb", "empty_tir"):
        assert fused.aligned.success[name] == fused.success[name]
    # the second time, and only then, the fusion sees the thermal frame 60 pixels to the left
    assert [folder for folder, _ in shown] == ["boxes", "boxes", "boxes_aligned"]
    (_, alone), (_, unaligned), (_, aligned) = shown
    assert np.array_equal(alone, unaligned)
    assert np.array_equal(aligned[:, :-60], unaligned[:, 60:])
    assert not aligned[:, -60:].any()
    assert len(estimated) == len(set(estimated)) == 9

    # a third network needs no estimate, and a line that is lost no training
    run("rgb", "sum", "dfm_ofm")
    lines = (tmp_path / RESULTS).read_text().splitlines()
    (tmp_path / RESULTS).write_text("".join(f"{line}\n" for line in (lines[0], lines[2])))
    said.clear()
    _, _, again = run("rgb", "dfm_ofm", "sum")
    assert (again.success, again.aligned) == (fused.success, fused.aligned)
    assert not any(training for _, training in said)
    assert len(estimated) == 9


def test_a_student_is_taught_by_the_teacher_of_its_seed(tmp_path, backbone):
    trials = run_study(
        tmp_path, ["prompter", "distilled"], [5], TINY, backbone=backbone, device="cpu"
    )
    assert [one.variant for one in trials] == ["prompter", "distilled"]
    assert {one.settings for one in trials} == {
        replace(TINY, backbone_steps=0, backbone=trials[0].settings.backbone)
    }
    assert read_trials([tmp_path / RESULTS]) == trials


def test_what_cannot_be_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must hold 'prompter' before 'distilled'"):
        run_study(tmp_path, ["distilled", "prompter"], [1], TINY)
    with pytest.raises(ValueError, match="got 'magic'"):
        run_study(tmp_path, ["magic"], [1], TINY)
    assert not list(tmp_path.iterdir())


def test_the_time_of_a_network_with_a_memory():
    model = create_model("tpmri_tiny_128", depth=1)
    assert network_ms(model, rounds=2) > 0
