import pytest
import torch
from torch import Tensor, nn

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.layers.attention import Attention, AttentionWithScores
from token_material import randomised


def softmax_rows(layer: Attention, tokens: Tensor) -> Tensor:
    """The whole attention matrix (B, H, L, L), written out from the layer's weights alone."""
    query, key, _ = layer.qkv(tokens).chunk(3, dim=-1)
    query, key = (
        part.unflatten(-1, (layer.num_heads, -1)).transpose(1, 2) for part in (query, key)
    )
    return torch.softmax(query @ key.mT / query.shape[-1] ** 0.5, dim=-1)


def test_attention_equals_torch_multihead_attention() -> None:
    layer = randomised(Attention(12, 3))
    oracle = nn.MultiheadAttention(12, 3, batch_first=True).double()
    oracle.load_state_dict(
        {
            "in_proj_weight": layer.qkv.weight,
            "in_proj_bias": layer.qkv.bias,
            "out_proj.weight": layer.proj.weight,
            "out_proj.bias": layer.proj.bias,
        }
    )
    tokens = torch.randn(2, 7, 12, dtype=torch.float64)
    torch.testing.assert_close(layer(tokens), oracle(tokens, tokens, tokens, need_weights=False)[0])


@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("masked", ["all", "shared", "per sample"])
def test_scores_are_the_mean_of_the_template_rows_of_the_softmax(streams: int, masked: str) -> None:
    layer = randomised(AttentionWithScores(12, 3))
    plain = Attention(12, 3).double()
    plain.load_state_dict(layer.state_dict())
    template, search = 4, 6
    tokens = torch.randn(2, streams * (template + search), 12, dtype=torch.float64)
    mask = {
        "all": None,
        "shared": torch.tensor([False, True, False, True]),
        "per sample": torch.tensor([[True, False, False, False], [False, True, True, True]]),
    }[masked]
    out = layer(tokens, template, mask, streams=streams)

    torch.testing.assert_close(out.tokens, plain(tokens))
    part = torch.cat(
        (torch.zeros(template, dtype=torch.bool), torch.ones(search, dtype=torch.bool))
    ).repeat(streams)
    for sample, rows in enumerate(softmax_rows(layer, tokens)):
        counted = (
            torch.ones(template, dtype=torch.bool) if mask is None else mask.expand(2, -1)[sample]
        )
        queries = torch.cat((counted, torch.zeros(search, dtype=torch.bool))).repeat(streams)
        torch.testing.assert_close(out.scores[sample], rows[:, queries].mean((0, 1))[part])


def test_one_set_of_weights_attends_with_and_without_scores() -> None:
    plain = randomised(Attention(12, 3))
    scored = AttentionWithScores(12, 3).double()
    scored.load_state_dict(plain.state_dict())
    tokens = torch.randn(2, 10, 12, dtype=torch.float64)
    both = plain.attend_and_score(tokens, 4)
    assert torch.equal(both.tokens, scored(tokens, 4).tokens)
    assert torch.equal(both.scores, scored(tokens, 4).scores)
    torch.testing.assert_close(both.tokens, plain(tokens))


def test_scores_of_half_precision_tokens_are_float32() -> None:
    layer = AttentionWithScores(12, 3).bfloat16()
    out = layer(torch.randn(1, 10, 12, dtype=torch.bfloat16), 4)
    assert (out.tokens.dtype, out.scores.dtype) == (torch.bfloat16, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert AttentionWithScores(12, 3)(torch.randn(1, 10, 12), 4).scores.dtype == torch.float32


def test_an_empty_mask_scores_zero() -> None:
    mask = torch.tensor([[False, False], [True, False]])
    scores = AttentionWithScores(12, 3)(torch.randn(2, 8, 12), 2, mask).scores
    assert scores[0].eq(0).all()
    assert scores[1].gt(0).all()


def test_gradients() -> None:
    tokens = torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(randomised(Attention(8, 2)), (tokens,))


def test_gradients_of_tokens_and_scores() -> None:
    layer = randomised(AttentionWithScores(8, 2))
    tokens = torch.randn(2, 10, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x: tuple(layer(x, 2, torch.tensor([True, False]), streams=2)), (tokens,)
    )


def test_compiled_and_exported_scores_equal_eager() -> None:
    layer = AttentionWithScores(12, 3).eval()
    inputs = (torch.randn(2, 20, 12), 4, torch.tensor([False, True, False, True]))
    expected = layer(*inputs, streams=2)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*inputs, streams=2), expected)
    exported = torch.export.export(layer, inputs, {"streams": 2}).module()
    torch.testing.assert_close(exported(*inputs, streams=2), expected)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Attention(10, 3), ValueError, "dim must be divisible by num_heads = 3, got 10"),
        (
            lambda: Attention(8, 2, attention="flash"),
            ValueError,
            "attention must be one of 'fused', 'explicit'",
        ),
        (
            lambda: AttentionWithScores(8, 2)(torch.zeros(1, 5, 8), 5),
            ShapeError,
            "below L / streams = 5, got 5",
        ),
        (
            lambda: AttentionWithScores(8, 2)(torch.zeros(1, 5, 8), 1, streams=2),
            ShapeError,
            "divisible by streams = 2",
        ),
        (
            lambda: AttentionWithScores(8, 2)(torch.zeros(1, 5, 8), 2, torch.ones(2)),
            TypeError,
            "mask must be boolean, got torch.float32",
        ),
        (
            lambda: AttentionWithScores(8, 2)(
                torch.zeros(1, 5, 8), 2, torch.ones(3, dtype=torch.bool)
            ),
            ShapeError,
            r"mask must have shape \(2,\) or \(1, 2\), got \(3,\)",
        ),
    ],
)
def test_bad_input_is_refused(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
