import pytest

from benchmark_material import SCAN_ROWS, row
from benchmarks.suites.headline import FIGURES, headline_table, readme_table

LONG = {"B": 1, "D": 1536, "L": 3840, "N": 16}
BACKWARD = {"backward": True, "baseline": "chunked PyTorch loop", "comparison": "backward"}
DIRECTIONS = {
    "table": "ofm-scan",
    "comparison": "ofm",
    "task": "directions",
    "baseline": "copies as released",
}
SHARE = {
    "table": "block-share",
    "comparison": "block",
    "task": "block",
    "sizes": {"B": 1, "L": 320, "C": 768},
}

ROWS = [
    *SCAN_ROWS,
    row("native", 40.0, comparison="long", sizes=LONG, error={"out": 5e-7}),
    row("reference loop", 4000.0, comparison="long", sizes=LONG),
    row("native", 10.0, error={"out": 1e-7, "gradients": 2e-6}, **BACKWARD),
    row("chunked PyTorch loop", 300.0, **BACKWARD),
    row("1 thread", 10.0, table="scan-threads", clock="wall"),
    row("2 threads", 6.25, table="scan-threads", clock="wall"),
    row("natural order", 10.0, table="scan-order"),
    row("random order of segments", 10.3, table="scan-order"),
    row("float32", 10.0, table="scan-dtypes"),
    row("bfloat16", 11.0, table="scan-dtypes", error={"out": 3e-3}),
    row("one call", 100.0, extra_bytes=90, **DIRECTIONS),
    row("copies as released", 250.0, extra_bytes=270, **DIRECTIONS),
    row("Mamba block", 40.0, **SHARE),
    row("its scan and convolution", 6.0, **SHARE),
    row("fused, scores", 10.5, table="attention-scores", comparison="640"),
    row("fused, no scores", 10.0, table="attention-scores", comparison="640"),
    row("two streams", 180.0, table="models", comparison="two streams"),
    row("OSTrack", 100.0, table="models", comparison="two streams"),
    row(
        "AINet, released widths",
        310.0,
        table="models",
        comparison="AINet, released widths",
        resident_bytes=10**9,
    ),
    row("OSTrack", 100.0, table="models", comparison="AINet, released widths"),
    row("int8", 60.0, table="models-forms", comparison="OSTrack", error={"score": 0.004}),
    row("eager", 100.0, table="models-forms", comparison="OSTrack", error={"score": 0.0}),
    row("from rgbt_fusion import DFM", 30.0, table="startup", clock="wall"),
]


@pytest.mark.parametrize(
    ("what", "figure"),
    [
        ("native scan against the reference loop, forward, token-major", "60.0-100.0x"),
        ("native scan, forward, time of 16 state-elements", "6.8-8.1 ns"),
        ("native scan against the fastest PyTorch loop, forward+backward, token-major", "30.0x"),
        ("two threads against one, 1,536 channels", "1.60x"),
        ("ordered scan over the same in natural order, forward", "1.03x"),
        (
            "OFM, convolution and scan: one call against permuted copies as the released code "
            "makes them",
            "2.5x",
        ),
        ("OFM, convolution and scan: extra memory over permuted copies as released", "0.33x"),
        ("share of convolution and scan in a Mamba block, 320 tokens", "15.0 %"),
        ("native scan, error, float32: output / gradients", "5.0e-07 / 2.0e-06"),
        ("the same, bfloat16", "3.0e-03 / -"),
        ("bfloat16 over float32, time", "1.10x"),
        ("pure-PyTorch fallback against the reference loop, forward", "10.0x"),
        ("its extra memory over the reference loop's", "0.07x"),
        ("attention with scores over plain fused attention, 640 and 720 tokens", "1.05x"),
        ("two streams over OSTrack-256", "1.80x"),
        ("AINet-256, released widths, over OSTrack-256", "3.10x"),
        ("OSTrack-256, linear layers in int8, over eager", "0.60x"),
        ("difference of the score with linear layers in int8", "0.0040"),
        ("whole process of AINet-256, four steps", "1.00 GB"),
        ("`from rgbt_fusion import DFM` beyond `import torch`", "0.030 s"),
    ],
)
def test_a_figure_is_read_off_its_rows(what, figure):
    header, lines = headline_table(ROWS)
    assert header == ("", "measured", "goal")
    assert figure in {line[1] for line in lines if line[0] == what}


def test_a_figure_without_rows_is_left_out():
    assert headline_table([]).rows == ()
    named = {line[0] for line in headline_table(SCAN_ROWS).rows}
    assert "`rgbt-fusion --help`" not in named
    assert len(named) < len(FIGURES)


def test_the_readme_shows_the_foremost_without_goals():
    header, lines = readme_table(ROWS)
    assert header == ("", "measured")
    assert all(len(line) == 2 for line in lines)
    named = {line[0] for line in lines}
    assert "two streams over OSTrack-256" in named
    assert "the same, bfloat16" not in named


def test_every_figure_has_a_name_of_its_own_where_the_readme_shows_it():
    front = [figure.what for figure in FIGURES if figure.front]
    assert len(set(front)) == len(front) < 25
