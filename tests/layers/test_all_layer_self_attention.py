import pytest
import torch

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.layers.all_layer_self_attention import AllLayerSelfAttention
from token_material import DIM, HEADS, tokens, written_out


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


def test_gradients() -> None:
    gather = AllLayerSelfAttention(DIM, HEADS).double()
    first, second = (x.requires_grad_() for x in tokens(2, 1, 3).unbind(0))
    assert torch.autograd.gradcheck(lambda *inputs: gather(inputs), (first, second))


@pytest.mark.parametrize("attention", ["fused", "explicit"])
def test_compiled_and_exported_equal_eager(attention) -> None:
    layer = AllLayerSelfAttention(DIM, HEADS, attention=attention).eval()
    inputs = (list(tokens(2, 2, 5).float().unbind(0)),)
    expected = layer(*inputs)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*inputs), expected)
    torch.testing.assert_close(torch.export.export(layer, inputs).module()(*inputs), expected)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
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
