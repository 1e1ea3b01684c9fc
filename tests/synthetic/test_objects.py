"""Sprites have extents that fit what is opaque, and move."""

import pytest

from rgbt_fusion.synthetic.objects import KINDS, occluder, sprite


@pytest.mark.parametrize("number", range(20))
def test_extents_fit(number):
    picture = sprite(number)
    assert picture.half.shape[2] == picture.layers.shape[2] // 2
    for layers, (left, top, right, bottom) in zip(picture.layers, picture.extents, strict=True):
        opaque = layers[4] > 127
        assert opaque.any(dim=0).nonzero().flatten()[[0, -1]].tolist() == [left, right - 1]
        assert opaque.any(dim=1).nonzero().flatten()[[0, -1]].tolist() == [top, bottom - 1]
        # nothing is cut off by the canvas
        assert not opaque[0].any()
        assert not opaque[:, [0, -1]].any()


def test_who_walks_has_phases_that_differ():
    for number, kind in enumerate(KINDS):
        layers = sprite(number).layers
        assert (len(layers) > 1) == (kind in ("person", "cyclist", "cyclist rear", "dog"))
        if len(layers) > 1:
            assert (layers[2].int() - layers[6].int()).abs().max() > 127


@pytest.mark.parametrize("number", range(10))
def test_occluders_are_opaque_and_stand(number):
    picture = occluder(number)
    left, top, right, bottom = picture.extents[0]
    assert right - left > 3
    assert bottom - top > 30


def test_a_negative_number():
    with pytest.raises(ValueError, match="number must be at least 0, got -1"):
        sprite(-1)
