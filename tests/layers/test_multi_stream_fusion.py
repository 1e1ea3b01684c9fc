"""The blend of N maps is MAF for two, and does not read what is absent."""

import pytest
import torch

from rgbt_fusion import MAF, MultiStreamFusion


@pytest.mark.parametrize("pooling", ["global", "spatial"])
def test_two_streams_are_maf(pooling):
    torch.manual_seed(0)
    pair = MAF(8, pooling=pooling)
    many = MultiStreamFusion(8, pooling=pooling)
    many.load_state_dict(pair.state_dict())
    rgb, enhanced = torch.randn(2, 3, 8, 4, 5)
    found = many(torch.stack([rgb, enhanced], 1))
    torch.testing.assert_close(found, pair(rgb, enhanced))


def test_the_weights_are_a_softmax_over_the_pooled_streams():
    torch.manual_seed(0)
    blend = MultiStreamFusion(4, 3)
    streams = torch.randn(2, 3, 4, 2, 2)
    found = blend(streams)
    for sample in range(2):
        pooled = torch.cat([streams[sample, one].mean((1, 2)) for one in range(3)])
        weights = blend.fc2(blend.fc1(pooled).relu()).softmax(0)
        wanted = sum(weights[one] * streams[sample, one] for one in range(3))
        torch.testing.assert_close(found[sample], wanted)


@pytest.mark.parametrize("pooling", ["global", "spatial"])
def test_an_absent_stream_has_no_weight_and_is_not_read(pooling):
    torch.manual_seed(0)
    blend = MultiStreamFusion(4, 3, pooling=pooling)
    streams = torch.randn(2, 3, 4, 2, 2)
    streams[:, 0] = 1.0
    streams[:, 2] = 1.0
    poisoned = streams.clone()
    poisoned[:, 1] = float("nan")
    poisoned.requires_grad_()
    present = torch.tensor([[True, False, True], [True, False, False]])
    found = blend(poisoned, present)
    torch.testing.assert_close(found, torch.ones(2, 4, 2, 2))  # the weights still sum to one
    found.sum().backward()
    assert poisoned.grad is not None
    assert torch.isfinite(poisoned.grad).all()
    assert not poisoned.grad[:, 1].any()
    assert not blend(poisoned, torch.zeros(2, 3, dtype=torch.bool)).any()


def test_says_what_is_wrong():
    blend = MultiStreamFusion(4, 3)
    streams = torch.zeros(2, 3, 4, 2, 2)
    with pytest.raises(ValueError, match="with N = 3, C = 4, got"):
        blend(streams[:, :2])
    with pytest.raises(ValueError, match="at least one stream, position and channel"):
        blend(streams[..., :0])
    with pytest.raises(TypeError, match="present must be boolean"):
        blend(streams, torch.ones(2, 3))
    with pytest.raises(ValueError, match="pooling must be"):
        MultiStreamFusion(4, 3, pooling="both")  # pyright: ignore
