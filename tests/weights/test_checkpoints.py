import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor

from model_material import images, save_as_official, tiny
from rgbt_fusion.models.network import TrackingNetwork
from rgbt_fusion.models.presets import list_models
from rgbt_fusion.models.tracking_settings import ConfidenceMap, TrackingSettings
from rgbt_fusion.weights.checkpoints import (
    CheckpointError,
    convert_checkpoint,
    fitting_preset,
    load_checkpoint,
    load_model,
    save_checkpoint,
    store_tracking_settings,
)
from rgbt_fusion.weights.formats import TRACKING_SETTINGS_KEY
from rgbt_fusion.weights.pretrained import create_model

SMALL = {"stem": "patch", "depth": 2}


def small(name: str = "ostrack_tiny_128", **overrides: Any) -> TrackingNetwork:
    """A small network with the ViT's own patch stem, as the files of others have it."""
    return tiny(name, **(SMALL | overrides))


def official(model: TrackingNetwork, path: Path, **changes: Tensor | None) -> Path:
    state = {**model.state_dict(), **changes}
    return save_as_official(
        {name: value for name, value in state.items() if value is not None}, path
    )


SHRUNK = {
    "dim": 48,
    "depth": 2,
    "num_heads": 2,
    "template_size": 64,
    "search_size": 128,
    "head_channels": 16,
}
"""What makes a file of a large preset as small as that of a tiny one."""


