import logging
import warnings
from pathlib import Path

import pytest
import torch

from model_material import tiny
from rgbt_fusion import ModelOutput, NetworkError
from rgbt_fusion.export.agreement import TOLERANCES, ExportError
from rgbt_fusion.export.program import export_program, quiet
from rgbt_fusion.export.step import TrackerStep, recorded_steps


# that every preset can be exported is tested with the networks; here is what becomes of state,
# elimination and scans
@pytest.mark.parametrize("name", ["tpmri_tiny_128", "ainet_tiny_128"])
def test_a_model_becomes_a_program_that_gives_the_same(name: str, tmp_path: Path) -> None:
    model = tiny(name, depth=1).train()
    report = export_program(model, tmp_path / "step.pt2", batch=2)
    assert model.training
    assert report.path == tmp_path / "step.pt2"
    assert max(report.errors.values()) < 1e-6
    model.eval()
    step = TrackerStep(model, batch=2)
    program = torch.export.load(tmp_path / "step.pt2").module()
    (recorded,) = recorded_steps(step, 1, seed=3)
    with torch.no_grad():
        found = program(*recorded.inputs)
    assert list(found) == step.output_names
    for output, expected in recorded.outputs.items():
        torch.testing.assert_close(found[output], expected)


def test_a_program_that_does_not_agree_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TOLERANCES, "score_map", -1.0)
    with pytest.raises(ExportError, match="score_map of the exported step differs from PyTorch"):
        export_program(tiny("two_stream_tiny_128", depth=1), tmp_path / "step.pt2")
    assert not list(tmp_path.iterdir())


class Remembering(torch.nn.Module):
    template_size, search_size, search_factor = 32, 64, 4.0

    def __init__(self, state: object) -> None:
        super().__init__()
        self.state = state

    def forward(self, template, search, state=None):
        maps = search.rgb.new_zeros(len(search.rgb), 5, 4, 4)
        return ModelOutput.from_maps(maps[:, :1], maps[:, 1:3], maps[:, 3:], self.state)


@pytest.mark.parametrize("state", [torch.zeros(1), {"frames": torch.zeros(1)}])
def test_a_state_that_cannot_begin_anew_is_refused(tmp_path: Path, state: object) -> None:
    with pytest.raises(NetworkError, match=r"must be a named tuple of tensors with a method reset"):
        export_program(Remembering(state), tmp_path / "own.pt2")
    assert not list(tmp_path.iterdir())


def test_a_branch_on_values_is_refused_in_one_sentence(tmp_path: Path) -> None:
    class Branching(torch.nn.Module):
        def forward(self, x):
            return x * 2 if x.sum() > 0 else x

    with pytest.raises(ExportError, match="Branching must compute without branches") as raised:
        export_program(Branching(), (torch.ones(2),), tmp_path / "own.pt2")
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_a_model_in_another_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match=r"model must be in float32 to be exported, got torch.float64"
    ):
        export_program(tiny("two_stream_tiny_128", depth=1).double(), tmp_path / "step.pt2")


def test_warnings_come_back_after_the_export(caplog: pytest.LogCaptureFixture) -> None:
    with quiet():
        warnings.warn("an exporter's own", FutureWarning, stacklevel=1)
        logging.warning("an exporter's own")
    assert not caplog.records
    logging.warning("heard")
    assert [record.message for record in caplog.records] == ["heard"]
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn("heard", stacklevel=1)
