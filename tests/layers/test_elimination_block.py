import importlib.util
import json
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgbt_fusion.layers.elimination_block import EliminationBlock
from rgbt_fusion.layers.template_mask import template_mask
from rgbt_fusion.layers.token_selection import restore_tokens, select_tokens
from rgbt_fusion.layers.vit import EncoderBlock, PatchEmbed
from shared_material import shared


def test_block_eliminates_between_attention_and_feed_forward() -> None:
    block, plain = EliminationBlock(12, 3, keep_ratio=0.5).double(), EncoderBlock(12, 3).double()
    plain.load_state_dict(block.state_dict())
    tokens, mask = torch.randn(2, 10, 12, dtype=torch.float64), torch.tensor([True, False])
    out = block(tokens, 2, mask=mask)
    assert out.tokens.shape == (2, 6, 12)
    # a feed-forward layer works token by token: cutting before it or after it is the same
    torch.testing.assert_close(out.tokens[:, 2:], select_tokens(plain(tokens)[:, 2:], out.indices))
    everything = block(tokens, 2, mask=mask, keep_ratio=1.0)
    torch.testing.assert_close(everything.tokens, plain(tokens))
    torch.testing.assert_close(block.transform(block.attend(tokens)), plain(tokens))


def test_compiled_and_exported_equal_eager() -> None:
    block = EliminationBlock(12, 3).eval()
    inputs = (
        torch.randn(2, 20, 12),
        4,
        torch.arange(16).repeat(2, 1),
        template_mask("centre_point", 2),
    )
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    for keep_ratio in (None, 0.9, 0.85, 1.0):
        torch.testing.assert_close(
            compiled(*inputs, keep_ratio=keep_ratio), block(*inputs, keep_ratio=keep_ratio)
        )
    torch.testing.assert_close(torch.export.export(block, inputs).module()(*inputs), block(*inputs))


def load_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_ostrack_with_elimination_as_recorded() -> None:
    folder = shared("conformance/ostrack_256_ce")
    recipe = load_module(shared("conformance/make_weights.py"))
    expected = np.load(folder / "expected.npz")
    tolerances = json.loads((folder / "tolerances.json").read_text())
    shapes = {
        key.removeprefix("backbone."): (key, *entry)
        for key, entry in json.loads((folder / "keys.json").read_text()).items()
        if key.startswith("backbone.")
    }
    weights = {
        name: torch.from_numpy(recipe.make_array(*entry)).double() for name, entry in shapes.items()
    }

    def own(module: nn.Module, prefix: str) -> nn.Module:
        state = {
            name.removeprefix(prefix): x for name, x in weights.items() if name.startswith(prefix)
        }
        module.load_state_dict(state, assign=True)
        return module

    def image(seed: int, side: int) -> Tensor:
        return torch.from_numpy(recipe.make_input(seed, (2, 3, side, side))[:1]).double()

    mask = template_mask("centre_point", 8)
    assert mask.equal(torch.from_numpy(expected["ce.mask"][0]))
    with torch.inference_mode():
        embed = own(PatchEmbed(), "patch_embed.")
        template = embed(image(1, 128)) + weights["pos_embed_z"]
        search = embed(image(3, 256)) + weights["pos_embed_x"]
        tokens, indices = torch.cat((template, search), dim=1), None
        for depth in range(12):
            if depth in (3, 6, 9):
                block = own(EliminationBlock(), f"blocks.{depth}.")
                tokens, indices, removed, _ = block(tokens, 64, indices, mask)
                assert indices[0].tolist() == sorted(expected[f"ce.keep{depth}"][0].tolist())
                assert removed[0].tolist() == sorted(expected[f"ce.removed{depth}"][0].tolist())
            else:
                tokens = own(EncoderBlock(), f"blocks.{depth}.")(tokens)
        normed = F.layer_norm(
            tokens, (768,), weights["norm.weight"], weights["norm.bias"], eps=1e-6
        )
        assert indices is not None
        feature = restore_tokens(normed, indices, 256)
    for name, found in {
        "block11.first": tokens[:, :4, :8],
        "block11.last": tokens[:, -4:, :8],
        "feat.proj": feature
        @ torch.from_numpy(recipe.make_input(99, (768, 4))).double()
        / math.sqrt(768),
    }.items():
        reference = torch.from_numpy(expected[f"{name}@f64"][:1])
        assert (found - reference).abs().max() <= tolerances[name]["atol_f64"], name
    assert feature[0, 64:].eq(0).all(dim=-1).equal(torch.from_numpy(expected["ce.zeroed"][0]))
