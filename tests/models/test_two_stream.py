import torch

from model_material import images, tiny
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.weights.checkpoints import load_checkpoint, save_checkpoint


def test_features_are_the_sum_of_two_single_streams() -> None:
    model, single = (
        tiny("two_stream_tiny_128").double(),
        tiny("ostrack_tiny_128", keep_ratio=1.0).double(),
    )
    single.load_state_dict(model.state_dict())
    template, search = images(model)
    features = model.encode(template, search).features
    rgb = single.encode(template, search).features
    tir = single.encode(
        ImagePair(template.tir, template.rgb), ImagePair(search.tir, search.rgb)
    ).features
    torch.testing.assert_close(features, rgb + tir)


def test_equal_streams_from_a_single_stream_file_give_its_result(tmp_path) -> None:
    single, model = tiny("ostrack_tiny_128"), tiny("two_stream_tiny_128", keep_ratio=0.7)
    save_checkpoint(single, tmp_path / "single.safetensors")
    report = load_checkpoint(model, tmp_path / "single.safetensors")
    assert report.share == 1
    template, search = images(model)
    twice = model(ImagePair(template.rgb, template.rgb), ImagePair(search.rgb, search.rgb))
    torch.testing.assert_close(twice.score_map, single(template, search).score_map)
    torch.testing.assert_close(twice.box_cxcywh_unit, single(template, search).box_cxcywh_unit)


def test_both_streams_drop_the_same_candidates() -> None:
    model = tiny("two_stream_tiny_128", keep_ratio=0.5)
    encoding = model.encode(*images(model), layers=range(4))
    assert [layer.indices.shape[1] for layer in encoding.layers] == [64, 32, 16, 8]
    for layer in encoding.layers:
        assert layer.tir is not None
        assert layer.rgb.shape == layer.tir.shape == (2, 16 + layer.indices.shape[1], 128)
    zero = (encoding.features == 0).all(-1)
    kept = torch.zeros_like(zero).scatter(1, encoding.indices, True)
    assert torch.equal(zero, ~kept)
