import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.layers.attention_fusion import AllLayerSelfAttention, CrossAttentionFusion

DIM, HEADS = 8, 2


def tokens(*shape: int) -> Tensor:
    return torch.randn(*shape, DIM, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def written_out(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    query, key, value = (x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in (query, key, value))
    attention = (query @ key.mT / (DIM // HEADS) ** 0.5).softmax(-1)
    return (attention @ value).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("attention", ["fused", "explicit"])
def test_cross_attention_fusion_is_its_equation(attention) -> None:
    layer = CrossAttentionFusion(DIM, HEADS, attention=attention).double()
    rgb, tir = tokens(2, 2, 5).unbind(0)

    def read(reader: Tensor, other: Tensor) -> Tensor:
        key, value = layer.key_value(layer.norm(other)).chunk(2, dim=-1)
        return layer.proj(written_out(layer.query(layer.norm(reader)), key, value))

    new_rgb, new_tir = rgb + read(rgb, tir), tir + read(tir, rgb)
    out = layer(rgb, tir)
    torch.testing.assert_close(out.rgb, new_rgb)
    torch.testing.assert_close(out.tir, new_tir)
    torch.testing.assert_close(out.fused, F.gelu(layer.fuse(torch.cat((new_rgb, new_tir), dim=-1))))


@pytest.mark.parametrize("attention", ["fused", "explicit"])
def test_all_layer_self_attention_is_its_equation(attention) -> None:
    layer = AllLayerSelfAttention(DIM, HEADS, attention=attention).double()
    features = tokens(2, 3, 5)
    sequence = features.flatten(1, 2)
    attended = layer.attn.proj(written_out(*layer.attn.qkv(layer.norm1(sequence)).chunk(3, dim=-1)))
    summed = layer.norm2(sequence + attended).unflatten(1, (3, 5)).sum(1)
    torch.testing.assert_close(layer(features), layer.norm(summed))


def test_layers_as_a_list_and_as_one_tensor_are_the_same_in_any_order() -> None:
    layer = AllLayerSelfAttention(DIM, HEADS).double()
    features = tokens(2, 4, 5)
    torch.testing.assert_close(layer(list(features.unbind(1))), layer(features), rtol=0, atol=0)
    torch.testing.assert_close(layer(features.flip(1)), layer(features))


def test_swapping_the_streams_swaps_the_results() -> None:
    layer = CrossAttentionFusion(DIM, HEADS).double()
    rgb, tir = tokens(2, 2, 5).unbind(0)
    swapped = layer(tir, rgb)
    torch.testing.assert_close((swapped.tir, swapped.rgb), layer(rgb, tir)[:2])


def test_gradients() -> None:
    fusion, all_layers = (
        CrossAttentionFusion(DIM, HEADS).double(),
        AllLayerSelfAttention(DIM, HEADS).double(),
    )
    rgb, tir = (x.requires_grad_() for x in tokens(2, 1, 3).unbind(0))
    assert torch.autograd.gradcheck(lambda *inputs: tuple(fusion(*inputs)), (rgb, tir))
    assert torch.autograd.gradcheck(lambda *inputs: all_layers(inputs), (rgb, tir))


@pytest.mark.parametrize("attention", ["fused", "explicit"])
def test_compiled_and_exported_equal_eager(attention) -> None:
    pair = tuple(tokens(2, 2, 5).float().unbind(0))
    for layer, inputs in (
        (CrossAttentionFusion(DIM, HEADS, attention=attention), pair),
        (AllLayerSelfAttention(DIM, HEADS, attention=attention), (list(pair),)),
    ):
        expected = layer.eval()(*inputs)
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(*inputs), expected)
        torch.testing.assert_close(torch.export.export(layer, inputs).module()(*inputs), expected)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: CrossAttentionFusion(8, 2)(torch.zeros(1, 5, 8), torch.zeros(1, 4, 8)),
            ShapeError,
            r"tir must have the shape of rgb \(1, 5, 8\), got \(1, 4, 8\)",
        ),
        (
            lambda: CrossAttentionFusion(8, 3),
            ValueError,
            "dim must be divisible by num_heads = 3, got 8",
        ),
        (
            lambda: CrossAttentionFusion(8, 2, attention="flash"),
            ValueError,
            "attention must be one of",
        ),  # type: ignore[arg-type]
        (
            lambda: AllLayerSelfAttention(8, 2)([]),
            ValueError,
            "features must hold at least one layer, got none",
        ),
        (
            lambda: AllLayerSelfAttention(8, 2)([torch.zeros(1, 5, 8), torch.zeros(1, 4, 8)]),
            ShapeError,
            r"features\[1\] must have the shape of features\[0\] \(1, 5, 8\), got \(1, 4, 8\)",
        ),
        (
            lambda: AllLayerSelfAttention(8, 2)(torch.zeros(1, 5, 8)),
            ShapeError,
            r"features must have .*K, L, C",
        ),
    ],
)
def test_bad_input_is_refused(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
