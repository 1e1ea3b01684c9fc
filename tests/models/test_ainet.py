from pathlib import Path
from typing import Any

import pytest
import torch

from model_material import Conformance, images, save_as_official, tiny
from rgbt_fusion.layers.order_dynamic_fusion_mamba import OrderDynamicFusionMamba
from rgbt_fusion.models.ainet import AINet, fusion_blocks
from rgbt_fusion.weights.checkpoints import load_checkpoint
from rgbt_fusion.weights.pretrained import create_model


@pytest.fixture(scope="module")
def official_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    case = Conformance("ainet_256")
    return save_as_official(
        case.state_dict(), tmp_path_factory.mktemp("ainet") / "AINet_ep0015.pth.tar"
    )


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_official_weights_give_the_recorded_maps(official_file: Path, dtype: torch.dtype) -> None:
    case = Conformance("ainet_256")
    model = create_model("ainet_vitb_256_released").eval()
    report = load_checkpoint(model, official_file)
    assert report.share == 1 and not report.missing and not report.unexpected
    model.to(dtype)
    case.check_output(model, dtype)
    if dtype == torch.float64:
        return
    with torch.inference_mode():
        encoding = model.encode(*case.images(dtype), layers=(0, 11))
    for layer, tokens in zip((0, 11), encoding.layers, strict=True):
        assert tokens.tir is not None
        case.check(f"dfm{layer}.rgb.first", tokens.rgb[:, :4, :8])
        case.check(f"dfm{layer}.tir.last", tokens.tir[:, -4:, :8])
    case.check("ofm.out.last", encoding.features[:, -4:, :8])
    assert encoding.layer_order is not None
    assert encoding.layer_order[0].tolist() == case.expected["ofm.shift_indice"][0].tolist()


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_parameters_are_those_of_the_released_model_and_of_the_published_budget() -> None:
    with torch.device("meta"):
        released, compact = (
            create_model("ainet_vitb_256_released"),
            create_model("ainet_vitb_256_compact"),
        )
        larger, baseline = (
            create_model("ainet_vitb_384_released"),
            create_model("two_stream_vitb_256"),
        )
    assert isinstance(released, AINet) and released.dfm is not None and released.ofm is not None
    assert parameters(released) == 135_978_001
    assert parameters(larger) == 136_285_201
    assert parameters(released.dfm[0]) == 3_068_928
    assert parameters(released.ofm) == 6_632_332
    assert parameters(compact) - parameters(baseline) <= 15_900_000


def test_norms_have_the_epsilons_of_the_released_model() -> None:
    with torch.device("meta"):
        model = create_model("ainet_vitb_256_released")
    found = {
        (name.split(".")[0], module.eps)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.LayerNorm)
    }
    assert found == {("backbone", 1e-6), ("dfm", 1e-5), ("ofm", 1e-5)}


def test_released_slicing_leaves_template_tokens_in_at_384() -> None:
    with torch.device("meta"):
        small, large = (
            create_model("ainet_vitb_256_released"),
            create_model("ainet_vitb_384_released"),
        )
    assert isinstance(small, AINet) and isinstance(large, AINet)
    read = [
        m.backbone.template_length - m.skipped + m.backbone.search_length for m in (small, large)
    ]
    assert read == [256, 656]


@pytest.mark.parametrize("tokens", ["search", "all", "released"])
def test_the_ofm_reads_the_tokens_it_is_said_to(tokens: str) -> None:
    model = tiny("ainet_tiny_128", ofm_tokens=tokens, template_size=160)
    assert isinstance(model, AINet) and isinstance(model.ofm, OrderDynamicFusionMamba)
    seen = []
    model.ofm.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    out = model.encode(*images(model))
    (features, fused) = seen[0]
    lengths = {"search": 64, "all": 164, "released": 100}
    assert [feature.shape[1] for feature in features] == [lengths[tokens]] * 4
    assert torch.equal(out.features, fused[:, -64:])


