import math

import pytest
import torch

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.models.encoder import ConvolutionalStem, Encoder, EncoderSettings, sine_positions

SMALL = EncoderSettings(
    dim=32, depth=4, num_heads=2, template_size=64, search_size=128, keep_ratio=0.5
)


def small_encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(SMALL).eval()


def run(
    encoder: Encoder, tokens: torch.Tensor, *, streams: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    indices = encoder.all_indices(tokens[: len(tokens) // streams])
    for number in range(4):
        tokens, indices = encoder.block(number, tokens, indices, streams=streams)
    return tokens, indices


def test_positions_tell_every_place_apart_and_columns_from_rows() -> None:
    table = sine_positions(32, 4)[0]
    assert len(torch.unique(table, dim=0)) == 16
    columns, rows = table.view(4, 4, 32).split(16, dim=-1)
    assert torch.equal(columns, columns[:1].expand(4, -1, -1))
    assert torch.equal(rows, rows[:, :1].expand(-1, 4, -1))
    assert math.isclose(table[5, 0].item(), math.sin(1), rel_tol=1e-6)


def test_streams_as_one_batch_equal_streams_alone_while_nothing_is_dropped() -> None:
    encoder = small_encoder()
    rgb, tir = torch.randn(2, 2, 80, 32)
    both = torch.cat((rgb, tir))
    for number in range(4):
        both, _ = encoder.block(number, both, encoder.all_indices(rgb), streams=2, keep_ratio=1.0)
    for stream, found in zip((rgb, tir), both.chunk(2), strict=True):
        for number in range(4):
            stream, _ = encoder.block(number, stream, encoder.all_indices(rgb), keep_ratio=1.0)
        torch.testing.assert_close(found, stream)


def test_a_candidate_stays_if_either_stream_wants_it() -> None:
    encoder = small_encoder()
    rgb, tir = torch.randn(2, 1, 80, 32)
    block = encoder.blocks[1]
    scores = [block.score(x, 16, encoder.template_mask).scores for x in (rgb, tir)]
    wanted = torch.maximum(*scores).topk(32).indices.sort().values
    _, indices = encoder.block(1, torch.cat((rgb, tir)), encoder.all_indices(rgb), streams=2)
    assert torch.equal(indices, wanted)


def test_side_by_side_drops_the_same_places_of_both_halves() -> None:
    encoder = small_encoder()
    tokens, indices = torch.randn(3, 160, 32), encoder.all_indices(torch.zeros(3, 1))
    block = encoder.blocks[1]
    attended, scores = block.score(tokens, 16, encoder.template_mask, streams=2)
    wanted = scores.unflatten(1, (2, 64)).amax(1).topk(32).indices.sort().values
    left, indices = encoder.block_side_by_side(1, tokens, indices)
    assert left.shape == (3, 96, 32)
    assert torch.equal(indices, wanted)
    for half in range(2):
        search = attended[:, 80 * half + 16 : 80 * (half + 1)]
        kept = block.transform(search.gather(1, wanted[..., None].expand(-1, -1, 32)))
        torch.testing.assert_close(left[:, 48 * half + 16 : 48 * (half + 1)], kept)


def test_indices_compose_over_eliminations_and_lead_back_to_the_grid() -> None:
    encoder = small_encoder()
    tokens, indices = run(encoder, torch.randn(2, 80, 32))
    assert encoder.kept_lengths() == [64, 32, 16, 8]
    assert tokens.shape == (2, 24, 32) and indices.shape == (2, 8)
    assert torch.equal(indices, indices.sort().values)
    restored = encoder.restore(tokens[:, 16:], indices)
    torch.testing.assert_close(
        restored.gather(1, indices[..., None].expand(-1, -1, 32)), tokens[:, 16:]
    )
    assert int((restored != 0).any(-1).sum()) == 16


def test_survivors_are_picked_by_place_behind_what_stands_in_front() -> None:
    encoder = small_encoder()
    tokens = torch.arange(6.0).view(1, 6, 1)
    before, after = torch.tensor([[3, 5, 8, 9]]), torch.tensor([[5, 9]])
    assert encoder.survivors(tokens, before, after).flatten().tolist() == [0, 1, 3, 5]


def test_the_stem_sees_template_and_search_alike() -> None:
    torch.manual_seed(0)
    stem = ConvolutionalStem(32)
    image = torch.zeros(1, 3, 128, 128)
    image[:, :, 32:96, 32:96] = torch.randn(1, 3, 64, 64)
    large = stem(image).view(8, 8, 32)[2:6, 2:6]
    small = stem(image[:, :, 32:96, 32:96]).view(4, 4, 32)
    # away from the border, where the small crop sees padding
    torch.testing.assert_close(large[1:, 1:], small[1:, 1:])


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(
        ValueError, match="search_size must be divisible by patch_size = 16, got 250"
    ):
        EncoderSettings(search_size=250)
    with pytest.raises(ValueError, match="dim must be divisible by num_heads = 12, got 100"):
        EncoderSettings(dim=100)
    with pytest.raises(ValueError, match="keep_ratio must be a finite number"):
        EncoderSettings(keep_ratio=0)
    with pytest.raises(
        ValueError, match="stem must be one of 'patch', 'convolution', got 'linear'"
    ):
        EncoderSettings(stem="linear")  # pyright: ignore[reportArgumentType]
    # a slip, or a file made to eat memory, costs no memory
    for name, value in (("depth", 100_000), ("dim", 2**31), ("search_size", 2**24)):
        with pytest.raises(ValueError, match=rf"{name} must be at most \d+, got "):
            EncoderSettings(**{name: value})
    with pytest.raises(ShapeError, match="image must have sides divisible by patch_size = 16"):
        small_encoder().embed_template(torch.zeros(1, 3, 60, 60))


def test_a_block_that_keeps_all_candidates_eliminates_none() -> None:
    encoder = small_encoder()
    first = encoder.elimination_layers[0]
    assert encoder.eliminates(first) and encoder.eliminates(first, 0.9)
    assert not encoder.eliminates(first, 1.0)
    assert not encoder.eliminates(first - 1)
