from pathlib import Path

import pytest

from benchmark_material import SCAN_ROWS, record, row
from rgbt_fusion import __version__
from rgbt_fusion.benchmarking.records import read_record
from rgbt_fusion.benchmarking.tables import (
    TABLES,
    Table,
    comparison_table,
    fill_document,
    markdown,
    number,
    record_tables,
)

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_tables_of_a_page_are_those_of_the_records(page):
    records = [
        read_record(path)
        for path in sorted((ROOT / "benchmarks" / "results" / __version__).glob("*.json"))
    ]
    text = page.read_text()
    assert text == fill_document(text, records), (
        f"rgbt-fusion bench --table benchmarks/results/{__version__}/*.json --into {page.relative_to(ROOT)}"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.01234, "0.0123"),
        (4.0, "4.00"),
        (60.06, "60.1"),
        (240.4, "240"),
        (18713.2, "18,713"),
    ],
)
def test_three_digits(value, text):
    assert number(value) == text


def test_a_comparison_on_the_terminal():
    shown = comparison_table(SCAN_ROWS)
    assert shown.columns == ["", "cpu ms", "quartiles", "speed", "ns / 16", "extra MB", "error"]
    assert shown.lines[0] == ("native", "4.00", "3.60-4.40", "60.0x", "8.14", "2.00", "2.0e-07")
    assert [line[0] for line in shown.lines] == ["native", "vectorised", "reference loop"]


def test_one_line_a_comparison_against_others():
    (line,) = TABLES["scan"](SCAN_ROWS).lines
    assert line == [
        "(1, 1536, 320, 16), token-major, forward", "4.00 [3.60-4.40]", "8.14", "6.00x", "60.0x", "2.00", "6.00-90.0",
        "2.0e-07",
    ]  # fmt: skip


def test_variants_of_ours_against_the_first():
    rows = [
        row("float32", 4.0, ratio=1.0, table="scan-dtypes"),
        row("bfloat16", 5.0, ratio=0.8, table="scan-dtypes"),
    ]
    (line,) = TABLES["scan-dtypes"](rows).lines
    assert line[1:] == ["4.00 [3.60-4.40]", "5.00 [4.50-5.50], 1.25x"]


def test_layers():
    common = {
        "task": "layer",
        "table": "layers",
        "comparison": "DFM: 320 tokens",
        "baseline": "CrossAttentionFusion",
    }
    rows = [
        row("forward", 30.0, ratio=2.0, parameters=3_068_928, macs=994_000_000, **common),
        row("forward+backward", 90.0, ratio=0.67, parameters=3_068_928, macs=994_000_000, **common),
        row("CrossAttentionFusion", 60.0, ratio=1.0, **common),
    ]
    (line,) = TABLES["layers"](rows).lines
    assert line == [
        "DFM: 320 tokens", "3,068,928", "994", "30.0 [27.0-33.0]", "90.0 [81.0-99.0]", "0.50x CrossAttentionFusion",
    ]  # fmt: skip


def test_growth_is_the_exponent_between_the_two_largest_resolutions():
    rows = [
        row(label, scale * tokens**power, table="complexity", comparison=f"{tokens} tokens", task="fusion",
            sizes={"B": 1, "L": tokens, "C": 768, "K": 12}, extra_bytes=tokens**power)
        for tokens in (80, 320, 720)
        for label, power, scale in (("Mamba", 1, 2.0), ("written-out attention", 2, 0.1))
    ]  # fmt: skip
    shown = TABLES["complexity"](rows)
    assert shown.lines[-1][2:] == ["1.00", "1.00", "2.00", "2.00"]
    assert shown.lines[0][:2] == ["80 tokens", "960"]


def test_markdown():
    assert markdown(Table(["a", "b"], [["1", "x|y"]])) == "| a | b |\n| --- | --- |\n| 1 | x/y |"


def test_all_tables_of_records_say_where_they_were_taken():
    text = record_tables([record(*SCAN_ROWS), record(*SCAN_ROWS, machine="another")])
    assert text.count("### scan\n") == 1
    assert text.count("*A Processor, 2 cores, AVX2; torch 2.9.0; 1 thread; version 0.1.0.*") == 4
    assert "### headline" in text
    assert "### ofm" not in text


def test_a_document_is_filled_between_its_markers():
    text = "before\n<!-- benchmark: scan -->\nstale\n<!-- /benchmark -->\nafter\n"
    filled = fill_document(text, [record(*SCAN_ROWS)])
    assert "stale" not in filled
    assert "| 60.0x |" in filled
    assert filled.startswith("before\n<!-- benchmark: scan -->\n|")
    assert filled.endswith("<!-- /benchmark -->\nafter\n")
    assert fill_document(filled, [record(*SCAN_ROWS)]) == filled


def test_nothing_stands_where_there_is_no_record():
    text = "<!-- benchmark: readme -->\nstale\n<!-- /benchmark -->"
    assert fill_document(text, []) == "<!-- benchmark: readme -->\n<!-- /benchmark -->"


def test_a_marker_that_names_no_table_is_refused():
    with pytest.raises(
        ValueError, match=r"must be one of headline, readme, scan, .* got 'nonsense'"
    ):
        fill_document("<!-- benchmark: nonsense -->\n<!-- /benchmark -->", [record()])