@pytest.mark.parametrize(
    "options",
    [
        {"fusion_layers": 1},
        {"fusion_layers": 3},
        {"fusion_layers": 6},
        {"fusion_layers": (1, 3)},
        {"dfm": None},
        {"ofm": None},
        {"dfm": None, "ofm": None},
        {"order_predictor": None},
        {"order_gradient": "none"},
        {"dfm": "attention", "ofm": "attention"},
        {"keep_ratio": 0.5},
        {"keep_ratio": 0.5, "ofm_tokens": "all", "fusion_layers": (0, 3)},
    ],
)
def test_every_variant_trains_every_parameter(options: dict[str, Any]) -> None:
    model = tiny("ainet_tiny_128", **options).train()
    out = model(*images(model))
    (out.score_map.sum() + out.size_map.sum() + out.offset_map.sum()).backward()
    left_out = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not left_out
    assert out.box_cxcywh_unit.shape == (2, 4)


@pytest.mark.parametrize(
    ("number", "blocks"),
    [
        (1, (11,)),
        (3, (0, 6, 11)),
        (6, (0, 2, 4, 6, 8, 11)),
        (12, (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)),
        (None, (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)),
    ],
)
def test_a_number_of_fusion_layers_names_the_blocks_of_the_paper(
    number: int | None, blocks: tuple[int, ...]
) -> None:
    assert fusion_blocks(number, 12) == blocks


@pytest.mark.parametrize(
    ("options", "streams"),
    [({}, 1), ({"dfm": None}, 1), ({"ofm": None}, 1), ({"dfm": None, "ofm": None}, 2)],
)
def test_the_head_reads_a_sum_of_streams_only_without_fusion(
    options: dict[str, Any], streams: int
) -> None:
    assert tiny("ainet_tiny_128", **options).summed_streams == streams


def test_without_dfm_and_ofm_it_is_the_two_stream_baseline() -> None:
    model, baseline = tiny("ainet_tiny_128", dfm=None, ofm=None), tiny("two_stream_tiny_128")
    baseline.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(*images(model)).score_map, baseline(*images(model)).score_map)


def test_without_dfm_the_fused_feature_is_the_sum_of_the_streams() -> None:
    model = tiny("ainet_tiny_128", dfm=None)
    assert isinstance(model, AINet) and model.ofm is not None
    seen = []
    model.ofm.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0]))
    layers = model.encode(*images(model), layers=range(4)).layers
    for layer, feature in zip(layers, seen[0], strict=True):
        assert layer.tir is not None
        torch.testing.assert_close(feature, (layer.rgb + layer.tir)[:, 16:])


def test_a_sum_of_weighed_streams_is_the_sum_while_the_reliability_is_new() -> None:
    plain = create_model("ainet_tiny_128", dfm=None).eval()
    weighing = create_model("ainet_tiny_128", dfm=None, reliability=[1, 3]).eval()
    weighing.load_state_dict(plain.state_dict(), strict=False)
    found = weighing(*images(plain)).score_map
    torch.testing.assert_close(found, plain(*images(plain)).score_map)


def test_eliminated_candidates_leave_every_layer_and_come_back_as_zeros() -> None:
    model = tiny("ainet_tiny_128", keep_ratio=0.5)
    assert (
        isinstance(model, AINet)
        and isinstance(model.dfm, torch.nn.ModuleList)
        and model.ofm is not None
    )
    seen, joined = [], []
    model.ofm.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0]))
    for layer in model.dfm:
        layer.get_submodule("fuse").register_forward_hook(
            lambda _, inputs, output: joined.append(output)
        )
    encoding = model.encode(*images(model), layers=(0, 1))
    assert [feature.shape[1] for feature in seen[0]] == [8] * 4
    # the first layer's feature is what its join gave at the places that survive to the end
    first = torch.nn.functional.gelu(joined[0]).gather(
        1, encoding.indices[..., None].expand(-1, -1, 128)
    )
    torch.testing.assert_close(seen[0][0], first)
    assert int((encoding.features != 0).any(-1).sum()) == 2 * 8


def test_fusion_layers_out_of_range_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"fusion_layers must be ascending block numbers, the last 3, got \(3, 1\)"
    ):
        create_model("ainet_tiny_128", fusion_layers=(3, 1))
    with pytest.raises(ValueError, match="fusion_layers must be one of 1, 3, 6, 12, got 5"):
        create_model("ainet_tiny_128", fusion_layers=5)
    with pytest.raises(
        ValueError, match="ofm_tokens must be one of 'search', 'all', 'released', got 'none'"
    ):
        create_model("ainet_tiny_128", ofm_tokens="none")
