"""MutualPrompter: equations 8 to 16 written out, one prompt by hand, both forms, every ablation,
any length."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.layers import mutual_prompter
from rgbt_fusion.layers.mutual_prompter import MutualPrompter, MutualPrompts

TOKENS, CHANNELS = 12, 10


def built(*args, **options) -> Any:
    """A double-precision prompter with random biases and a fovea that is neither flat nor a
    maximum."""
    torch.manual_seed(0)
    prompter = MutualPrompter(*args, **{"reduction": 4, "fovea_scale": 1.5, **options}).double()
    for name, parameter in prompter.named_parameters():
        if name != "fovea_scale":
            nn.init.normal_(parameter, std=0.5)
    return prompter


def streams(tokens: int = TOKENS, seed: int = 0) -> tuple[Tensor, Tensor, MutualPrompts]:
    generator = torch.Generator().manual_seed(seed)
    rgb, tir, *history = torch.randn(
        4, 2, tokens, CHANNELS, dtype=torch.float64, generator=generator
    )
    return rgb, tir, MutualPrompts(*history)


def neighbours(pooled: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """A convolution of width 7 from two rows to one, place by place: ``(2, S)`` to ``(S,)``."""
    padded = torch.cat([pooled.new_zeros(2, 3), pooled, pooled.new_zeros(2, 3)], 1)
    return (
        torch.stack([(padded[:, s : s + 7] * kernel).sum() for s in range(pooled.shape[1])]) + bias
    )


def attended(branch: Any, tokens: Tensor, *, sigmoid: bool, length_free: bool) -> Tensor:
    """Equations 8 to 15 for one input ``(N, D)`` of one sample, convolution form."""
    gate = torch.sigmoid if sigmoid else lambda weights: weights
    mean, largest = tokens.mean(1), tokens.max(1).values
    if length_free:
        weights = neighbours(
            torch.stack([mean, largest]), branch.spatial.mix.weight[0], branch.spatial.mix.bias
        )
    else:
        narrow, wide = branch.spatial.reduce, branch.spatial.restore
        weights: Any = sum(
            wide.weight[:, :, 0] @ F.relu(narrow.weight[:, :, 0] @ pooled + narrow.bias) + wide.bias
            for pooled in (mean, largest)
        )
    tokens = tokens * gate(weights)[:, None]
    pooled = torch.stack([tokens.mean(0), tokens.max(0).values])
    return tokens * gate(neighbours(pooled, branch.token.mix.weight[0], branch.token.mix.bias))


@pytest.mark.parametrize("gate", ["sigmoid", "none"])
@pytest.mark.parametrize("spatial_attention", ["literal", "length_free"])
def test_follows_equations_8_to_16(spatial_attention, gate):
    prompter = built(TOKENS, spatial_attention=spatial_attention, gate=gate)
    rgb, tir, history = streams()
    prompts = prompter(rgb, tir, history)
    options = {"sigmoid": gate == "sigmoid", "length_free": spatial_attention == "length_free"}
    for b in range(2):
        for own, other, previous, prompt in (
            (rgb, tir, history.rgb, prompts.rgb),
            (tir, rgb, history.tir, prompts.tir),
        ):
            centre = attended(prompter.own, own[b], **options)
            mask = (prompter.fovea_scale * centre).exp()
            expected = (
                mask / mask.sum(0) * centre
                + attended(prompter.other, other[b], **options)
                + attended(prompter.history, previous[b], **options)
            )
            torch.testing.assert_close(prompt[b], expected)


def test_one_channel_and_two_tokens_by_hand():
    prompter: Any = MutualPrompter(
        2, history=False, token_attention=False, gate="none", reduction=2, fovea_scale=1.0
    )
    prompter = prompter.double()
    with torch.no_grad():
        for parameter in prompter.parameters():
            parameter.zero_()
        prompter.fovea_scale.fill_(1.0)
        # Own: the hidden value is the second token's, given to the first token's weight. Other:
        # every weight is 1.
        prompter.own.spatial.reduce.weight[0, :, 0] = torch.tensor([0.0, 1.0])
        prompter.own.spatial.restore.weight[:, 0, 0] = torch.tensor([1.0, 0.0])
        prompter.own.spatial.restore.bias.copy_(torch.tensor([0.0, 0.5]))
        prompter.other.spatial.restore.bias.fill_(0.5)
    rgb = torch.tensor([0.25, 3.0], dtype=torch.float64).view(1, 2, 1)
    tir = torch.tensor([7.0, -2.0], dtype=torch.float64).view(1, 2, 1)
    # Mean and maximum over one channel are the token, so the weights of RGB are 3 + 3 and 0.5 + 0.5
    # (bias twice).
    weighed = [6 * 0.25, 1 * 3.0]
    total = math.exp(weighed[0]) + math.exp(weighed[1])
    expected = [
        w * math.exp(w) / total + other for w, other in zip(weighed, (7.0, -2.0), strict=True)
    ]
    torch.testing.assert_close(prompter(rgb, tir).rgb.flatten().tolist(), expected)
    # A negative second token is cut by the ReLU: TIR's own weights are 0 and 1.
    total = math.exp(0.0) + math.exp(-2.0)
    expected = [0.0 + 0.25, -2 * math.exp(-2.0) / total + 3.0]
    torch.testing.assert_close(prompter(rgb, tir).tir.flatten().tolist(), expected)


def test_exchanging_the_streams_exchanges_the_prompts():
    prompter = built(TOKENS)
    rgb, tir, history = streams()
    prompts, exchanged = (
        prompter(rgb, tir, history),
        prompter(tir, rgb, MutualPrompts(history.tir, history.rgb)),
    )
    assert torch.equal(prompts.rgb, exchanged.tir)
    assert torch.equal(prompts.tir, exchanged.rgb)


@pytest.mark.parametrize("spatial_attention", ["literal", "length_free"])
def test_linear_form_is_the_convolution_form(spatial_attention):
    convolution = built(TOKENS, spatial_attention=spatial_attention)
    linear = built(TOKENS, spatial_attention=spatial_attention, form="linear")
    weights = {
        name: weight.reshape(dict(linear.named_parameters())[name].shape)
        for name, weight in convolution.state_dict().items()
    }
    linear.load_state_dict(weights)
    torch.testing.assert_close(linear(*streams()), convolution(*streams()))
    assert not any(isinstance(module, nn.Conv1d) for module in linear.modules())


@pytest.mark.parametrize("tokens", [320, 720])
@pytest.mark.parametrize("form", ["convolution", "linear"])
def test_literal_form_at_the_sizes_of_the_trackers(tokens, form):
    prompter = MutualPrompter(tokens, form=form)
    rgb, tir = torch.randn(2, 1, tokens, 24)
    prompts = prompter(rgb, tir, MutualPrompter(tokens, form=form, history=False)(rgb, tir))
    assert prompts.rgb.shape == prompts.tir.shape == (1, tokens, 24)
    narrow = tokens // 16
    branch = 2 * tokens * narrow + narrow + tokens + 15
    assert sum(p.numel() for p in prompter.parameters()) == 3 * branch + 1


@pytest.mark.parametrize("tokens", [1, 5, 320, 720, 1000])
@pytest.mark.parametrize("form", ["convolution", "linear"])
def test_length_free_form_takes_any_number_of_tokens(tokens, form):
    prompter = MutualPrompter(spatial_attention="length_free", form=form)
    rgb, tir = torch.randn(2, 1, tokens, 8)
    prompts = prompter(rgb, tir, (rgb, tir))
    assert prompts.rgb.shape == (1, tokens, 8)
    assert prompts.rgb.isfinite().all()
    assert sum(p.numel() for p in prompter.parameters()) == 3 * (15 + 15) + 1


def test_literal_form_names_both_ways_out_when_it_meets_another_length():
    prompter = MutualPrompter(320)
    x = torch.zeros(1, 256, 8)
    message = (
        r"rgb must have the 320 tokens that the literal spatial attention was built for, got 256; "
        r"build the prompter with num_tokens=256, or with spatial_attention='length_free' for any "
        r"number"
    )
    with pytest.raises(ShapeError, match=message):
        prompter(x, x)


def test_no_previous_prompt_counts_as_zero():
    prompter = built(TOKENS)
    rgb, tir, _ = streams()
    zeros = MutualPrompts(torch.zeros_like(rgb), torch.zeros_like(tir))
    torch.testing.assert_close(prompter(rgb, tir), prompter(rgb, tir, zeros), rtol=0, atol=0)


def test_ablations_leave_out_exactly_their_part():
    rgb, tir, history = streams()
    whole = built(TOKENS)

    def without(**option: Any) -> MutualPrompts:
        part = built(TOKENS, **option)
        missing = part.load_state_dict(whole.state_dict(), strict=False).missing_keys
        assert not missing
        return part(rgb, tir, history if part.history is not None else None)

    def gated(branch: Any, x: Tensor, *, spatial: bool = True, token: bool = True) -> Tensor:
        if spatial:
            x = x * branch.spatial(torch.stack([x.mean(2), x.amax(2)], 1)).sigmoid()[:, :, None]
        if token:
            x = x * branch.token(torch.stack([x.mean(1), x.amax(1)], 1)).sigmoid()[:, None]
        return x

    def prompt(history: Tensor | None, *, fovea: bool = True, **parts: bool) -> Tensor:
        own = gated(whole.own, rgb, **parts)
        if fovea:
            own = own * torch.softmax(whole.fovea_scale * own, 1)
        expected = own + gated(whole.other, tir, **parts)
        return expected if history is None else expected + gated(whole.history, history, **parts)

    torch.testing.assert_close(without().rgb, prompt(history.rgb))
    torch.testing.assert_close(
        without(spatial_attention=None).rgb, prompt(history.rgb, spatial=False)
    )
    torch.testing.assert_close(without(token_attention=False).rgb, prompt(history.rgb, token=False))
    torch.testing.assert_close(without(history=False).rgb, prompt(None))
    torch.testing.assert_close(without(fovea_scale=None).rgb, prompt(history.rgb, fovea=False))


def test_with_everything_left_out_the_prompt_is_the_sum_of_the_streams():
    rgb, tir, _ = streams()
    prompter = MutualPrompter(
        spatial_attention=None, token_attention=False, history=False, fovea_scale=None
    )
    assert not list(prompter.parameters())
    assert all(torch.equal(prompt, rgb + tir) for prompt in prompter(rgb, tir))


def test_fovea_starts_at_ten_is_learned_and_sharpens_towards_the_largest_token():
    assert MutualPrompter(TOKENS).fovea_scale.item() == 10.0  # pyright: ignore[reportOptionalMemberAccess]
    prompter = built(
        spatial_attention=None, token_attention=False, history=False, fovea_scale=200.0
    )
    rgb, tir, _ = streams()
    prompts = prompter(rgb, torch.zeros_like(tir))
    largest = torch.where(rgb == rgb.amax(1, keepdim=True), rgb, 0)
    torch.testing.assert_close(prompts.rgb, largest, rtol=0, atol=1e-2)
    prompts.rgb.square().sum().backward()
    assert prompter.fovea_scale.grad is not None


def test_twelve_prompters_in_a_row_carry_the_history():
    first, others = built(TOKENS, history=False), [built(TOKENS) for _ in range(12)]
    rgb, tir, _ = (x.requires_grad_() if isinstance(x, Tensor) else x for x in streams())
    prompts = first(rgb, tir)
    for prompter in others:
        prompts = prompter(rgb, tir, prompts)
    prompts.rgb.sum().backward()
    for prompter in (first, *others):
        assert all(p.grad is not None and p.grad.any() for p in prompter.parameters())


X = torch.zeros(2, TOKENS, CHANNELS)


@pytest.mark.parametrize(
    ("rgb", "tir", "history", "error", "message"),
    [
        (X[0], X[0], None, ShapeError, r"rgb must have shape \(B, L, C\), got \(12, 10\)"),
        (
            X,
            X[:, :5],
            None,
            ShapeError,
            r"tir must have the shape of rgb \(2, 12, 10\), got \(2, 5, 10\)",
        ),
        (
            X[:, :, :0],
            X[:, :, :0],
            None,
            ShapeError,
            r"at least one token and one channel, got \(2, 12, 0\)",
        ),
        (
            X,
            X.double(),
            None,
            TypeError,
            r"tir must have the dtype of rgb torch\.float32, got torch\.float64",
        ),
        (
            X.double(),
            X.double(),
            None,
            TypeError,
            r"rgb must have the dtype of the prompter's parameters",
        ),
        (
            X.long(),
            X.long(),
            None,
            TypeError,
            r"rgb must hold real floating-point numbers, got torch\.int64",
        ),
        (X, X.to("meta"), None, ValueError, "tir must be on the device of rgb cpu, got meta"),
        (None, X, None, TypeError, "rgb must be a tensor .* got NoneType"),
        (X, X, X, TypeError, r"history must be MutualPrompts\(rgb, tir\) or None, got Tensor"),
        (X, X, (X,), TypeError, r"history must be MutualPrompts\(rgb, tir\) or None, got tuple"),
        (
            X,
            X,
            (X, X[:1]),
            ShapeError,
            r"history\.tir must have the shape of rgb \(2, 12, 10\), got \(1, 12, 10\)",
        ),
        (X, X, (X.double(), X), TypeError, r"history\.rgb must have the dtype of rgb"),
    ],
)
def test_bad_input_is_named(rgb, tir, history, error, message):
    with pytest.raises(error, match=message):
        MutualPrompter(TOKENS)(rgb, tir, history)


def test_history_given_to_a_prompter_without_it_is_refused():
    with pytest.raises(
        ValueError, match="history must be None for a prompter built with history=False, got tuple"
    ):
        MutualPrompter(TOKENS, history=False)(X, X, (X, X))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_tokens": 0}, "num_tokens must be at least 1, got 0"),
        (
            {"spatial_attention": "cbam"},
            "spatial_attention must be one of 'literal', 'length_free', None, got 'cbam'",
        ),
        ({"gate": None}, "gate must be one of 'sigmoid', 'none', got None"),
        ({"form": "conv"}, "form must be one of 'convolution', 'linear', got 'conv'"),
        ({"reduction": 0}, "reduction must be at least 1, got 0"),
        ({"fovea_scale": math.inf}, "fovea_scale must be finite, got inf"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        MutualPrompter(**options)


def test_autocast_streams_may_meet_a_history_of_another_precision():
    prompter = MutualPrompter(TOKENS)
    rgb, tir, history = (
        torch.stack(x).float() if isinstance(x, tuple) else x.float() for x in streams()
    )
    with torch.autocast("cpu", torch.bfloat16):
        prompts = prompter(rgb.bfloat16(), tir.bfloat16(), MutualPrompts(*history))
    torch.testing.assert_close(
        prompts, prompter(rgb, tir, MutualPrompts(*history)), rtol=0, atol=0.1, check_dtype=False
    )


@pytest.mark.parametrize("gate", ["sigmoid", "none"])
@pytest.mark.parametrize("with_history", [False, True])
def test_the_kernels_are_given_the_streams_the_weights_and_the_gate(
    gate, with_history, monkeypatch
):
    given: list[tuple[Any, ...]] = []

    def kernels(*arguments: Any) -> Tensor:
        given.append(arguments)
        return torch.zeros(2, *arguments[0][0].shape)

    monkeypatch.setattr(mutual_prompter, "can_fuse_prompts", lambda *_: True)
    monkeypatch.setattr(mutual_prompter, "mutual_prompts", kernels)
    prompter = built(TOKENS, gate=gate)
    rgb, tir, history = streams()
    prompter(rgb, tir, history if with_history else None)
    ((tokens, weights, fovea_scale, sigmoid),) = given
    assert all(x is y for x, y in zip(tokens, (rgb, tir, *history), strict=False))
    assert len(tokens) == (4 if with_history else 2)
    assert len(weights) == 6 * (3 if with_history else 2)
    assert fovea_scale is prompter.fovea_scale
    assert sigmoid is (gate == "sigmoid")
