import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.layers.cross_attention_fusion import CrossAttentionFusion
from token_material import DIM, HEADS, tokens, written_out


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


def test_swapping_the_streams_swaps_the_results() -> None:
    layer = CrossAttentionFusion(DIM, HEADS).double()
    rgb, tir = tokens(2, 2, 5).unbind(0)
    swapped = layer(tir, rgb)
    torch.testing.assert_close((swapped.tir, swapped.rgb), layer(rgb, tir)[:2])


def test_gradients() -> None:
    fusion = CrossAttentionFusion(DIM, HEADS).double()
    rgb, tir = (x.requires_grad_() for x in tokens(2, 1, 3).unbind(0))
    assert torch.autograd.gradcheck(lambda *inputs: tuple(fusion(*inputs)), (rgb, tir))


@pytest.mark.parametrize("attention", ["fused", "explicit"])
def test_compiled_and_exported_equal_eager(attention) -> None:
    layer = CrossAttentionFusion(DIM, HEADS, attention=attention).eval()
    inputs = tuple(tokens(2, 2, 5).float().unbind(0))
    expected = layer(*inputs)
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
        ),
    ],
)
def test_bad_input_is_refused(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
