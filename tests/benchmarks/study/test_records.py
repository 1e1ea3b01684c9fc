"""The result file survives a kill in the middle of a line, and refuses what is not its own."""

from dataclasses import replace

import pytest

from benchmarks import ROOT
from benchmarks.study.records import StudySettings, append_trial, by_settings, read_trials
from rgbt_fusion.evaluation.held_out import HARD
from rgbt_fusion.files.text_tables import DataError
from study_material import IMPERFECT, SETTINGS, trial


def test_what_is_appended_is_read(tmp_path):
    path = tmp_path / "deep" / "results.jsonl"
    trials = [trial("sum", 1, 0.5), trial("dfm", 1, 0.6)]
    for one in trials:
        append_trial(path, one)
    assert read_trials([path]) == trials


def test_scores_of_aligned_frames_are_read(tmp_path):
    path = tmp_path / "results.jsonl"
    whole = trial("sum", 1, 0.5, IMPERFECT, aligned=trial("sum", 1, 0.6, IMPERFECT))
    append_trial(path, whole)
    append_trial(path, trial("rgb", 1, 0.4, IMPERFECT))
    found = read_trials([path])
    assert found == [whole, trial("rgb", 1, 0.4, IMPERFECT)]
    assert found[0].aligned is not None
    assert found[0].aligned.unsure["empty_rgb"] == 1
    assert found[1].aligned is None


def test_an_unfinished_line_is_left_out_and_cut_off(tmp_path):
    path = tmp_path / "results.jsonl"
    append_trial(path, trial("sum", 1, 0.5))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:50])
    assert read_trials([path]) == [trial("sum", 1, 0.5)]
    append_trial(path, trial("sum", 2, 0.4))
    assert read_trials([path]) == [trial("sum", 1, 0.5), trial("sum", 2, 0.4)]


def test_a_last_line_without_its_end_counts(tmp_path):
    """Editors and copies leave such files."""
    path = tmp_path / "results.jsonl"
    append_trial(path, trial("sum", 1, 0.5))
    append_trial(path, trial("sum", 2, 0.4))
    path.write_text(path.read_text().rstrip("\n"))
    both = [trial("sum", 1, 0.5), trial("sum", 2, 0.4)]
    assert read_trials([path]) == both
    append_trial(path, trial("dfm", 1, 0.6))
    assert read_trials([path]) == [*both, trial("dfm", 1, 0.6)]


def test_the_later_of_two_counts(tmp_path):
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    append_trial(first, trial("sum", 1, 0.5))
    append_trial(second, trial("sum", 1, 0.7))
    assert read_trials([first, second]) == [trial("sum", 1, 0.7)]


def test_a_line_that_is_no_trial(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text('{"variant": "sum"}\n')
    with pytest.raises(DataError, match=r"results.jsonl, line 1 must be a trial"):
        read_trials([path])
    path.unlink()
    append_trial(path, replace(trial("sum", 1, 0.5), variant="magic"))
    with pytest.raises(DataError, match="a variant that this version knows, got 'magic'"):
        read_trials([path])


def test_settings_tell_studies_apart():
    other = replace(SETTINGS, steps=21)
    assert other.key != SETTINGS.key == replace(SETTINGS).key
    groups = by_settings([trial("sum", 1, 0.1, other), trial("sum", 1, 0.2), trial("sum", 2, 0.3)])
    assert [len(group) for group in groups.values()] == [2, 1]
    assert next(iter(groups)) == SETTINGS


def test_a_study_of_0_1_0_is_continued():
    """Its lines are read, and its folders of trainings have the names that are looked for."""
    trials = read_trials([ROOT / "benchmarks" / "results" / "0.1.0" / "study.jsonl"])
    assert len(trials) == 83
    assert {(one.settings.key, one.settings.steps) for one in trials} == {
        ("388f632c", 500),
        ("667d32bd", 120),
    }
    # they lack what came later
    assert {one.settings.challenges for one in trials} == {HARD}
    assert all(one.aligned is None for one in trials)


def test_imperfect_cameras_are_a_study_of_their_own():
    assert len(IMPERFECT.challenges) == 9
    others = [
        replace(IMPERFECT, misalignment=0.2),
        replace(IMPERFECT, failing=0.0),
        replace(IMPERFECT, imperfect_cameras=False),
    ]
    assert len({one.key for one in (SETTINGS, IMPERFECT, *others)}) == 5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"frames": 0}, "frames must be at least 1, got 0"),
        ({"backbone_steps": -1}, "backbone_steps must be at least 0, got -1"),
        ({"learning_rate": float("nan")}, "learning_rate must be"),
        ({"misalignment": -0.1}, r"misalignment must be a finite number in \[0, 2\]"),
        ({"failing": 1.5}, r"failing must be a finite number in \[0, 1\]"),
    ],
)
def test_bad_settings(values, message):
    with pytest.raises(ValueError, match=message):
        StudySettings(**values)
