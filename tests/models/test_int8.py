"""Linear layers in int8: those and nothing else, close to the network, which stays as it is."""

import pytest
import torch
from torch import nn

from rgbt_fusion import AINet, ImagePair, MambaBlock, Tracker, create_model
from rgbt_fusion.models.int8 import quantize_linear_layers
from rgbt_fusion.models.interface import TrackerModel
from tracking_material import BOX, scene


def test_a_tracker_with_scans_computes_nearly_the_same() -> None:
    torch.manual_seed(0)
    model = create_model("ainet_tiny_128", pretrained=True).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    quantized = quantize_linear_layers(model)
    images = torch.rand(2, 1, 3, 192, 192)
    template = ImagePair(*images[:, :, :, :64, :64])
    search = ImagePair(*images[:, :, :, 64:, 64:])
    with torch.inference_mode():
        exact = model(template, search)
        rounded = quantized(template, search)
    difference = (exact.score_map - rounded.score_map).abs().max().item()
    assert 1e-6 < difference < 0.05
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_all_linear_layers_are_exchanged_but_the_one_that_the_scan_reads() -> None:
    model = create_model("ainet_tiny_128", depth=2)
    linear = [name for name, module in model.named_modules() if type(module) is nn.Linear]
    quantized = quantize_linear_layers(model)
    kind = torch.ao.nn.quantized.dynamic.Linear
    exchanged = [name for name, module in quantized.named_modules() if isinstance(module, kind)]
    assert exchanged == linear
    assert isinstance(quantized, AINet)
    blocks = [module for module in quantized.modules() if isinstance(module, MambaBlock)]
    assert len(blocks) == 2
    for block in blocks:
        assert isinstance(block.dt_proj, nn.Linear)


def test_a_step_of_a_quantized_block_runs() -> None:
    torch.manual_seed(0)
    block = MambaBlock(32).eval()
    quantized = quantize_linear_layers(block)
    x = torch.randn(1, 6, 32)
    states = quantized.allocate_inference_cache(1, 6)
    with torch.inference_mode():
        steps = [quantized.step(token, *states)[0] for token in x.split(1, dim=1)]
        whole = block(x)
    torch.testing.assert_close(torch.cat(steps, dim=1), whole, rtol=0, atol=0.01)


def test_it_tracks() -> None:
    model = quantize_linear_layers(create_model("ainet_tiny_128", depth=2))
    assert isinstance(model, AINet)
    network: TrackerModel = model
    assert len(list(Tracker(network).track(scene(3), BOX))) == 3


def test_a_network_that_cannot_be_rounded_is_refused() -> None:
    with pytest.raises(ValueError, match=r"model must be in float32 on the cpu, got torch.float64"):
        quantize_linear_layers(create_model("ainet_tiny_128", depth=1).double())
    with pytest.raises(ValueError, match="on meta"):
        quantize_linear_layers(create_model("ainet_tiny_128", depth=1).to("meta"))
