import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.layers.compensation import (
    CrossModalCompensation,
    GatedCrossModalCompensation,
    TwoWayCompensation,
)
from rgbt_fusion.layers.elimination_block import EliminationBlock
from rgbt_fusion.layers.token_selection import select_tokens
from rgbt_fusion.layers.vit import EncoderBlock

DIM, HEADS = 8, 2


def streams(
    batch: int = 2, length: int = 5, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    rgb, tir = torch.randn(2, batch, length, DIM, generator=generator, dtype=dtype).unbind(0)
    return rgb, tir


def randomised(layer: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    for parameter in layer.double().parameters():
        parameter.data.normal_(0, 0.5, generator=generator)
    return layer


def weights_of(layer: nn.Module) -> dict[str, Tensor]:
    return dict(layer.state_dict())


def heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


def norm(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    return F.layer_norm(x, (DIM,), w[f"{name}.weight"], w[f"{name}.bias"])


def linear(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def feed_forward(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    return linear(F.gelu(linear(x, w, "feed_forward.0")), w, "feed_forward.2")


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


def test_gated_compensation_is_the_notes_equation() -> None:
    layer = randomised(GatedCrossModalCompensation(DIM, HEADS, max_len=7)).eval()
    rgb, tir = streams()
    w = weights_of(layer)
    query, key, value = (
        heads(norm(linear(x, w, f"{name}.0"), w, f"{name}.1"))
        for x, name in ((tir, "query_proj"), (rgb, "key_proj"), (rgb, "value_proj"))
    )
    table = heads(w["position"][None, :5])
    scores = query @ key.mT / (DIM // HEADS) ** 0.5 + query @ table.mT
    attended = linear((scores.softmax(-1) @ value).transpose(1, 2).flatten(2), w, "proj")
    gate = linear(torch.cat((rgb, attended), dim=-1), w, "gate").sigmoid()
    gated = norm(rgb * gate + attended * (1 - gate), w, "gated_norm")
    torch.testing.assert_close(layer(rgb, tir), norm(rgb + feed_forward(gated, w), w, "norm"))


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


def test_position_table_is_absolute_and_can_be_drawn_as_in_the_notes() -> None:
    layer = GatedCrossModalCompensation(DIM, HEADS, max_len=300, position_std=1.0).eval()
    assert layer.position.shape == (300, DIM)
    assert abs(layer.position.std().item() - 1) < 0.1
    rgb, tir = (x.float() for x in streams())
    swapped = [1, 0, 2, 3, 4]
    assert not torch.allclose(
        layer(rgb[:, swapped], tir[:, swapped]), layer(rgb, tir)[:, swapped], atol=1e-3
    )
    layer.position.data.zero_()
    torch.testing.assert_close(layer(rgb[:, swapped], tir[:, swapped]), layer(rgb, tir)[:, swapped])


def test_dropout_is_for_training_alone() -> None:
    layer = GatedCrossModalCompensation(DIM, HEADS, dropout=0.5)
    rgb, tir = (x.float() for x in streams())
    assert not torch.equal(layer(rgb, tir), layer(rgb, tir))
    layer.eval()
    assert torch.equal(layer(rgb, tir), layer(rgb, tir))


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_both_ways_read_the_streams_as_they_came_in(gated: bool, shared: bool) -> None:
    layer = TwoWayCompensation(DIM, HEADS, gated=gated, shared=shared).double().eval()
    rgb, tir = streams()
    out = layer(rgb, tir)
    back = layer.to_rgb if layer.to_tir is None else layer.to_tir
    torch.testing.assert_close(out.rgb, layer.to_rgb(rgb, tir))
    torch.testing.assert_close(out.tir, back(tir, rgb))
    one_way = layer.to_rgb.state_dict()
    assert len(layer.state_dict()) == len(one_way) * (1 if shared else 2)


@pytest.mark.parametrize("gated", [False, True])
def test_autocast_stays_close(gated: bool) -> None:
    layer = TwoWayCompensation(DIM, HEADS, gated=gated).eval()
    rgb, tir = (x.float() for x in streams())
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(rgb, tir)
    torch.testing.assert_close(out, layer(rgb, tir), rtol=0.02, atol=0.03)


@pytest.mark.parametrize("gated", [False, True])
def test_gradients(gated: bool) -> None:
    layer = randomised(
        TwoWayCompensation(DIM, HEADS, gated=gated, mlp_ratio=1.0, dropout=0.0, max_len=4)
    )
    inputs = tuple(x.requires_grad_() for x in streams(length=3))
    assert torch.autograd.gradcheck(lambda rgb, tir: tuple(layer(rgb, tir)), inputs)


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


@pytest.mark.parametrize("gated", [False, True])
def test_compiled_and_exported_equal_eager(gated: bool) -> None:
    layer = TwoWayCompensation(DIM, HEADS, gated=gated).eval()
    inputs = tuple(x.float() for x in streams())
    expected = layer(*inputs)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*inputs), expected)
    torch.testing.assert_close(torch.export.export(layer, inputs).module()(*inputs), expected)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: GatedCrossModalCompensation(8, 2, max_len=4)(
                torch.zeros(1, 5, 8), torch.zeros(1, 5, 8)
            ),
            ShapeError,
            r"rgb must have at most max_len = 4 tokens, got \(1, 5, 8\)",
        ),
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
        (
            lambda: GatedCrossModalCompensation(8, 2, dropout=2.0),
            ValueError,
            r"dropout must be .*\[0, 1\], got 2.0",
        ),
        (
            lambda: GatedCrossModalCompensation(8, 2, max_len=0),
            ValueError,
            "max_len must be at least 1, got 0",
        ),
    ],
)
def test_bad_input_is_refused(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
