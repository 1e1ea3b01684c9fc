"""What the comparison of the two necks says of its trials."""

import pytest

from benchmarks.detector import NECKS, RECORD, ROOT, plot, read_trials, table, verdict


def trials(**scores):
    made = []
    for neck, values in scores.items():
        for seed, value in enumerate(values, 1):
            made.append(
                {"neck": neck, "seed": seed, "ap50": value, "parameters": 1234, "loss": [2.0, 1.0]}
            )
    return made


@pytest.mark.parametrize(
    ("fused", "word"),
    [([0.5, 0.6], "better"), ([0.1, 0.2], "worse"), ([0.2, 0.6], "no difference")],
)
def test_a_difference_counts_outside_the_spread(fused, word):
    assert word in verdict(trials(SumNeck=[0.3, 0.4], FusionNeck=fused))


def test_the_table_has_a_row_per_neck():
    rows = table(trials(SumNeck=[0.3, 0.4], FusionNeck=[0.5, 0.6])).splitlines()
    assert rows[2] == "| sum of both pyramids | 1,234 | 0.350 (0.300, 0.400) |"
    assert len(rows) == 2 + len(NECKS)


def test_both_losses_are_drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    plot(trials(SumNeck=[0.3, 0.4], FusionNeck=[0.5, 0.6]), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_the_page_holds_what_the_record_says():
    kept = read_trials(RECORD)
    assert {(one["neck"], one["seed"]) for one in kept} >= {
        (neck, seed) for neck in NECKS for seed in (1, 2, 3)
    }
    page = (ROOT / "docs" / "examples.md").read_text()
    assert table(kept) in page
    assert verdict(kept) in " ".join(page.split())
