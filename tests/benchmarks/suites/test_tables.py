"""The published tables are those of the records that are kept."""

from pathlib import Path

import pytest

from benchmark_material import SCAN_ROWS, record
from benchmarks.suites.tables import all_tables, fill_text
from rgbt_fusion.benchmarking.records import read_record

ROOT = Path(__file__).resolve().parents[3]
# the version whose records are complete
PUBLISHED = "0.2.0.dev0"
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_tables_of_a_page_are_those_of_the_records(page):
    # kernels held to an older level than the processor's are kept, not published
    paths = sorted((ROOT / "benchmarks" / "results" / PUBLISHED).glob("*-cpu.json"))
    records = [read_record(path) for path in paths if "held-to" not in path.name]
    text = page.read_text()
    command = f"python -m benchmarks tables benchmarks/results/{PUBLISHED}/*512--cpu.json --into"
    assert text == fill_text(text, records), f"{command} {page.relative_to(ROOT)}"


def test_all_tables_of_records_say_where_they_were_taken():
    text = all_tables([record(*SCAN_ROWS), record(*SCAN_ROWS, machine="another")])
    assert text.count("### scan\n") == 1
    assert text.count("*A Processor, 2 cores, AVX2; torch 2.9.0; 1 thread; version 0.1.0.*") == 4
    assert "### headline" in text
    assert "### ofm" not in text


def test_a_document_is_filled_between_its_markers():
    text = "before\n<!-- benchmark: scan -->\nstale\n<!-- /benchmark -->\nafter\n"
    filled = fill_text(text, [record(*SCAN_ROWS)])
    assert "stale" not in filled
    assert "| 60.0x |" in filled
    assert filled.startswith("before\n<!-- benchmark: scan -->\n|")
    assert filled.endswith("<!-- /benchmark -->\nafter\n")
    assert fill_text(filled, [record(*SCAN_ROWS)]) == filled


def test_nothing_stands_where_there_is_no_record():
    text = "<!-- benchmark: readme -->\nstale\n<!-- /benchmark -->"
    assert fill_text(text, []) == "<!-- benchmark: readme -->\n<!-- /benchmark -->"


def test_a_marker_that_names_no_table_is_refused():
    with pytest.raises(
        ValueError, match=r"must be one of headline, readme, scan, .* got 'nonsense'"
    ):
        fill_text("<!-- benchmark: nonsense -->\n<!-- /benchmark -->", [record()])
