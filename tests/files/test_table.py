"""Tables as data and as text, and documents with marked parts."""

import csv
import io

import pytest

from rgbt_fusion.files.table import (
    Figure,
    Table,
    fill_marked,
    to_cells,
    to_csv,
    to_latex,
    to_markdown,
)

ODD = Table(("tracker", "SR"), (("a_b & 50%|x", 1 / 3), ('c\\d, "e"', None)))


def test_cells_are_texts() -> None:
    assert to_cells(ODD, digits=1) == [["tracker", "SR"], ["a_b & 50%|x", "0.3"], ['c\\d, "e"', ""]]


def test_markdown_escapes_bars() -> None:
    assert to_markdown(ODD).splitlines()[2] == r"| a_b & 50%\|x | 0.333 |"


def test_latex_escapes_its_own_characters() -> None:
    text = to_latex(ODD, digits=2)
    assert r"a\_b \& 50\%|x & 0.33 \\" in text
    assert r"c\textbackslash{}d" in text
    assert text.startswith("\\begin{tabular}{lr}\n\\toprule")


def test_csv_reads_back_in_full_precision() -> None:
    header, first, second = csv.reader(io.StringIO(to_csv(ODD)))
    assert header == ["tracker", "SR"]
    assert float(first[1]) == 1 / 3
    assert second == ['c\\d, "e"', ""]


def test_a_table_without_rows() -> None:
    empty = Table(("tracker", "SR"), ())
    assert to_markdown(empty) == "| tracker | SR |\n|---|---|"
    assert to_csv(empty) == "tracker,SR\n"
    assert to_latex(empty).count("\n") == 5


def test_a_cell_stays_on_its_line() -> None:
    table = Table(("tracker",), (("two\nlines",),))
    assert to_markdown(table).splitlines()[2:] == ["| two lines |"]
    assert "two lines \\\\" in to_latex(table)
    assert to_csv(table) == "tracker\ntwo lines\n"


FIGURES = Table(
    ("tracker", "SR", "APE"),
    (
        ("mine", Figure(0.52431, 0.4902, 0.5611, best=True), Figure(8.04, 1.0, 15.0)),
        ("theirs", Figure(0.5), None),
        ("difference", Figure(0.02431, -0.001, 0.05, signed=True), 1.0),
    ),
)


def test_a_number_has_the_digits_that_its_interval_justifies() -> None:
    assert to_cells(FIGURES)[1:] == [
        ["mine", "0.524 [0.490, 0.561]", "8.0 [1.0, 15.0]"],
        ["theirs", "0.500", ""],
        ["difference", "+0.024 [-0.001, +0.050]", "1.000"],
    ]
    assert to_cells(FIGURES, digits=1)[1] == ["mine", "0.5 [0.5, 0.6]", "8.0 [1.0, 15.0]"]


def test_the_best_is_bold() -> None:
    assert "| **0.524 [0.490, 0.561]** |" in to_markdown(FIGURES)
    assert r"\textbf{0.524 [0.490, 0.561]}" in to_latex(FIGURES)


def test_the_ends_of_intervals_stand_behind_all_columns() -> None:
    header, mine, theirs, _ = csv.reader(io.StringIO(to_csv(FIGURES)))
    assert header == ["tracker", "SR", "APE", "SR low", "SR high", "APE low", "APE high"]
    assert mine == ["mine", "0.52431", "8.04", "0.4902", "0.5611", "1.0", "15.0"]
    assert theirs == ["theirs", "0.5", "", "", "", "", ""]


@pytest.mark.parametrize(
    "text", ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", '=cmd|"/c calc"!A1', "-"]
)
def test_what_a_spreadsheet_would_run_is_made_a_text(text: str) -> None:
    table = Table((text, "SR"), ((text, 0.5),))
    header, row = csv.reader(io.StringIO(to_csv(table), newline=""))
    assert header[0] == row[0] == "'" + " ".join(text.splitlines())
    assert text.strip().replace("|", r"\|") in to_markdown(table)


@pytest.mark.parametrize("cell", ["-0.5", "+0.030", "-inf", "1e-3", "mine", "a=b", "a-b", ""])
def test_numbers_and_other_texts_stay_as_they_are(cell: str) -> None:
    table = Table(("tracker", "SR"), ((cell, -0.5), ("mine", -2)))
    _, first, second = csv.reader(io.StringIO(to_csv(table)))
    assert first == [cell, "-0.5"]
    assert second == ["mine", "-2"]


# ---- marked documents


def test_parts_are_filled_by_their_names() -> None:
    text = (
        "above\n<!-- table: a -->\nold\n<!-- /table -->\nbetween\n"
        "<!-- table: b -->\n<!-- /table -->\nbelow\n"
    )
    filled = fill_marked(text, "table", lambda name: f"| {name} |")
    assert filled == (
        "above\n<!-- table: a -->\n| a |\n<!-- /table -->\nbetween\n"
        "<!-- table: b -->\n| b |\n<!-- /table -->\nbelow\n"
    )
    assert fill_marked(filled, "table", lambda name: f"| {name} |") == filled


def test_a_part_may_have_no_name() -> None:
    text = "<!-- study -->\nold\n<!-- /study -->"
    names = []

    def make(name: str) -> str:
        names.append(name)
        return r"with \1 and \g<0>"

    assert fill_marked(text, "study", make) == (
        "<!-- study -->\nwith \\1 and \\g<0>\n<!-- /study -->"
    )
    assert names == [""]


def test_nothing_stands_where_nothing_is_made() -> None:
    text = "<!-- table: a -->\nold\n<!-- /table -->"
    assert fill_marked(text, "table", lambda _: "") == "<!-- table: a -->\n<!-- /table -->"


def test_other_marks_stay() -> None:
    text = "<!-- study -->\nold\n<!-- /study -->\n<!-- tables: a -->\n"
    assert fill_marked(text, "table", lambda _: "new") == text


def test_a_part_without_an_end_is_refused() -> None:
    with pytest.raises(
        ValueError, match="document must hold <!-- /table --> behind <!-- table: a -->"
    ):
        fill_marked("<!-- table: a -->\nthe rest of the page", "table", lambda _: "new")
