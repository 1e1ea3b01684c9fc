"""Cameras that fail for a stretch, and what is measured on them."""

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.tracking.failing import KINDS, LATE_BY, failing_sequences, measure
from rgbt_fusion import create_model, save_checkpoint


@pytest.mark.parametrize("failure", KINDS)
def test_one_camera_fails_in_the_middle_third(failure):
    rgb, tir = failing_sequences(failure, count=2, frames=6)
    assert (rgb.modality, tir.modality) == ("rgb", "tir")
    for one in (rgb, tir):
        for index, (here, sound) in enumerate(zip(one, one.sequence, strict=True)):
            same = {
                "rgb": np.array_equal(here.rgb, sound.rgb),
                "tir": np.array_equal(here.tir, sound.tir),
            }
            fails = failure != "none" and index in (2, 3)
            assert same == {"rgb": True, "tir": True} | {one.modality: not fails}


def test_a_failing_camera_shows_what_its_kind_says():
    frames = {}
    for kind in KINDS:
        (one, _) = failing_sequences(kind, count=2, frames=3 * LATE_BY + 6)
        index = one.stretch[3]
        frames[kind] = one[index].rgb
        if kind == "late":
            assert np.array_equal(frames[kind], one.sequence[index - LATE_BY].rgb)
    assert not frames["empty"].any()
    assert (frames["saturated"] == 255).mean() > (frames["none"] == 255).mean() + 0.2
    assert frames["noise"].std() == pytest.approx(25, abs=3)
    assert not np.array_equal(frames["foreign"], frames["none"])


def test_networks_are_measured_on_the_same_frames():
    torch.manual_seed(0)
    plain = create_model("ainet_tiny_128", pretrained=True).eval()
    judging = create_model("ainet_tiny_128", pretrained=True, reliability=[0, 3]).eval()
    groups = {"empty": failing_sequences("empty", count=1, frames=6)}
    found = measure({"plain": plain, "judging": judging}, groups)
    # a reliability that has learned nothing changes nothing
    assert found["plain"] == found["judging"]
    assert 0.3 < found["plain"]["empty"] <= 1


def test_the_command_prints_a_row_per_file(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_checkpoint(create_model("two_stream_tiny_128", reliability=[3]), path)
    result = CliRunner().invoke(app, ["failing", str(path), "--sequences", "1", "--frames", "3"])
    assert result.exit_code == 0, result.output
    header, _, row = result.output.strip().splitlines()
    assert [cell.strip() for cell in header.strip("|").split("|")] == ["success", "mean", *KINDS]
    assert row.startswith("| mine |")
