import pytest
import torch

from compensation_material import (
    DIM,
    HEADS,
    feed_forward,
    heads,
    linear,
    norm,
    randomised,
    streams,
    weights_of,
)
from rgbt_fusion.checks import ShapeError
from rgbt_fusion.layers.gated_cross_modal_compensation import CMC1, GatedCrossModalCompensation


def test_acronym_is_the_class() -> None:
    assert CMC1 is GatedCrossModalCompensation


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
