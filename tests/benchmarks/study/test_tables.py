"""Differences inside the spread are reported as none, and one seed says nothing."""

from dataclasses import replace
from typing import cast

import pytest

from benchmarks import ROOT
from benchmarks.study.comparisons import SeedRange, answer, sequence_interval, success
from benchmarks.study.records import read_trials
from benchmarks.study.tables import (
    answer_table,
    fill_document,
    fill_text,
    result_table,
    study_tables,
)
from benchmarks.study.variants import QUESTIONS, VARIANTS, Question
from rgbt_fusion.evaluation.held_out import HARD
from rgbt_fusion.evaluation.intervals import Interval
from study_material import SETTINGS, trial

ASKED = Question("DFM against the plain sum", "dfm", ("sum",))


def seeds(variant, *values):
    return [trial(variant, seed, value) for seed, value in enumerate(values, 1)]


def test_spreads():
    assert str(SeedRange.of([0.5])) == "0.500"
    assert str(SeedRange.of([0.5, 0.7, 0.6])) == "0.600 (0.500 to 0.700)"


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        ([0.61, 0.62, 0.63], [0.58, 0.59, 0.60], "+0.030"),
        ([0.50, 0.51], [0.58, 0.59, 0.60], "-0.085"),
        ([0.57, 0.62, 0.64], [0.58, 0.59, 0.60], "none (+0.020 is inside the spread)"),
        ([0.6, 0.6], [0.6, 0.6], "none (+0.000 is inside the spread)"),
        ([0.9], [0.5, 0.6], "unknown: +0.350 from one seed"),
    ],
)
def test_what_a_pair_says(ours, theirs, said):
    assert answer(seeds("dfm", *ours) + seeds("sum", *theirs), ASKED) == said


def test_a_pair_that_is_not_there_says_nothing():
    assert answer(seeds("dfm", 0.5, 0.6), ASKED) is None
    single = Question("", "sum", ("rgb", "tir"))
    assert answer(seeds("sum", 0.5, 0.5) + seeds("rgb", 0.4, 0.4), single) is None


def test_a_challenge_that_is_not_scored_says_nothing():
    farther = Question("", "dfm", ("sum",), ("misalignment_x2",))
    trials = seeds("dfm", 0.5, 0.6) + seeds("sum", 0.5, 0.6)
    assert answer(trials, farther) is None
    assert success(trials, "dfm", ("night", "misalignment_x2")) is None


def test_the_better_single_modality_and_the_challenge_asked_for():
    question = next(
        one for one in QUESTIONS if one.variant == "dfm_ofm" and one.challenges == ("night",)
    )
    trials = [trial("dfm_ofm", seed, 0.1, night=0.7) for seed in (1, 2)]
    trials += [trial("rgb", seed, 0.9, night=0.2) for seed in (1, 2)]
    trials += [trial("tir", seed, 0.3, night=0.6) for seed in (1, 2)]
    assert answer(trials, question) == "+0.100"
    row = next(row for row in answer_table(trials).rows if row[0] == question.text)
    assert row[1:] == ("0.700", "0.600", "+0.100")


def test_results_by_variant_and_challenge():
    trials = [
        trial("sum", 2, 0.4, glare=0.9),
        trial("sum", 1, 0.6, glare=0.7),
        trial("ainet_1", 1, 0.5),
    ]
    table = result_table(trials)
    assert table.header[:3] == ("variant", "seeds", "night")
    (row,) = table.rows
    assert row[:4] == ("plain sum", "1, 2", "0.500 (0.400 to 0.600)", "0.800 (0.700 to 0.900)")
    assert row[-2:] == ("1.23", "3.2")
    assert success(trials, "sum").mean == pytest.approx((0.5 * 4 + 0.8) / 5)
    assert [row[0] for row in result_table(trials, ablation="AINet").rows] == ["AINet-1"]


def test_studies_of_other_settings_stand_apart(tmp_path):
    other = replace(SETTINGS, steps=40, backbone_steps=0)
    text = study_tables(
        [*seeds("dfm", 0.5, 0.6), *seeds("sum", 0.3, 0.4), trial("ofm", 1, 0.9, other)]
    )
    assert "4 trials, seeds 1, 2: 20 steps of 32 from a backbone of 10 steps (0123abcd)" in text
    assert "1 trials, seeds 1: 40 steps of 32 from a backbone from a file (0123abcd)" in text
    assert "Ablation: AINet." in text
    assert text.index("DFM against the plain sum") < text.index("40 steps")
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- study -->\nold\n<!-- /study -->\nbelow\n")
    for _ in range(2):
        fill_document(page, seeds("dfm", 0.5))
        assert page.read_text().startswith("above\n<!-- study -->\n1 trials")
        assert page.read_text().endswith("|\n<!-- /study -->\nbelow\n")
    page.write_text("nothing marked")
    with pytest.raises(ValueError, match="must hold <!-- study -->"):
        fill_document(page, [])


def test_the_page_shows_the_results_that_are_kept():
    page = (ROOT / "docs" / "study.md").read_text()
    kept = [f"benchmarks/results/{version}/study.jsonl" for version in ("0.1.0", "0.3.0.dev0")]
    trials = read_trials([ROOT / file for file in kept])
    command = f"python -m benchmarks study --table {' '.join(kept)} --into docs/study.md"
    assert page == fill_text(page, trials), command


def test_intervals_over_sequences_where_trials_know_them():
    names = [f"synthetic_{challenge}_{number}" for challenge in HARD for number in range(4)]
    one, other = list(VARIANTS)[:2]
    trials = []
    for variant, level in ((one, 0.6), (other, 0.5)):
        for seed in (0, 1):
            by_sequence = {name: level + 0.01 * (number % 5) for number, name in enumerate(names)}
            made = trial(variant, seed, level + 0.01 * seed)
            trials.append(replace(made, sequences=by_sequence))
    low, high = cast(Interval, sequence_interval(trials, one))
    assert 0.6 < low < 0.62 < high < 0.64
    low, high = cast(Interval, sequence_interval(trials, one, less=other))
    assert (low, high) == pytest.approx((0.1, 0.1))
    # records of 0.1.0 do not know them
    assert sequence_interval([replace(one, sequences={}) for one in trials], one) is None
    assert "[0.6" in result_table(trials, ablation=VARIANTS[one].ablation).rows[0][-3]
