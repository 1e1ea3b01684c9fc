from benchmark_material import row
from benchmarks.suites.model_tables import (
    forms_table,
    frames_table,
    models_table,
    prompter_table,
    settings_table,
)

MODEL = {"table": "models", "task": "model", "sizes": {"B": 1}, "baseline": "OSTrack"}


def test_a_tracker_a_line_over_ostrack_and_beside_its_naive_form():
    counts = {"parameters": 136_000_000, "macs": 85 * 10**9}
    rows = [
        row(
            "AINet",
            300.0,
            ratio=1 / 3,
            comparison="AINet",
            resident_bytes=10**9,
            extra_bytes=2**26,
            **counts,
            **MODEL,
        ),
        row("written naively", 900.0, ratio=1 / 9, comparison="AINet", **MODEL),
        row("OSTrack", 100.0, ratio=1.0, comparison="AINet", **MODEL),
    ]
    table = models_table(rows)
    assert table.rows == (
        ("AINet", "136,000,000", "85.0", "300 [270-330]", "3.00x", "9.00x", "954", "64.0"),
    )
    assert len(table.header) == len(table.rows[0])


def test_variants_of_the_teacher():
    rows = [
        row("two streams", 100.0, ratio=1.0, **MODEL),
        row("teacher", 110.0, ratio=1 / 1.1, **MODEL),
    ]
    assert [line[-1] for line in prompter_table(rows).rows] == ["1.00x", "1.10x"]


def test_forms_with_what_they_change():
    shared = {**MODEL, "comparison": "OSTrack", "baseline": "eager"}
    rows = [
        row("eager", 100.0, ratio=1.0, error={"score": 0.0}, **shared),
        row("int8", 60.0, ratio=1 / 0.6, error={"score": 0.004}, **shared),
        row("ONNX Runtime", skipped="not installed", **shared),
    ]
    assert [line[2:] for line in forms_table(rows).rows] == [
        ("100 [90.0-110]", "1.00x", ""),
        ("60.0 [54.0-66.0]", "0.60x", "4.0e-03"),
        ("not installed", "", ""),
    ]


def test_settings_count_targets():
    batch = {**MODEL, "comparison": "batch 8", "sizes": {"B": 8}, "clock": "wall"}
    rows = [row("AINet", 2000.0, ratio=0.5, **batch), row("OSTrack", 1000.0, ratio=1.0, **batch)]
    assert settings_table(rows).rows == (
        ("batch 8", "wall", "2,000 ms, 4.00/s, 2.00x", "1,000 ms, 8.00/s"),
    )


def test_frames_a_second_of_the_network_and_of_the_tracker_around_it():
    rows = [row("network", 50.0, **MODEL), row("tracker", 54.0, **MODEL)]
    (line,) = frames_table(rows).rows
    assert line[1:] == ("50.0 [45.0-55.0]", "20.0", "54.0 [48.6-59.4]", "18.5")
