"""The loop: what it leaves, what it refuses before it writes, and how it ends when something
breaks."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from one_training import SMALL, small_training
from rgbt_fusion.files.text_tables import DataError
from rgbt_fusion.training import TrainConfig, TrainingError, config_from_table, train
from rgbt_fusion.training.checkpoints import read_checkpoint
from rgbt_fusion.training.loop import pick_device
from rgbt_fusion.training.objective import LocalizationObjective
from rgbt_fusion.weights.checkpoints import CheckpointError, load_model, save_checkpoint
from rgbt_fusion.weights.pretrained import create_model


def test_a_training_leaves_a_model_a_log_and_its_settings(tmp_path):
    seen = []
    config = small_training(steps=4, log_every=2)
    result = train(config, out=tmp_path, device="cpu", on_progress=seen.append)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint.pt",
        "config.json",
        "log.csv",
        "model.safetensors",
    ]
    assert load_model(result.model).configuration["settings"]["dim"] == 16
    assert (
        config_from_table(TrainConfig, json.loads((tmp_path / "config.json").read_text())) == config
    )
    assert [progress.step for progress in seen] == [2, 4]
    assert seen[-1].seconds_left == 0
    assert result.values == seen[-1].values
    assert {
        "loss",
        "focal",
        "giou",
        "l1",
        "iou",
        "gradient_norm",
        "learning_rate",
    } <= result.values.keys()
    assert len(result.log.read_text().splitlines()) == 3


def test_the_saved_model_is_the_average(tmp_path):
    result = train(small_training(steps=4), out=tmp_path, device="cpu")
    content, saved = read_checkpoint(tmp_path / "checkpoint.pt"), load_file(result.model)
    name = "box_head.conv5_ctr.weight"
    assert torch.equal(saved[name], content["average"][name])
    assert not torch.equal(saved[name], content["objective"][f"model.{name}"])


def test_without_an_average_the_saved_model_is_the_last(tmp_path):
    result = train(small_training(steps=2, optimiser={}), out=tmp_path, device="cpu")
    content = read_checkpoint(tmp_path / "checkpoint.pt")
    assert content["average"] is None
    name = "box_head.conv5_ctr.weight"
    assert torch.equal(load_file(result.model)[name], content["objective"][f"model.{name}"])


def test_the_callers_random_numbers_are_left_alone(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(small_training(steps=1), out=tmp_path, device="cpu")
    assert torch.equal(torch.rand(3), expected)


def test_frozen_parts_stay_as_they_were(tmp_path):
    start = create_model("ostrack_tiny_128", **SMALL)
    save_checkpoint(start, tmp_path / "start.safetensors")
    config = small_training(steps=2, frozen=["backbone."], optimiser={})
    result = train(
        config, out=tmp_path / "run", start_from=tmp_path / "start.safetensors", device="cpu"
    )
    trained = load_file(result.model)
    for name, value in start.state_dict().items():
        if name.startswith("backbone."):
            assert torch.equal(trained[name], value), name
    assert not torch.equal(
        trained["box_head.conv5_ctr.weight"], start.state_dict()["box_head.conv5_ctr.weight"]
    )


def test_a_fusion_model_starts_from_a_backbone_trained_before(tmp_path):
    save_checkpoint(create_model("ostrack_tiny_128", **SMALL), tmp_path / "start.safetensors")
    config = small_training(
        steps=1, model="ainet_tiny_128", frozen=["backbone."], start_share=0.1, optimiser={}
    )
    result = train(
        config, out=tmp_path / "run", start_from=tmp_path / "start.safetensors", device="cpu"
    )
    name = "backbone.blocks.0.attn.qkv.weight"
    assert torch.equal(
        load_file(result.model)[name], load_file(tmp_path / "start.safetensors")[name]
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"modality": "rgb"},
        {"modality": "either"},
        {"precision": "bfloat16"},
        {"precision": "float64"},
        {"model": "tpmri_tiny_128", "clip_length": 2},
        {"model": "compensation_tiny_128"},
        {"optimiser": {"clip_norm": 0.0, "schedule": "cosine", "warmup_steps": 1}},
    ],
    ids=str,
)
def test_every_way_of_training_takes_a_step(tmp_path, changes):
    result = train(small_training(steps=2, **changes), out=tmp_path, device="cpu")
    assert result.values["gradient_norm"] > 0
    assert torch.isfinite(torch.tensor(result.values["loss"]))


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path):
    config = small_training(
        steps=30, optimiser={"learning_rate": 1e30, "clip_norm": 0.0}, checkpoint_every=1
    )
    with pytest.raises(
        TrainingError,
        match=r"the (loss|gradient) of step \d+ is (nan|inf): lower optimiser.learning_rate",
    ) as error:
        train(config, out=tmp_path, device="cpu")
    content = read_checkpoint(tmp_path / "checkpoint.pt")
    assert f"{tmp_path / 'checkpoint.pt'} holds the last checkpoint" in str(error.value)
    assert all(value.isfinite().all() for value in content["objective"].values())


def test_a_gradient_that_is_not_finite_is_not_saved(tmp_path, monkeypatch):
    def forward(self, batch, ratio):
        weight = next(self.parameters())
        # 0 at 0, where its slope is infinite
        return dict.fromkeys(self.names, (weight - weight.detach()).abs().sqrt().sum())

    monkeypatch.setattr(LocalizationObjective, "forward", forward)
    with pytest.raises(TrainingError, match=r"the gradient of step 1 is (nan|inf): "):
        train(small_training(steps=3, checkpoint_every=1), out=tmp_path, device="cpu")
    assert not (tmp_path / "checkpoint.pt").exists()


def test_a_loss_that_was_never_finite_leaves_no_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(
        LocalizationObjective,
        "forward",
        lambda self, batch, ratio: dict.fromkeys(
            self.names, next(self.parameters()).sum() * float("nan")
        ),
    )
    with pytest.raises(
        TrainingError, match=r"the loss of step 1 is nan: .*there is no checkpoint yet"
    ):
        train(small_training(steps=3), out=tmp_path, device="cpu")


def test_damaged_samples_are_replaced_and_counted(tmp_path, caplog):
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    from data.test_clips import write_lasher

    root = write_lasher(tmp_path / "data", frames=6)
    damaged = root / "walk" / "infrared" / "0002.png"
    damaged.write_bytes(damaged.read_bytes()[:50])
    data = {"layout": "lasher", "workers": 1}
    config = small_training(steps=6, data=data)
    first = train(config, out=tmp_path / "one", data=root, device="cpu")
    assert first.damaged > 0
    assert "0002.png" in caplog.text
    content = read_checkpoint(tmp_path / "one" / "checkpoint.pt")
    assert content["damaged"] == first.damaged
    again = train(config, out=tmp_path / "two", data=root, device="cpu")
    assert again.damaged == first.damaged
    ours, theirs = load_file(first.model), load_file(again.model)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    strict = small_training(steps=6, data=data | {"most_damaged": first.damaged - 1})
    with pytest.raises(
        DataError, match=rf"most_damaged = {first.damaged - 1}, got {first.damaged} so far; .*0002"
    ):
        train(strict, out=tmp_path / "strict", data=root, device="cpu")
    none = small_training(steps=6, data=data | {"most_damaged": 0})
    with pytest.raises(DataError, match=r"0002\.png"):
        train(none, out=tmp_path / "none", data=root, device="cpu")


def test_several_datasets_are_trained_on_by_weight(tmp_path):
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    from data.test_clips import write_lasher

    root = write_lasher(tmp_path / "data")
    data = {"layout": "lasher", "workers": 0, "more": [{"layout": "synthetic", "weight": 3}]}
    config = small_training(steps=2, data=data)
    result = train(config, out=tmp_path / "run", data=[root, "synthetic"], device="cpu")
    assert result.steps == 2
    content = read_checkpoint(tmp_path / "run" / "checkpoint.pt")
    assert content["config"]["data"]["more"] == [{"layout": "synthetic", "weight": 3.0}]
    with pytest.raises(ValueError, match=r"data must be one folder for each of 2 datasets.* got 1"):
        train(config, out=tmp_path / "other", data=root, device="cpu")
    other = small_training(steps=2, data=data | {"more": [{"layout": "synthetic", "weight": 1}]})
    with pytest.raises(TrainingError, match=r"data\.more must be "):
        train(other, out=tmp_path / "run", data=[root, "synthetic"], device="cpu")


@pytest.mark.parametrize("model", ["ostrack_tiny_128", "tpmri_tiny_128"])
def test_absent_targets_are_trained_on(tmp_path, model):
    data = {"sequences": 3, "frames": 10, "workers": 0, "challenges": ["none"], "absent": 1.0}
    config = small_training(steps=3, model=model, clip_length=2, data=data)
    result = train(config, out=tmp_path, device="cpu")
    # no box is compared, and the map has no positive
    assert result.values["giou"] == result.values["l1"] == result.values["iou"] == 0
    assert result.values["loss"] == result.values["focal"] > 0


def test_an_unreadable_image_ends_the_training_with_its_name(tmp_path):
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    from data.test_clips import write_lasher

    root = write_lasher(tmp_path / "data", frames=3)
    data = {"layout": "lasher", "workers": 1}
    train(small_training(steps=2, data=data), out=tmp_path / "run", data=root, device="cpu")
    for image in (root / "walk" / "visible").iterdir():
        image.write_bytes(image.read_bytes()[:100])
    with pytest.raises(DataError, match=r"image .*visible.*\.png is cut off"):
        train(small_training(steps=4, data=data), out=tmp_path / "other", data=root, device="cpu")


@pytest.mark.parametrize(
    ("changes", "arguments", "error", "message"),
    [
        (
            {"overrides": {"colour": "red"}},
            {},
            ValueError,
            "overrides must fit the model: .*colour",
        ),
        (
            {"overrides": {"dim": 10, "num_heads": 3}},
            {},
            ValueError,
            "dim must be divisible by num_heads",
        ),
        (
            {"frozen": ["tail."]},
            {},
            ValueError,
            "frozen must hold beginnings of parameter names, got 'tail.'",
        ),
        (
            {"precision": "float16"},
            {},
            ValueError,
            "precision must be .* on the cpu, got 'float16'",
        ),
        (
            {},
            {"data": "absent"},
            ValueError,
            "data must be 'synthetic', as data.layout says, got 'absent'",
        ),
        (
            {"data": {"layout": "lasher"}},
            {},
            ValueError,
            "data must be the folder of a dataset of layout 'lasher', .*, got none",
        ),
        ({"data": {"layout": "lasher"}}, {"data": "absent"}, DataError, "absent"),
        ({}, {"start_from": "absent.pth"}, FileNotFoundError, "absent.pth"),
        ({}, {"device": "tpu"}, ValueError, "device must be cpu, cuda or cuda:N, got 'tpu'"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    tmp_path, changes, arguments, error, message
):
    with pytest.raises(error, match=message):
        train(small_training(**changes), out=tmp_path / "run", **({"device": "cpu"} | arguments))
    assert not (tmp_path / "run").exists()


def test_a_start_of_another_kind_is_refused(tmp_path):
    save_checkpoint(
        create_model("ostrack_tiny_128", **(SMALL | {"dim": 32})), tmp_path / "start.safetensors"
    )
    with pytest.raises(CheckpointError, match="dim is 32 in the file and 16 in the model"):
        train(
            small_training(),
            out=tmp_path / "run",
            start_from=tmp_path / "start.safetensors",
            device="cpu",
        )


def test_a_place_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="out must be a folder that can be written"):
        train(small_training(), out=tmp_path / "file", device="cpu")


def test_a_card_that_is_not_there_is_refused():
    if torch.cuda.is_available():
        pytest.skip("there is a card")
    with pytest.raises(ValueError, match="device must be one of this machine's, got 'cuda'"):
        pick_device("cuda")
    assert pick_device(None) == torch.device("cpu")


def test_a_longer_log_interval_changes_no_weight(tmp_path):
    config = small_training(steps=4)
    one = train(config, out=tmp_path / "one", device="cpu")
    other = train(
        replace(config, log_every=3, checkpoint_every=3), out=tmp_path / "other", device="cpu"
    )
    first, second = load_file(one.model), load_file(other.model)
    assert all(torch.equal(first[name], second[name]) for name in first)
