"""Figures of the registration."""

from benchmarks.alignment.measure import Row, figures, synthetic


def row(error: float, sure: bool, part: str = "stills") -> Row:
    return Row(part, "clip", error / 640, sure, 0.9, None, 0.5)


def test_the_figures_count_what_is_near_and_what_is_sure():
    table = figures([row(3, True), row(9, False), row(40, True), row(400, False, "unrelated")])
    near, far = table.rows
    named = dict(zip(table.header, near, strict=True))
    assert named["draws"] == "3"
    assert named["median"] == "9.0 of 640"
    assert named["within 2 of 320"] == "33%"
    assert named["within 10 of 640"] == "67%"
    assert named["sure, wrong"] == "1"
    assert named["right, refused"] == "50%"
    assert dict(zip(table.header, far, strict=True))["sure"] == "0%"


def test_an_estimate_of_the_synthetic_world_is_near():
    (one,) = synthetic(1, seed=77)
    assert one.sure
    assert one.error < 2 / 320
    assert one.seconds > 0
