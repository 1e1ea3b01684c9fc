"""The prompter of N streams is MutualPrompter for two, and does not read what is absent."""

import pytest
import torch

from rgbt_fusion import MultiStreamPrompter, MutualPrompter

OPTIONS = [
    {},
    {"spatial_attention": "length_free", "form": "linear"},
    {"gate": "none", "fovea_scale": None},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_two_streams_are_the_mutual_prompter(options):
    torch.manual_seed(0)
    pair = MutualPrompter(6, reduction=2, **options)
    many = MultiStreamPrompter(6, reduction=2, **options)
    many.load_state_dict(pair.state_dict())
    rgb, tir, rgb_before, tir_before = torch.randn(4, 3, 6, 8)
    expected = pair(rgb, tir, (rgb_before, tir_before))
    found = many(torch.stack([rgb, tir], 1), torch.stack([rgb_before, tir_before], 1))
    torch.testing.assert_close(found, torch.stack(expected, 1))


def test_every_stream_is_prompted_by_the_mean_of_the_others():
    torch.manual_seed(0)
    prompter = MultiStreamPrompter(6, reduction=2, history=False)
    streams = torch.randn(2, 3, 6, 8)
    found = prompter(streams)
    for own in range(3):
        others = [prompter.other(streams[:, one]) for one in range(3) if one != own]
        wanted = prompter.fovea(streams[:, own]) + sum(others) / 2
        torch.testing.assert_close(found[:, own], wanted)


def test_without_previous_prompts_nothing_is_added_for_them():
    torch.manual_seed(0)
    prompter = MultiStreamPrompter(6, reduction=2)
    streams = torch.randn(2, 3, 6, 8)
    torch.testing.assert_close(prompter(streams), prompter(streams, torch.zeros_like(streams)))


def test_an_absent_stream_is_as_if_it_were_not_there():
    torch.manual_seed(0)
    prompter = MultiStreamPrompter(6, reduction=2)
    streams, history = torch.randn(2, 1, 3, 6, 8)
    hole = torch.tensor([[True, False, True]])
    poisoned = streams.clone()
    poisoned[:, 1] = float("nan")
    poisoned.requires_grad_()
    found = prompter(poisoned, history, hole)
    without = prompter(streams[:, ::2], history[:, ::2])
    torch.testing.assert_close(found[:, ::2], without)
    assert not found[:, 1].any()
    found.square().sum().backward()
    assert poisoned.grad is not None
    assert torch.isfinite(poisoned.grad).all()
    assert not poisoned.grad[:, 1].any()


def test_the_order_of_the_streams_does_not_matter():
    prompter = MultiStreamPrompter(6, reduction=2, history=False)
    streams = torch.randn(2, 4, 6, 8)
    shuffled = [2, 0, 3, 1]
    torch.testing.assert_close(prompter(streams[:, shuffled]), prompter(streams)[:, shuffled])


def test_one_stream_is_prompted_by_itself():
    prompter = MultiStreamPrompter(6, reduction=2, history=False)
    alone = torch.randn(2, 1, 6, 8)
    torch.testing.assert_close(prompter(alone)[:, 0], prompter.fovea(alone[:, 0]))


def test_says_what_is_wrong():
    prompter = MultiStreamPrompter(6, reduction=2)
    streams = torch.zeros(2, 3, 6, 8)
    with pytest.raises(ValueError, match="streams must have the 6 tokens"):
        prompter(streams[:, :, :5])
    with pytest.raises(ValueError, match="at least one stream, position and channel"):
        prompter(streams[:, :0])
    with pytest.raises(TypeError, match="dtype of the layer's parameters"):
        prompter(streams.double())
    with pytest.raises(ValueError, match="history must have the shape of streams"):
        prompter(streams, streams[:1])
    with pytest.raises(ValueError, match="history must be None for a prompter built with"):
        MultiStreamPrompter(6, history=False)(streams, streams)
    with pytest.raises(ValueError, match=r"present must have shape \(B, N\) with B = 2, N = 3"):
        prompter(streams, present=torch.ones(2, 2, dtype=torch.bool))
    with pytest.raises(TypeError, match="present must be boolean"):
        prompter(streams, present=torch.ones(2, 3))
