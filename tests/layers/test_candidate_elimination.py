import importlib.util
import json
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.layers.candidate_elimination import (
    CandidateElimination,
    kept_length,
    scheduled_keep_ratio,
)
from rgbt_fusion.layers.elimination_block import EliminationBlock
from rgbt_fusion.layers.joint_candidate_elimination import JointCandidateElimination
from rgbt_fusion.layers.template_mask import template_mask
from rgbt_fusion.layers.token_selection import restore_tokens, select_tokens
from rgbt_fusion.layers.vit import EncoderBlock, PatchEmbed
from shared_material import shared


def numbered(batch: int, template: int, search: int) -> Tensor:
    """Tokens that carry their own place: template tokens -1, -2, ..., search tokens 0, 1, ..."""
    places = torch.cat((-1.0 - torch.arange(template), torch.arange(search)))
    return places.repeat(batch, 1).unsqueeze(-1)


def test_the_best_stay_in_their_order() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.2, 0.8, 0.3], [0.5, 0.1, 0.6, 0.2, 0.7]])
    out = CandidateElimination(keep_ratio=0.6)(numbered(2, 2, 5), scores)
    assert out.indices.tolist() == [[1, 3, 4], [0, 2, 4]]
    assert out.removed.tolist() == [[0, 2], [1, 3]]
    assert out.tokens.squeeze(-1).tolist() == [[-1, -2, 1, 3, 4], [-1, -2, 0, 2, 4]]
    assert out.indices.dtype == out.removed.dtype == out.positions.dtype == torch.int64


def test_of_equal_scores_the_earlier_token_stays() -> None:
    out = CandidateElimination(keep_ratio=0.5)(numbered(1, 0, 64), torch.zeros(1, 64))
    assert out.indices[0].tolist() == list(range(32))