@pytest.mark.parametrize("name", list_models())
def test_every_preset_comes_back_from_its_own_file(name: str, tmp_path: Path) -> None:
    changes = {} if "tiny" in name else SHRUNK
    model = tiny(name, **changes)
    save_checkpoint(model, tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors").eval()
    assert again.configuration == model.configuration
    assert torch.equal(again(*images(model)).score_map, model(*images(model)).score_map)
    report = load_checkpoint(create_model(name, **changes), tmp_path / "model.safetensors")
    assert report.share == 1 and len(report.loaded) == len(model.state_dict())
    assert not (report.resized or report.missing or report.unexpected or report.duplicated)


def test_a_file_in_half_precision_is_half_as_large_and_loads(tmp_path: Path) -> None:
    model = tiny("ainet_tiny_128")
    save_checkpoint(model, tmp_path / "half", dtype=torch.float16, metadata={"steps": "6000"})
    save_checkpoint(model, tmp_path / "full")
    assert (tmp_path / "half").stat().st_size < 0.55 * (tmp_path / "full").stat().st_size
    again = load_model(tmp_path / "half").eval()
    assert next(again.parameters()).dtype == torch.float32
    torch.testing.assert_close(
        again(*images(model)).score_map, model.half().float()(*images(model)).score_map
    )
    with safe_open(tmp_path / "half", framework="pt") as file:
        assert file.metadata()["steps"] == "6000"


def test_equal_weights_give_equal_bytes(tmp_path: Path) -> None:
    """The writer of safetensors alone puts the texts in another order in each call."""
    model = small()
    texts = {letter: letter.upper() for letter in "zyxwvutsrq"}
    first, again = tmp_path / "first.safetensors", tmp_path / "again.safetensors"
    save_checkpoint(model, first, metadata=texts)
    save_checkpoint(model, again, metadata=dict(sorted(texts.items())))
    assert first.read_bytes() == again.read_bytes()
    with safe_open(first, "pt") as file:
        assert texts.items() <= file.metadata().items()


def test_saving_replaces_a_file_only_when_the_new_one_is_complete(
    tmp_path: Path, monkeypatch: Any
) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(tiny("ostrack_tiny_128"), path)
    before = path.read_bytes()

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(
        CheckpointError, match=r"model.safetensors cannot be written: .*No space left"
    ):
        save_checkpoint(tiny("two_stream_tiny_128"), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_checkpoint(tiny("ostrack_tiny_128"), tmp_path / "no" / "folder")


def test_official_file_of_another_size_has_its_positions_resized(tmp_path: Path) -> None:
    model, larger = small(), small(search_size=256, template_size=128)
    report = load_checkpoint(larger, official(model, tmp_path / "file"))
    assert report.layout == "ostrack" and report.share == 1
    assert report.resized == ("backbone.pos_embed_z", "backbone.pos_embed_x")
    table = model.backbone.pos_embed_x.unflatten(1, (8, 8)).permute(0, 3, 1, 2)
    expected = F.interpolate(table, (16, 16), mode="bilinear").flatten(2).transpose(1, 2)
    torch.testing.assert_close(larger.backbone.pos_embed_x, expected)


def test_droptrack_is_resized_and_then_moved_by_its_temporal_embedding(tmp_path: Path) -> None:
    model, larger = small(), small("two_stream_tiny_128", search_size=256, template_size=128)
    temporal = {f"backbone.temporal_pos_embed_{letter}": torch.randn(1, 1, 128) for letter in "xz"}
    report = load_checkpoint(larger, official(model, tmp_path / "file", **temporal))
    assert report.layout == "droptrack" and not report.unexpected
    table = model.backbone.pos_embed_z.unflatten(1, (4, 4)).permute(0, 3, 1, 2)
    resized = F.interpolate(table, (8, 8), mode="bilinear").flatten(2).transpose(1, 2)
    torch.testing.assert_close(
        larger.backbone.pos_embed_z, resized + temporal["backbone.temporal_pos_embed_z"]
    )


def test_a_mae_starts_the_encoder_and_its_head_stays_as_it_is(tmp_path: Path) -> None:
    model, other = small(), small()
    state = {
        name[9:]: value
        for name, value in model.state_dict().items()
        if name.startswith("backbone.")
    }
    state = {name: value for name, value in state.items() if not name.startswith("pos_embed_")}
    state |= {"pos_embed": torch.randn(1, 197, 128), "decoder_embed.weight": torch.ones(3, 3)}
    torch.save({"model": state}, tmp_path / "mae.pth")
    head = {name: value.clone() for name, value in other.box_head.state_dict().items()}
    report = load_checkpoint(other, tmp_path / "mae.pth")
    assert report.layout == "vit" and report.unexpected == ("decoder_embed.weight",)
    assert {name.split(".")[0] for name in report.missing} == {"box_head"}
    assert all(
        torch.equal(value, head[name]) for name, value in other.box_head.state_dict().items()
    )
    assert torch.equal(
        other.backbone.blocks[1].mlp.fc1.weight, model.backbone.blocks[1].mlp.fc1.weight
    )
    table = state["pos_embed"][:, 1:].unflatten(1, (14, 14)).permute(0, 3, 1, 2)
    expected = F.interpolate(table, (8, 8), mode="bicubic").flatten(2).transpose(1, 2)
    torch.testing.assert_close(other.backbone.pos_embed_x, expected)


def test_tpmri_takes_its_second_patch_embedding_from_the_first(tmp_path: Path) -> None:
    model, tpmri = small(), small("tpmri_tiny_128")
    report = load_checkpoint(tpmri, official(model, tmp_path / "file"))
    assert report.duplicated == ("patch_embed_tir.proj.bias", "patch_embed_tir.proj.weight")
    weight = tpmri.get_parameter("patch_embed_tir.proj.weight")
    assert torch.equal(weight, model.get_parameter("backbone.patch_embed.proj.weight"))


def test_the_report_can_be_read(tmp_path: Path) -> None:
    report = load_checkpoint(small("ainet_tiny_128"), official(small(), tmp_path / "file.pth"))
    printed = str(report).splitlines()
    assert printed[0].endswith(f"file.pth (ostrack): {report.share:.1%} of the model loaded")
    assert printed[4].strip().startswith(f"missing    {len(report.missing)}: dfm.0.norm.weight, ")
    assert printed[5].strip() == "unexpected 0"


def test_a_configuration_that_does_not_fit_is_refused_with_the_preset_that_does(
    tmp_path: Path,
) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(tiny("ainet_tiny_128_compact"), path)
    for name in ("ainet_tiny_128", "two_stream_tiny_128"):
        with pytest.raises(
            CheckpointError, match=r"the file fits create_model\('ainet_tiny_128_compact'\)"
        ):
            load_checkpoint(create_model(name), path)
    save_checkpoint(tiny("ainet_tiny_128", order_predictor=None), path)
    with pytest.raises(
        CheckpointError,
        match=r"order_predictor is None in the file and 'pooled' in the model; no preset",
    ):
        load_checkpoint(create_model("ainet_tiny_128"), path)
    # what is not in the weights may differ
    save_checkpoint(
        tiny("ainet_tiny_128", order_gradient="none", keep_ratio=0.7, drop_path=0.0), path
    )
    assert load_checkpoint(create_model("ainet_tiny_128"), path).share == 1


def test_official_presets_are_found_by_the_shapes(tmp_path: Path) -> None:
    for name in (
        "ostrack_vitb_256",
        "ostrack_vitb_384",
        "ostrack_vits_256",
        "ainet_vitb_384_released",
    ):
        with torch.device("meta"):
            configuration = create_model(name).configuration
        known = ("depth", "dim", "search_size", "template_size", "head_channels")
        configuration["settings"] = {key: configuration["settings"][key] for key in known}
        assert fitting_preset(configuration) == name


def test_a_file_may_be_made_to_fit_by_asking_for_less(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(tiny("ainet_tiny_128"), path)
    model = create_model("two_stream_tiny_128")
    report = load_checkpoint(model, path, minimum_share=0.9)
    assert report.share == 1 and report.unexpected
    with pytest.raises(ValueError, match="minimum_share must be a finite number"):
        load_checkpoint(model, path, minimum_share=2)


def weights(model: TrackingNetwork) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_refused_files_leave_the_model_as_it_was(tmp_path: Path) -> None:
    model = small()
    before = weights(model)
    wrong = torch.randn(7, 3)
    state = small(depth=2).state_dict()
    poisoned = state["box_head.conv3_size.0.bias"].clone()
    poisoned[1] = float("nan")
    cases = {
        "at least 100% must be there: it lacks box_head.conv3_size.0.bias": {
            "box_head.conv3_size.0.bias": None
        },
        r"backbone.blocks.1.mlp.fc1.bias has shape \(7, 3\), the model's \(512,\)": {
            "backbone.blocks.1.mlp.fc1.bias": wrong
        },
        "not finite in box_head.conv3_size.0.bias": {"box_head.conv3_size.0.bias": poisoned},
        r"holds 1e\+300 in box_head.conv3_size.0.bias, which is beyond torch.float32": {
            "box_head.conv3_size.0.bias": torch.full_like(poisoned, 1e300, dtype=torch.float64)
        },
    }
    for reason, change in cases.items():
        path = official(small(), tmp_path / "file", **change)
        with pytest.raises(CheckpointError, match=reason):
            load_checkpoint(model, path)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("value", [torch.tensor([1 << 40]), torch.tensor([1.5])])
def test_whole_numbers_that_a_buffer_cannot_hold_are_refused(
    tmp_path: Path, value: torch.Tensor
) -> None:
    model = torch.nn.Linear(1, 1)
    model.register_buffer("count", torch.zeros(1, dtype=torch.int32))
    torch.save(model.state_dict() | {"count": torch.tensor([3])}, tmp_path / "sound.pt")
    load_checkpoint(model, tmp_path / "sound.pt")
    torch.save(model.state_dict() | {"count": value}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"in count, which is beyond torch.int32"):
        load_checkpoint(model, tmp_path / "other.pt")
    assert int(model.get_buffer("count")) == 3


@pytest.mark.parametrize(("dtype", "value"), [(torch.float16, 7e4), (torch.bfloat16, 3.4e38)])
def test_weights_that_a_dtype_cannot_hold_are_not_written(
    tmp_path: Path, dtype: torch.dtype, value: float
) -> None:
    model = tiny("ostrack_tiny_128")
    with torch.no_grad():
        model.get_parameter("backbone.blocks.0.mlp.fc1.bias")[3] = value
    path = tmp_path / "model.safetensors"
    save_checkpoint(model, path)
    before = path.read_bytes()
    reason = r"blocks\.0\.mlp\.fc1\.bias has .*e\+\d+, which is beyond torch\.b?float16"
    with pytest.raises(CheckpointError, match=reason):
        save_checkpoint(model, path, dtype=dtype)
    with pytest.raises(CheckpointError, match=reason):
        convert_checkpoint(path, path, name="ostrack_tiny_128", dtype=dtype)
    assert path.read_bytes() == before


def test_a_file_with_renamed_entries_is_refused(tmp_path: Path) -> None:
    state = {f"encoder.{name}": value for name, value in small().state_dict().items()}
    torch.save(state, tmp_path / "renamed.pth")
    with pytest.raises(
        CheckpointError, match=r"\(state_dict\) provides 0.0% of the model.*no preset fits the file"
    ):
        load_checkpoint(small(), tmp_path / "renamed.pth")


def test_a_file_of_another_width_names_the_preset(tmp_path: Path) -> None:
    with torch.device("meta"):
        shapes = {
            name: value.shape
            for name, value in create_model("ostrack_vits_256").state_dict().items()
        }
    state = {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}
    save_as_official(state, tmp_path / "small.pth")
    with pytest.raises(
        CheckpointError, match=r"dim is 384 in the file and 128.*create_model\('ostrack_vits_256'\)"
    ):
        load_checkpoint(small(), tmp_path / "small.pth")


def test_a_model_is_not_built_from_a_file_that_does_not_describe_it(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match="carries no configuration: create_model, then load_checkpoint"
    ):
        load_model(official(small(), tmp_path / "file"))
    model = tiny("ostrack_tiny_128")
    model.options = {"colour": "blue"}
    save_checkpoint(model, tmp_path / "later.safetensors")
    with pytest.raises(CheckpointError, match="describes a model that this version does not know"):
        load_model(tmp_path / "later.safetensors")


def test_conversion_finds_the_preset_by_itself(tmp_path: Path) -> None:
    save_checkpoint(tiny("one_stream_student_tiny_128"), tmp_path / "own.safetensors")
    report = convert_checkpoint(
        tmp_path / "own.safetensors", tmp_path / "half.safetensors", dtype=torch.float16
    )
    assert report.share == 1
    assert type(load_model(tmp_path / "half.safetensors")).__name__ == "OneStreamStudent"
    with pytest.raises(
        CheckpointError, match="fits no preset by itself: say for which model it is meant"
    ):
        convert_checkpoint(official(small(), tmp_path / "file"), tmp_path / "out.safetensors")
    save_checkpoint(tiny("ostrack_tiny_128"), tmp_path / "single.safetensors")
    convert_checkpoint(
        tmp_path / "single.safetensors", tmp_path / "two.safetensors", name="two_stream_tiny_128"
    )
    assert type(load_model(tmp_path / "two.safetensors")).__name__ == "TwoStream"


LOAD_AND_STEP = """
import sys, torch
from pathlib import Path
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.weights.pretrained import create_model
from rgbt_fusion.weights.checkpoints import load_checkpoint
model = create_model("ainet_vitb_256_released").eval()
load_checkpoint(model, sys.argv[1])
template, search = (ImagePair(*torch.randn(2, 1, 3, n, n)) for n in (128, 256))
with torch.inference_mode():
    for _ in range(3):
        model(template, search)
# getrusage would count what the parent held when it started this process
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(status["VmHWM"].split()[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from Linux's /proc")
def test_loading_and_running_the_largest_model_needs_little_more_than_its_weights(
    tmp_path: Path,
) -> None:
    save_checkpoint(create_model("ainet_vitb_256_released"), tmp_path / "model")
    command = [sys.executable, "-c", LOAD_AND_STEP, str(tmp_path / "model")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 1_200_000


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "_orig_mod.module."])
def test_what_a_wrapper_put_before_the_names_is_taken_off_and_reported(
    tmp_path: Path, prefix: str
) -> None:
    model = tiny("ostrack_tiny_128", depth=1)
    wrapped = {prefix + name: value for name, value in model.state_dict().items()}
    torch.save(wrapped, tmp_path / "wrapped.pth")
    again = create_model("ostrack_tiny_128", depth=1)
    report = load_checkpoint(again, tmp_path / "wrapped.pth")
    assert again.backbone.pos_embed_x.equal(model.backbone.pos_embed_x)
    assert "".join(report.prefixes) == prefix
    assert "taken off the names" in str(report)


def test_a_name_of_the_network_itself_is_no_wrapper(tmp_path: Path) -> None:
    class Holder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = torch.nn.Linear(2, 2)

    torch.save(Holder().state_dict(), tmp_path / "own.pth")
    report = load_checkpoint(Holder(), tmp_path / "own.pth")
    assert (report.share, report.prefixes) == (1.0, ())


def test_a_compiled_network_is_saved_under_the_names_of_the_network(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    compiled = torch.compile(model, backend="eager")
    save_checkpoint(compiled, tmp_path / "one.safetensors")
    assert load_checkpoint(torch.nn.Linear(2, 2), tmp_path / "one.safetensors").prefixes == ()
    assert load_checkpoint(compiled, tmp_path / "one.safetensors").share == 1.0


MEASURED = TrackingSettings(
    size_inertia=0.8,
    lost_threshold=0.6,
    confidence=ConfidenceMap(offset=-1.0, slope=1.5, rival_slope=0.5),
)
"""What somebody measured for some weights."""


def test_tracking_settings_travel_with_the_weights(tmp_path: Path) -> None:
    model = small()
    model.tracking_settings = MEASURED
    save_checkpoint(model, tmp_path / "model.safetensors")
    assert load_model(tmp_path / "model.safetensors").tracking_settings == MEASURED
    another = small()
    load_checkpoint(another, tmp_path / "model.safetensors")
    assert another.tracking_settings == MEASURED
    # a file that says nothing of them, and weights of which a part is kept
    save_checkpoint(small(), tmp_path / "plain.safetensors")
    load_checkpoint(another, tmp_path / "plain.safetensors")
    assert another.tracking_settings is None
    deeper = small(depth=3)
    load_checkpoint(deeper, tmp_path / "model.safetensors", minimum_share=0.3)
    assert deeper.tracking_settings is None


def test_settings_are_stored_without_a_change_of_the_tensors(tmp_path: Path) -> None:
    path, out = tmp_path / "model.safetensors", tmp_path / "measured.safetensors"
    save_checkpoint(small(), path, dtype=torch.float16, metadata={"training": "mine"})
    store_tracking_settings(path, MEASURED, out)
    assert load_model(path).tracking_settings is None
    assert load_model(out).tracking_settings == MEASURED
    with safe_open(path, "pt") as before, safe_open(out, "pt") as after:
        assert after.metadata()["training"] == "mine"
        assert after.keys() == before.keys()
        for name in before.keys():  # noqa: SIM118
            assert torch.equal(after.get_tensor(name), before.get_tensor(name))
    store_tracking_settings(out, TrackingSettings())
    assert load_model(out).tracking_settings == TrackingSettings()
    torch.save(small().state_dict(), tmp_path / "theirs.pth")
    with pytest.raises(CheckpointError, match="must be a file of this library to store tracking"):
        store_tracking_settings(tmp_path / "theirs.pth", MEASURED)


def test_weights_that_another_network_starts_from_bring_no_settings(tmp_path: Path) -> None:
    model = small()
    model.tracking_settings = MEASURED
    save_checkpoint(model, tmp_path / "model.safetensors")
    two_streams = small("two_stream_tiny_128")
    assert load_checkpoint(two_streams, tmp_path / "model.safetensors").share == 1
    assert two_streams.tracking_settings is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Expecting property name"),
        ("[" * 100_000, "recursion"),
        ("[]", "the content must be a table, got"),
        ('{"inertia": 0.5}', "unknown key inertia; known are window_weight, size_inertia"),
        ('{"size_inertia": 7}', r"size_inertia must be a finite number in \[0, 0.999\], got 7"),
        ('{"size_inertia": "x"}', "size_inertia must be a number, got 'x'"),
        ('{"size_growth": 0.1}', "size_growth must be a number of at least 1, got 0.1"),
        ('{"confidence": {"offset": 1}}', "confidence.slope must be given"),
        ('{"confidence": {"offset": 1, "slope": -1}}', "slope must be a finite number"),
    ],
)
def test_tracking_settings_that_cannot_be_used_are_refused(
    text: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(small(), path, metadata={TRACKING_SETTINGS_KEY: text})
    with pytest.raises(CheckpointError, match=f"carries tracking settings that .*{message}"):
        load_checkpoint(small(), path)
