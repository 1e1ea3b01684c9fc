import pytest
import torch
from torch import nn

from compensation_material import (
    DIM,
    HEADS,
    feed_forward,
    heads,
    linear,
    norm,
    randomised,
    streams,
    weights_of,
)
from rgbt_fusion.checks import ShapeError
from rgbt_fusion.layers.cross_modal_compensation import CMC, CrossModalCompensation
from rgbt_fusion.layers.elimination_block import EliminationBlock
from rgbt_fusion.layers.gated_cross_modal_compensation import GatedCrossModalCompensation
from rgbt_fusion.layers.token_selection import select_tokens
from rgbt_fusion.layers.vit import EncoderBlock


def test_acronym_is_the_class() -> None:
    assert CMC is CrossModalCompensation


def test_compensation_is_the_notes_equation_within_each_sample() -> None:
    layer = randomised(CrossModalCompensation(DIM, HEADS))
    rgb, tir = streams()
    w = weights_of(layer)
    in_weight, in_bias = w["cmc_attn.in_proj_weight"].chunk(3), w["cmc_attn.in_proj_bias"].chunk(3)
    key_value = linear(rgb, w, "key_value_proj")
    query, key, value = (
        heads(x @ weight.T + bias)
        for x, weight, bias in zip(
            (linear(tir, w, "query_proj"), key_value, key_value), in_weight, in_bias, strict=True
        )
    )
    attention = (query @ key.mT / (DIM // HEADS) ** 0.5).softmax(-1)
    attended = linear((attention @ value).transpose(1, 2).flatten(2), w, "cmc_attn.out_proj")
    torch.testing.assert_close(layer(rgb, tir), norm(rgb + feed_forward(attended, w), w, "norm"))


@pytest.mark.parametrize(
    "layer", [CrossModalCompensation(DIM, HEADS), GatedCrossModalCompensation(DIM, HEADS)]
)
def test_samples_do_not_see_each_other(layer: nn.Module) -> None:
    randomised(layer).eval()
    rgb, tir = streams()
    other_rgb, other_tir = rgb.clone(), tir.clone()
    other_rgb[1] += 1
    other_tir[1] -= 1
    torch.testing.assert_close(
        layer(other_rgb, other_tir)[0], layer(rgb, tir)[0], rtol=0, atol=1e-14
    )
    torch.testing.assert_close(layer(rgb[:1], tir[:1])[0], layer(rgb, tir)[0])


def test_in_the_notes_layout_one_sample_would_never_see_its_thermal_tokens() -> None:
    layer = CrossModalCompensation(DIM, HEADS).double()
    rgb, tir = streams(batch=1)
    assert not torch.allclose(layer(rgb, tir), layer(rgb, tir.flip(-1)))
    layer.cmc_attn.batch_first = False
    torch.testing.assert_close(layer(rgb, tir), layer(rgb, tir.flip(-1)))


@pytest.mark.parametrize(
    "chain",
    ["CMC", "CMC1", "CMC+CMC", "CMC1+CMC", "CMC+CE+CMC", "CMC1+CE+CMC", "single", "single+CE"],
)
def test_every_chain_of_the_notes_can_be_built(chain: str) -> None:
    """Template and search are compensated apart; after an elimination TIR keeps the places that RGB
    kept."""
    template_length, search_length = 4, 10
    rgb, tir = streams(length=template_length + search_length, dtype=torch.float32)
    indices = None
    for step in chain.split("+"):
        if step == "CE":
            rgb, indices, _, positions = EliminationBlock(DIM, HEADS)(rgb, template_length, indices)
            tir_search = select_tokens(tir[:, template_length:], positions)
            tir = torch.cat((tir[:, :template_length], tir_search), dim=1)
        elif step == "single":
            rgb = EncoderBlock(DIM, HEADS)(rgb)
        else:
            layer = {"CMC": CrossModalCompensation, "CMC1": GatedCrossModalCompensation}[step](
                DIM, HEADS
            )
            lengths = [template_length, rgb.shape[1] - template_length]
            parts = zip(rgb.split(lengths, dim=1), tir.split(lengths, dim=1), strict=True)
            rgb = torch.cat([layer(*part) for part in parts], dim=1)
    assert rgb.isfinite().all()
    assert rgb.shape == tir.shape == (2, template_length + (7 if "CE" in chain else 10), DIM)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: CrossModalCompensation(8, 2)(torch.zeros(1, 5, 8), torch.zeros(1, 4, 8)),
            ShapeError,
            r"tir must have the shape of rgb \(1, 5, 8\), got \(1, 4, 8\)",
        ),
        (
            lambda: CrossModalCompensation(8, 2)(torch.zeros(5, 8), torch.zeros(5, 8)),
            ShapeError,
            r"rgb must have shape \(B, L, C\) with C = 8, got \(5, 8\)",
        ),
        (
            lambda: CrossModalCompensation(8, 3),
            ValueError,
            "dim must be divisible by num_heads = 3, got 8",
        ),
    ],
)
def test_bad_input_is_refused(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