@pytest.mark.parametrize(("search", "lengths"), [(256, (180, 126, 89)), (576, (404, 283, 199))])
def test_three_eliminations_keep_places_and_restore(search: int, lengths: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    eliminate = CandidateElimination()
    tokens, indices = numbered(2, 3, search), None
    gone: list[Tensor] = []
    for length in lengths:
        tokens, indices, removed, _ = eliminate(tokens, torch.rand(2, tokens.shape[1] - 3), indices)
        gone.append(removed)
        assert indices.shape == (2, length)
        assert indices.diff(dim=1).gt(0).all()
        assert tokens[:, 3:, 0].equal(indices.float())
    assert indices is not None
    everything = torch.cat((indices, *gone), dim=1)
    assert everything.sort(dim=1).values.equal(torch.arange(search).expand(2, -1))

    restored = restore_tokens(tokens + 1, indices, search)
    assert restored[:, :3].equal(tokens[:, :3] + 1)
    for sample in range(2):
        place = torch.arange(search)
        stays = torch.isin(place, indices[sample])
        assert restored[sample, 3:, 0].equal(torch.where(stays, place + 1.0, 0.0))


def test_schedules_mix_ratios_layers_and_nothing_removed() -> None:
    tokens, indices = numbered(1, 1, 20), None
    eliminate = CandidateElimination(keep_ratio=0.5)
    for keep_ratio, length in ((1.0, 20), (0.9, 18), (None, 9), (1.0, 9), (0.01, 1)):
        scores = torch.rand(1, tokens.shape[1] - 1)
        tokens, indices, removed, _ = eliminate(tokens, scores, indices, keep_ratio=keep_ratio)
        assert indices.shape == (1, length)
        assert removed.shape == (1, scores.shape[1] - length)
        assert removed.dtype == torch.int64
        assert tokens[:, 1:, 0].equal(indices.float())


def test_keep_ratio_follows_ostrack_schedule() -> None:
    assert [scheduled_keep_ratio(epoch) for epoch in (0, 19.9, 100, 250)] == [1.0, 1.0, 0.7, 0.7]
    assert scheduled_keep_ratio(60) == pytest.approx(0.85)
    assert scheduled_keep_ratio(40) == pytest.approx(0.7 + 0.15 * (1 + math.cos(math.pi / 4)))
    assert scheduled_keep_ratio(3, start=5, stop=5, keep_ratio=0.4) == 1.0
    assert scheduled_keep_ratio(5, start=5, stop=5, keep_ratio=0.4) == 0.4
    assert kept_length(1.0, 7) == 7


@pytest.mark.parametrize(
    ("grid", "point", "rectangle"), [(8, 27, [27, 28, 35, 36]), (12, 65, [65, 66, 77, 78])]
)
def test_template_masks_of_ostrack(grid: int, point: int, rectangle: list[int]) -> None:
    assert template_mask("centre_point", grid).nonzero().flatten().tolist() == [point]
    assert template_mask("centre_rectangle", grid).nonzero().flatten().tolist() == rectangle
    assert template_mask("all", grid).all()
    assert template_mask("centre_rectangle", 7).nonzero().flatten().tolist() == [24]


def test_box_mask_is_the_box_drawn_in_pixels_and_shrunk() -> None:
    grid, patch = 8, 16
    side = grid * patch
    generator = torch.Generator().manual_seed(0)
    size = 0.2 + 0.6 * torch.rand(40, 2, generator=generator)
    box = torch.cat(((1 - size) * torch.rand(40, 2, generator=generator), size), dim=1)
    mask = template_mask("box", grid, box_xywh_unit=box)
    for sample, (x, y, w, h) in enumerate((box * side).tolist()):
        drawn = torch.zeros(1, 1, side, side)
        drawn[:, :, int(y) : int(y + h - 1), int(x) : int(x + w - 1)] = 1
        shrunk = F.interpolate(drawn, scale_factor=1 / patch, mode="bilinear", align_corners=False)
        assert mask[sample].equal(shrunk.flatten().bool())


def test_a_box_too_small_for_a_mask_counts_the_token_at_its_centre() -> None:
    box = torch.tensor([[0.51, 0.26, 0.01, 0.02], [-0.5, -0.5, 0.1, 0.1], [1.2, 1.2, 0.1, 0.1]])
    mask = template_mask("box", 8, box_xywh_unit=box)
    assert mask.nonzero().tolist() == [[0, 20], [1, 0], [2, 63]]


def test_two_streams_keep_one_set() -> None:
    rgb, tir = numbered(1, 1, 4), 100 + numbered(1, 1, 4)
    rgb_scores, tir_scores = (
        torch.tensor([[0.9, 0.0, 0.5, 0.4]]),
        torch.tensor([[0.0, 0.8, 0.5, 0.3]]),
    )
    most = JointCandidateElimination(keep_ratio=0.5, joint="max")(rgb, tir, rgb_scores, tir_scores)
    assert most.indices.tolist() == [[0, 1]]
    assert most.tir.flatten().tolist() == [99, 100, 101]
    assert most.rgb.flatten().tolist() == [-1, 0, 1]
    mean = JointCandidateElimination(keep_ratio=0.5, joint="mean")(rgb, tir, rgb_scores, tir_scores)
    assert mean.indices.tolist() == [[0, 2]]
    assert mean.removed.tolist() == [[1, 3]]
    again = JointCandidateElimination()(
        mean.rgb, mean.tir, *torch.rand(2, 1, 2), mean.indices, keep_ratio=1.0
    )
    assert again.indices.tolist() == [[0, 2]]
    assert again.tir.equal(mean.tir)


def test_a_stream_that_was_not_scored_follows() -> None:
    eliminated = CandidateElimination(keep_ratio=0.5)(numbered(2, 2, 6), torch.rand(2, 6))
    assert (
        select_tokens(numbered(2, 0, 6), eliminated.positions)
        .squeeze(-1)
        .equal(eliminated.indices.float())
    )


def test_kept_tokens_have_gradients_and_removed_ones_none() -> None:
    tokens = torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)
    scores = torch.rand(2, 4, dtype=torch.float64)

    def eliminate_and_restore(x: Tensor) -> Tensor:
        out = CandidateElimination(keep_ratio=0.5)(x, scores)
        return restore_tokens(out.tokens, out.indices, 4)

    assert torch.autograd.gradcheck(eliminate_and_restore, (tokens,))
    (gradient,) = torch.autograd.grad(eliminate_and_restore(tokens).sum(), tokens)
    removed = CandidateElimination(keep_ratio=0.5)(tokens, scores).removed
    assert select_tokens(gradient[:, 2:], removed).eq(0).all()
    assert gradient.sum() == 2 * (2 + 2) * 3


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


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: CandidateElimination(0.0), ValueError, "keep_ratio must be above 0, got 0"),
        (
            lambda: CandidateElimination(1.1),
            ValueError,
            r"keep_ratio must be a finite number in \[0, 1\], got 1.1",
        ),
        (
            lambda: CandidateElimination()(torch.zeros(2, 5, 3), torch.zeros(1, 4)),
            ShapeError,
            r"scores must have shape \(B, S\) with B = 2, got \(1, 4\)",
        ),
        (
            lambda: CandidateElimination()(torch.zeros(2, 5, 3), torch.zeros(2, 6)),
            ShapeError,
            r"scores must be at most as many as tokens, L = 5, got \(2, 6\)",
        ),
        (
            lambda: CandidateElimination()(
                torch.zeros(1, 5, 3), torch.zeros(1, 4), torch.zeros(1, 4)
            ),
            TypeError,
            "indices must be int64, got torch.float32",
        ),
        (
            lambda: CandidateElimination()(
                torch.zeros(1, 5, 3), torch.zeros(1, 4), torch.zeros(1, 3).long()
            ),
            ShapeError,
            r"indices must have the shape of scores \(1, 4\), got \(1, 3\)",
        ),
        (
            lambda: JointCandidateElimination()(
                torch.zeros(1, 5, 3), torch.zeros(1, 4, 3), *torch.zeros(2, 1, 4)
            ),
            ShapeError,
            r"tir must have the shape of rgb \(1, 5, 3\), got \(1, 4, 3\)",
        ),
        (
            lambda: JointCandidateElimination(joint="min"),
            ValueError,
            "joint must be one of 'max', 'mean', got 'min'",
        ),  # type: ignore[arg-type]
        (
            lambda: restore_tokens(torch.zeros(1, 2, 3), torch.zeros(1, 3).long(), 9),
            ShapeError,
            r"at most as many as tokens, L = 2, got \(1, 3\)",
        ),
        (
            lambda: restore_tokens(torch.zeros(1, 3, 3), torch.zeros(1, 3).long(), 2),
            ShapeError,
            "length must be at least the number of indices 3, got 2",
        ),
        (
            lambda: restore_tokens(torch.zeros(1, 3, 3), torch.zeros(1, 3), 9),
            TypeError,
            "indices must be int64, got torch.float32",
        ),
        (
            lambda: select_tokens(torch.zeros(1, 3, 3), torch.zeros(1, 3)),
            TypeError,
            "positions must be int64, got torch.float32",
        ),
        (
            lambda: kept_length(1.5, 9),
            ValueError,
            r"keep_ratio must be a finite number in \[0, 1\], got 1.5",
        ),
        (lambda: template_mask("center", 8), ValueError, "kind must be one of 'centre_point'"),  # type: ignore[arg-type]
        (
            lambda: template_mask("box", 8),
            ValueError,
            "box_xywh_unit must be a tensor .* for kind 'box', got None",
        ),
        (
            lambda: template_mask("all", 8, box_xywh_unit=torch.zeros(1, 4)),
            ValueError,
            "must be None for kind 'all'",
        ),
        (
            lambda: scheduled_keep_ratio(1, start=9, stop=3),
            ValueError,
            "stop must not be below start = 9, got 3",
        ),
    ],
)
def test_bad_input_is_refused(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


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
