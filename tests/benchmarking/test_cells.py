import pytest

from benchmark_material import row
from rgbt_fusion.benchmarking.cells import by_comparison, milliseconds, without_empty
from rgbt_fusion.benchmarking.timing import Spread
from rgbt_fusion.files.table import Table


@pytest.mark.parametrize(
    ("spread", "text"),
    [
        (None, ""),
        (Spread(12.34, 12.0, 13.0, 5), "12.3 [12.0-13.0]"),
        (Spread(12345.6, 1.0, 1.0, 1), "12,346 (one run)"),
    ],
)
def test_milliseconds(spread, text):
    assert milliseconds(spread) == text


def test_columns_in_which_nothing_stands_are_left_out():
    assert without_empty(Table(("a", "b"), (("1", ""), ("2", "")))) == Table(
        ("a",), (("1",), ("2",))
    )


def test_rows_go_with_their_comparison():
    groups = by_comparison(
        [row("x", comparison="one"), row("y", comparison="two"), row("z", comparison="one")]
    )
    assert [[x.label for x in group] for group in groups.values()] == [["x", "z"], ["y"]]
