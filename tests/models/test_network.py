import io

import pytest
import torch

from model_material import images, tiny
from rgbt_fusion.checks import ShapeError
from rgbt_fusion.frames.types import ImagePair
from rgbt_fusion.models.presets import list_models
from rgbt_fusion.weights.pretrained import create_model

NAMES = [name for name in list_models() if "tiny" in name]
SHRUNK = {
    "dim": 48,
    "depth": 2,
    "num_heads": 2,
    "template_size": 64,
    "search_size": 128,
    "head_channels": 16,
}
"""What makes a step of a large preset as cheap as that of a tiny one."""


@pytest.mark.parametrize("name", NAMES)
def test_a_window_moves_the_maximum(name: str) -> None:
    model = tiny(name)
    out = model(*images(model))
    window = torch.zeros(8, 8)
    window[6, 1] = 1.0
    box = model.decode(out, window)
    expected = torch.cat(
        ((torch.tensor([1, 6]) + out.offset_map[:, :, 6, 1]) / 8, out.size_map[:, :, 6, 1]), dim=1
    )
    torch.testing.assert_close(box, expected)
    assert torch.equal(model.decode(out), out.box_cxcywh_unit)
    with pytest.raises(
        ShapeError, match=r"window must have shape \(S, S\) with S = 8, got \(16, 16\)"
    ):
        model.decode(out, torch.ones(16, 16))


@pytest.mark.parametrize("name", NAMES)
def test_a_template_embedded_once_gives_the_same(name: str) -> None:
    model = tiny(name)
    template, search = images(model)
    tokens = model.embed_template(template)
    assert torch.equal(model(tokens, search).score_map, model(template, search).score_map)


@pytest.mark.parametrize("name", NAMES)
def test_samples_do_not_touch_each_other(name: str) -> None:
    model = tiny(name).double()
    template, search = images(model, 3)
    others = images(model, 3, seed=1)
    mixed = [
        ImagePair(*(torch.cat((new[:1], old[1:2], new[2:])) for new, old in zip(b, a, strict=True)))
        for a, b in zip((template, search), others, strict=True)
    ]
    torch.testing.assert_close(model(*mixed).score_map[1], model(template, search).score_map[1])
    alone = model(*(ImagePair(*(x[1:2] for x in pair)) for pair in (template, search)))
    torch.testing.assert_close(alone.score_map[0], model(template, search).score_map[1])


@pytest.mark.parametrize("name", list_models())
def test_one_step_moves_every_parameter_that_may_move(name: str) -> None:
    model = tiny(name, **({} if name in NAMES else SHRUNK)).train()
    parameters = {key: p for key, p in model.named_parameters() if p.requires_grad}
    before = {key: p.detach().clone() for key, p in parameters.items()}
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-3)
    out = model(*images(model, 4))
    loss = out.score_logits.square().mean() + out.size_map.mean() + out.offset_map.square().mean()
    loss.backward()
    optimizer.step()
    assert not [key for key, p in parameters.items() if p.grad is None]
    # weight decay would move what has no gradient; both ReLUs of a MAF at 8 channels may be off for
    # these images
    assert not [key for key, p in parameters.items() if not p.grad.any() and ".maf.fc" not in key]
    assert not [key for key, p in parameters.items() if torch.equal(p, before[key])]


@pytest.mark.parametrize("name", NAMES)
def test_encode_gives_what_it_is_asked_for(name: str) -> None:
    model = tiny(name)
    encoding = model.encode(*images(model), layers=(1, 3))
    assert encoding.features.shape == (2, 64, 128)
    assert len(encoding.layers) == 2
    last = encoding.layers[-1]
    assert torch.equal(last.indices, encoding.indices)
    assert last.rgb.shape == (2, 16 + encoding.indices.shape[1], 128)
    torch.testing.assert_close(
        model.box_head(encoding.features).score_logits,
        model(*images(model)).score_logits,
        atol=1e-5,
        rtol=1e-5,
    )
    with pytest.raises(ValueError, match=r"layers must be block numbers in \[0, 3\], got 4"):
        model.encode(*images(model), layers=(4,))
    with pytest.raises(ValueError, match=r"layers must be block numbers in \[0, 3\], got -1"):
        model.encode(*images(model), layers=(-1,))


def test_the_first_block_may_be_asked_for() -> None:
    model = tiny("ostrack_tiny_128")
    first, last = model.encode(*images(model), layers=(0, 3)).layers
    assert not torch.equal(first.rgb, last.rgb)


@pytest.mark.parametrize("name", [name for name in NAMES if "teacher" not in name])
def test_a_schedule_may_give_the_keep_ratio_of_a_call(name: str) -> None:
    model = tiny(name)
    assert model.encode(*images(model), keep_ratio=0.5).indices.shape == (2, 8)
    assert model.encode(*images(model), keep_ratio=1.0).indices.shape == (2, 64)
    assert model(*images(model), keep_ratio=0.5).score_map.shape == (2, 1, 8, 8)


@pytest.mark.parametrize("name", NAMES)
def test_the_whole_model_survives_pickling_and_bfloat16(name: str) -> None:
    model = tiny(name)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    again = torch.load(buffer, weights_only=False)
    assert torch.equal(again(*images(model)).score_map, model(*images(model)).score_map)
    low = model.bfloat16()
    out = low(*images(low))
    assert out.score_map.dtype == out.box_cxcywh_unit.dtype == torch.float32
    assert out.score_map.isfinite().all() and out.score_map.max() < 1


# the presets that are not tiny are the same classes, but for the released configuration of AINet
@pytest.mark.parametrize("name", [*NAMES, "ainet_vitb_256_released"])
def test_a_step_compiles_whole_and_gives_the_same(name: str) -> None:
    model = tiny(name, **({"depth": 2} if name in NAMES else SHRUNK))
    template, search = images(model, 1)
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        first = model(template, search)
        torch.testing.assert_close(compiled(template, search, None), first)


@pytest.mark.parametrize("name", [*NAMES, "ainet_vitb_256_released"])
def test_a_step_exports_and_gives_the_same(name: str) -> None:
    model = tiny(name, **({"depth": 2} if name in NAMES else SHRUNK))
    template, search = images(model, 1)
    with torch.no_grad():
        tokens, state = model.embed_template(template), model(template, search).state
        exported = torch.export.export(model, (tokens, search, state))
        torch.testing.assert_close(
            exported.module()(tokens, search, state), model(tokens, search, state)
        )


def test_the_first_block_may_be_judged() -> None:
    assert create_model("two_stream_tiny_128", reliability=[0]).reliability is not None


def test_a_new_alignment_changes_nothing() -> None:
    plain = create_model("two_stream_tiny_128").eval()
    aligning = create_model("two_stream_tiny_128", alignment=2).eval()
    aligning.load_state_dict(plain.state_dict(), strict=False)
    found = aligning(*images(plain)).score_map
    torch.testing.assert_close(found, plain(*images(plain)).score_map)
