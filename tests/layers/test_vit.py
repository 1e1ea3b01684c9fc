import pytest
import torch
from torch import nn

from rgbt_fusion.checks import ShapeError
from rgbt_fusion.layers.vit import DropPath, EncoderBlock, PatchEmbed
from token_material import randomised


def test_patches_follow_in_raster_order() -> None:
    layer = PatchEmbed(patch_size=2, in_channels=1, dim=4)
    layer.proj.weight.data = torch.eye(4).reshape(4, 1, 2, 2)
    image = torch.arange(24.0).reshape(1, 1, 4, 6)
    tokens = layer(image)
    assert tokens.shape == (1, 6, 4)
    assert tokens[0, 4].tolist() == image[0, 0, 2:4, 2:4].flatten().tolist()


def test_block_equals_torch_encoder_layer() -> None:
    block = randomised(EncoderBlock(12, 3))
    oracle = nn.TransformerEncoderLayer(
        12,
        3,
        48,
        dropout=0.0,
        activation="gelu",
        layer_norm_eps=1e-6,
        batch_first=True,
        norm_first=True,
    ).double()
    names = {
        "self_attn.in_proj_": "attn.qkv.",
        "self_attn.out_proj.": "attn.proj.",
        "linear1.": "mlp.fc1.",
        "linear2.": "mlp.fc2.",
    }
    state = block.state_dict()
    for theirs in oracle.state_dict():
        ours = theirs
        for old, new in names.items():
            ours = ours.replace(old, new)
        oracle.get_parameter(theirs).data = state.pop(ours)
    assert not state
    tokens = torch.randn(2, 7, 12, dtype=torch.float64)
    torch.testing.assert_close(block(tokens), oracle(tokens))


def test_norms_have_the_epsilon_of_timm() -> None:
    block = EncoderBlock(8, 2)
    assert block.norm1.eps == block.norm2.eps == 1e-6


def test_explicit_attention_is_the_same_function() -> None:
    fused, explicit = (
        randomised(EncoderBlock(12, 3)),
        randomised(EncoderBlock(12, 3, attention="explicit")),
    )
    tokens = torch.randn(2, 7, 12, dtype=torch.float64)
    torch.testing.assert_close(fused(tokens), explicit(tokens))


def test_gradients() -> None:
    tokens = torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(randomised(EncoderBlock(8, 2, mlp_ratio=1.0)), (tokens,))


def test_drop_path_drops_whole_samples_and_only_while_training() -> None:
    torch.manual_seed(0)
    drop = DropPath(0.25)
    kept = drop(torch.ones(4000, 2, 3))
    assert kept.flatten(1).std(1).eq(0).all()
    assert abs(kept.mean().item() - 1) < 0.05
    assert drop.eval()(torch.ones(9, 1)).eq(1).all()
    assert DropPath(1.0)(torch.ones(9, 1)).eq(0).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: PatchEmbed(dim=8)(torch.zeros(1, 4, 16, 16)),
            ShapeError,
            r"image must have .*C = 3, got \(1, 4",
        ),
        (
            lambda: PatchEmbed(dim=8)(torch.zeros(1, 3, 16, 20)),
            ShapeError,
            r"patch_size = 16, got \(1, 3, 16, 20\)",
        ),
        (
            lambda: EncoderBlock(8, 2)(torch.zeros(1, 5, 9)),
            ShapeError,
            r"tokens must have .*C = 8, got \(1, 5, 9\)",
        ),
        (
            lambda: EncoderBlock(8, 2, drop_path=1.5),
            ValueError,
            r"drop_path must be .*\[0, 1\], got 1.5",
        ),
    ],
)
def test_bad_input_is_refused(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
