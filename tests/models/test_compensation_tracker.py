import pytest
import torch

from model_material import images, tiny
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.models.compensation_tracker import CompensationTracker
from rgbt_fusion.weights.checkpoints import load_checkpoint, save_checkpoint
from rgbt_fusion.weights.pretrained import create_model

CHAINS = [
    ("cmc",),
    ("cmc1",),
    ("cmc", "cmc"),
    ("cmc1", "cmc"),
    ("cmc", "ce", "cmc"),
    ("cmc1", "ce", "cmc"),
    ("ce",),
    (),
]


@pytest.mark.parametrize("chain", CHAINS)
def test_every_chain_trains_every_parameter(chain: tuple[str, ...]) -> None:
    model = tiny("compensation_tiny_128", chain=chain).train()
    out = model(*images(model))
    (out.score_map.sum() + out.size_map.sum() + out.offset_map.sum()).backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert len(model.encode(*images(model)).indices[0]) == (45 if "ce" in chain else 64)


def test_the_stream_is_compensated_before_the_encoder() -> None:
    model = tiny("compensation_tiny_128").double()
    assert isinstance(model, CompensationTracker)
    template, search = images(model)
    cmc = model.stages[0]
    (z_rgb, z_tir), (x_rgb, x_tir) = (
        [embed(image) for image in pair]
        for embed, pair in (
            (model.backbone.embed_template, template),
            (model.backbone.embed_search, search),
        )
    )
    tokens = torch.cat((cmc(z_rgb, z_tir), cmc(x_rgb, x_tir)), dim=1)
    for block in model.backbone.blocks:
        tokens = block.transform(block.attend(tokens))
    torch.testing.assert_close(
        model.encode(template, search).features, model.backbone.norm(tokens)[:, 16:]
    )


def test_tir_keeps_the_places_of_rgb_behind_an_elimination() -> None:
    model = tiny("compensation_tiny_128", chain=("ce", "cmc"))
    assert isinstance(model, CompensationTracker)
    seen = []
    model.stages[1].register_forward_hook(lambda _, inputs, output: seen.append(inputs))
    template, search = images(model)
    indices = model.encode(template, search).indices
    _, tir = seen[0]
    expected = model.backbone.embed_search(search.tir).gather(
        1, indices[..., None].expand(-1, -1, 128)
    )
    torch.testing.assert_close(tir, expected)


def test_the_empty_chain_is_a_tracker_in_rgb(tmp_path) -> None:
    model, single = (
        tiny("compensation_tiny_128", chain=()),
        tiny("ostrack_tiny_128", keep_ratio=1.0),
    )
    save_checkpoint(single, tmp_path / "single.safetensors")
    load_checkpoint(model, tmp_path / "single.safetensors")
    template, search = images(model)
    unseen = ImagePair(search.rgb, torch.zeros_like(search.tir))
    torch.testing.assert_close(
        model(template, unseen).score_map, single(template, search).score_map
    )


def test_an_unknown_stage_is_refused() -> None:
    with pytest.raises(ValueError, match="chain must be one of 'cmc', 'cmc1', 'ce', got 'cmc2'"):
        create_model("compensation_tiny_128", chain=("cmc2",))
    with pytest.raises(TypeError, match="chain must be a sequence of stages"):
        create_model("compensation_tiny_128", chain="cmc")
