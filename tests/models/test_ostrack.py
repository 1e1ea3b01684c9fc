from pathlib import Path

import pytest
import torch

from model_material import Conformance, images, save_as_official, tiny
from rgbt_fusion.checks import ShapeError
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.weights.checkpoints import load_checkpoint
from rgbt_fusion.weights.pretrained import create_model


@pytest.fixture(scope="module")
def official_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    case = Conformance("ostrack_256")
    return save_as_official(
        case.state_dict(), tmp_path_factory.mktemp("ostrack") / "OSTrack_ep0300.pth.tar"
    )


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("name", "keep_ratio"), [("ostrack_256", 1.0), ("ostrack_256_ce", 0.7)])
def test_official_weights_give_the_recorded_maps(
    official_file: Path, name: str, keep_ratio: float, dtype: torch.dtype
) -> None:
    case = Conformance(name)
    model = create_model("ostrack_vitb_256", keep_ratio=keep_ratio).eval()
    report = load_checkpoint(model, official_file)
    assert report.share == 1 and not report.missing and not report.unexpected
    model.to(dtype)
    case.check_output(model, dtype)
    if dtype == torch.float64:
        return
    with torch.inference_mode():
        encoding = model.encode(*case.images(dtype), layers=(0, 11))
    for layer, tokens in zip((0, 11), encoding.layers, strict=True):
        case.check(f"block{layer}.first", tokens.rgb[:, :4, :8])
        case.check(f"block{layer}.last", tokens.rgb[:, -4:, :8])
    case.check("feat_search.first", encoding.features[:, :4, :8])
    if keep_ratio < 1:
        kept = sorted(case.expected["ce.keep9"][0].tolist())
        assert encoding.indices[0].tolist() == kept
        zeroed = (encoding.features[0] == 0).all(dim=-1)
        assert zeroed.tolist() == case.expected["ce.zeroed"][0].tolist()


def test_the_released_configuration_has_the_published_size() -> None:
    with torch.device("meta"):
        model = create_model("ostrack_vitb_256")
    assert sum(p.numel() for p in model.parameters()) == 92_518_533
    assert sum(p.numel() for p in model.box_head.parameters()) == 6_474_117
    assert sum(p.numel() for p in model.backbone.blocks[3].parameters()) == 7_087_872
    assert model.backbone.kept_lengths()[::3] == [256, 180, 126, 89]


def test_only_the_tracked_modality_is_read() -> None:
    rgb, tir = tiny("ostrack_tiny_128"), tiny("ostrack_tiny_128", modality="tir")
    template, search = images(rgb)
    swapped = rgb(ImagePair(template.tir, template.rgb), ImagePair(search.tir, search.rgb))
    assert torch.equal(tir(template, search).score_map, swapped.score_map)
    nothing = torch.full_like(search.tir, float("nan"))
    assert torch.equal(
        rgb(template, ImagePair(search.rgb, nothing)).score_map, rgb(template, search).score_map
    )


def test_a_template_of_another_batch_is_refused() -> None:
    model = tiny("ostrack_tiny_128")
    template, search = images(model)
    with pytest.raises(ShapeError, match=r"template must have the batch of search, 2, got 1"):
        model(ImagePair(template.rgb[:1], template.tir[:1]), search)
    with pytest.raises(
        ShapeError, match=r"search.rgb must have shape \(B, 3, H, W\) with H = 128, W = 128"
    ):
        model(template, template)
    with pytest.raises(
        TypeError, match=r"search.rgb must have the dtype of the model's parameters"
    ):
        model(template, ImagePair(search.rgb.double(), search.tir))
    with pytest.raises(ValueError, match="modality must be one of 'rgb', 'tir', got 'depth'"):
        create_model("ostrack_tiny_128", modality="depth")
