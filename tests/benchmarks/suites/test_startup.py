from benchmarks.suites.startup import measure_startup


def test_both_waits_are_measured():
    imports, help_page = measure_startup(1)
    assert imports.label == "from rgbt_fusion import DFM"
    assert help_page.label == "rgbt-fusion --help"
    for row in (imports, help_page):
        assert row.table == "startup"
        assert row.wall_ms.samples == 1
        assert row.wall_ms.median > 1
