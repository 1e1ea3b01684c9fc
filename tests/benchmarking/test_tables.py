import pytest

from benchmark_material import SCAN_ROWS, record, row
from rgbt_fusion.benchmarking.cells import number
from rgbt_fusion.benchmarking.tables import TABLES, contest_table, record_tables


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
    shown = contest_table(SCAN_ROWS)
    assert shown.header == ("", "cpu ms", "quartiles", "speed", "ns / 16", "extra MB", "error")
    assert shown.rows[0] == ("native", "4.00", "3.60-4.40", "60.0x", "8.14", "2.00", "2.0e-07")
    assert [line[0] for line in shown.rows] == ["native", "vectorised", "reference loop"]


def test_one_line_a_comparison_against_others():
    (line,) = TABLES["scan"](SCAN_ROWS).rows
    assert line == (
        "(1, 1536, 320, 16), token-major, forward",
        "4.00 [3.60-4.40]",
        "8.14",
        "6.00x",
        "60.0x",
        "2.00",
        "6.00-90.0",
        "2.0e-07",
    )


def test_variants_of_ours_against_the_first():
    rows = [
        row("float32", 4.0, ratio=1.0, table="scan-dtypes"),
        row("bfloat16", 5.0, ratio=0.8, table="scan-dtypes"),
    ]
    (line,) = TABLES["scan-dtypes"](rows).rows
    assert line[1:] == ("4.00 [3.60-4.40]", "5.00 [4.50-5.50], 1.25x")


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
    (line,) = TABLES["layers"](rows).rows
    assert line == (
        "DFM: 320 tokens",
        "3,068,928",
        "994",
        "30.0 [27.0-33.0]",
        "90.0 [81.0-99.0]",
        "0.50x CrossAttentionFusion",
    )


def test_all_tables_of_records_say_where_they_were_taken():
    text = record_tables([record(*SCAN_ROWS), record(*SCAN_ROWS, machine="another")])
    assert text.count("### scan\n") == 1
    assert text.count("*A Processor, 2 cores, AVX2; torch 2.9.0; 1 thread; version 0.1.0.*") == 2
    assert "### ofm" not in text
