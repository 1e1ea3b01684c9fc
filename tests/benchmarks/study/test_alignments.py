"""An alignment is estimated once, kept, and used only where it is sure."""

from dataclasses import fields, replace

import numpy as np
import pytest

from benchmarks.study import alignments
from benchmarks.study.alignments import aligned_groups, digest, kept_alignment
from rgbt_fusion.alignment.estimate import Alignment
from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.synthetic.world import SyntheticSequence

SHIFT = np.array([[1.0, 0.0, 20.0], [0.0, 1.0, -6.0], [0.0, 0.0, 1.0]])
KNOWN = Alignment(SHIFT, 0.0, 0.9, True, 0.2, 0.8, "ahead of the next placement")


@pytest.fixture
def estimates(monkeypatch):
    """Have an estimate cost nothing; return the sequences that were estimated."""
    asked = []

    def estimate(sequence):
        asked.append(sequence.name)
        return KNOWN

    monkeypatch.setattr(alignments, "align_source", estimate)
    return asked


def test_what_was_estimated_is_read(estimates, tmp_path):
    sequence = SyntheticSequence(3, frames=2)
    for _ in range(2):
        found = kept_alignment(sequence, tmp_path / "deep")
        for field in fields(Alignment):
            assert np.array_equal(getattr(found, field.name), getattr(KNOWN, field.name))
    assert estimates == [sequence.name]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"tir_from_rgb": [[1]]}', "nul"])
def test_a_file_without_an_alignment_is_refused(text, estimates, tmp_path):
    sequence = SyntheticSequence(3, frames=2)
    (tmp_path / f"{sequence.name}.json").write_text(text)
    with pytest.raises(DataError, match=r"synthetic_mixed_3\.json must hold an alignment"):
        kept_alignment(sequence, tmp_path)
    assert not estimates


def test_only_a_sure_alignment_is_used():
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    sequence = SyntheticSequence(3, frames=2, challenge="misalignment")
    for sure in (True, False):
        known = {sequence.name: replace(KNOWN, sure=sure)}
        (shown,) = aligned_groups({"misalignment": (sequence,)}, known)["misalignment"]
        assert shown.name == sequence.name
        laid = np.array_equal(shown[1].tir, sequence[1].tir)
        same_boxes = np.array_equal(shown.truth.tir, sequence.truth.tir)
        assert (laid, same_boxes) == (not sure, not sure)
    assert np.array_equal(
        aligned_groups({"": (sequence,)}, {sequence.name: KNOWN})[""][0][1].tir[6:, :-20],
        sequence[1].tir[:-6, 20:],
    )


def test_a_digest_tells_alignments_apart():
    others = [
        replace(KNOWN, sure=False),
        replace(KNOWN, offset_frames=1.0),
        replace(KNOWN, tir_from_rgb=np.eye(3)),
    ]
    digests = {digest({"a": one}) for one in (KNOWN, *others)} | {digest({"b": KNOWN})}
    assert len(digests) == 5
    assert digest({"a": KNOWN, "b": others[0]}) == digest({"b": others[0], "a": KNOWN})
