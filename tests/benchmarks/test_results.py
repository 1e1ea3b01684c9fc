"""The records that are kept can be read, and say what they are."""

from benchmarks import ROOT
from benchmarks.__main__ import COMMANDS
from benchmarks.suites.tables import TABLES
from rgbt_fusion.benchmarking.records import read_record
from rgbt_fusion.benchmarking.suites import SUITES

RESULTS = ROOT / "benchmarks" / "results"


def test_the_records_that_are_kept_fit_and_lie_where_they_belong():
    for path in sorted(RESULTS.glob("*/*.json")):
        kept = read_record(path)
        assert path == RESULTS / kept.file_name
        assert kept.suite in (*SUITES, *COMMANDS)
        assert {row.suite for row in kept.rows} == {kept.suite}
        assert {row.table for row in kept.rows} <= set(TABLES)
        assert all(row.skipped or row.time for row in kept.rows)
