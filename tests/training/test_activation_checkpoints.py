"""Blocks that are computed twice: the same gradients from less memory."""

from typing import cast

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from one_training import SMALL, small_training
from rgbt_fusion.models.interface import ModelOutput
from rgbt_fusion.training import train
from rgbt_fusion.training.activation_checkpoints import checkpointed_blocks, find_blocks
from rgbt_fusion.weights.pretrained import create_model

MODELS = ("ostrack_tiny_128", "ainet_tiny_128", "tpmri_tiny_128", "compensation_tiny_128")


@pytest.mark.parametrize("model", MODELS)
def test_the_weights_are_the_same(tmp_path, model):
    overrides = SMALL | {"depth": 2, "drop_path": 0.5}
    options = {"model": model, "overrides": overrides, "steps": 2}
    if model == "tpmri_tiny_128":
        options["clip_length"] = 2
    plain = train(small_training(**options), out=tmp_path / "plain", device="cpu")
    config = small_training(**options, activation_checkpointing=True)
    twice = train(config, out=tmp_path / "twice", device="cpu")
    ours, theirs = load_file(twice.model), load_file(plain.model)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_less_is_kept_for_the_backward_pass():
    model = create_model("ostrack_tiny_128", depth=4)
    blocks = nn.ModuleList(find_blocks(model)).train()
    tokens = torch.randn(2, 80, 128, requires_grad=True)

    def kept() -> int:
        sizes = {}

        def note(tensor):
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            x = tokens
            for block in blocks:
                found = block(x)
                x = found[0] if isinstance(found, tuple) else found
        return sum(sizes.values())

    plain = kept()
    with checkpointed_blocks(model):
        assert kept() < plain / 3
    assert kept() == plain


def test_a_network_without_blocks_is_refused_before_anything_is_written(tmp_path):
    class Plain(nn.Module):
        template_size = 32
        search_size = 64
        search_factor = 4.0

        def __init__(self) -> None:
            super().__init__()
            self.maps = nn.Conv2d(6, 5, 16, stride=16)

        def forward(self, template, search, state=None):
            maps = self.maps(torch.cat(search, dim=1))
            return ModelOutput.from_maps(maps[:, :1], maps[:, 1:3].sigmoid(), maps[:, 3:])

    config = small_training(model="given", overrides={}, activation_checkpointing=True)
    with pytest.raises(ValueError, match="must be false for a network without blocks"):
        train(config, model=Plain(), out=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_layer_beside_the_lists_is_a_block():
    model = create_model("ainet_tiny_128", depth=2)
    assert find_blocks(model) == [
        *model.backbone.blocks,
        *cast(nn.ModuleList, model.dfm),
        model.ofm,
    ]
    # a wrapper of one layer keeps its input only
    assert find_blocks(nn.ModuleDict({"embed": nn.Sequential(nn.Linear(2, 2))})) == []


def test_the_fusion_of_all_layers_has_the_gradients_of_one_that_keeps_all():
    model = create_model("ainet_tiny_128", depth=3).double().train()
    features = [torch.randn(2, 64, 128, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    leaves = [*features, *model.ofm.parameters()]

    def gradients() -> tuple[torch.Tensor, ...]:
        weight = torch.linspace(-1, 1, 128, dtype=torch.float64)
        loss = (model.ofm(features) * weight).square().sum()
        return torch.autograd.grad(loss, leaves)

    plain = gradients()
    with checkpointed_blocks(model):
        twice = gradients()
    assert all(bool(gradient.any()) for gradient in plain)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(twice, plain, strict=True))


def test_a_block_with_statistics_is_left_alone():
    plain = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    with_statistics = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))
    blocks = nn.ModuleList([plain, with_statistics, nn.Linear(2, 2)])
    assert find_blocks(nn.ModuleDict({"neck": blocks})) == [plain]


def test_the_setting_may_change_when_a_training_is_resumed(tmp_path):
    train(small_training(steps=2), out=tmp_path, device="cpu")
    config = small_training(steps=4, activation_checkpointing=True)
    assert train(config, out=tmp_path, device="cpu").steps == 4
