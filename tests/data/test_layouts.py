"""The table of layouts says what the code that reads it expects."""

import pytest

from rgbt_fusion.data.layouts import LAYOUTS, get_layout


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_rows_are_well_formed(layout):
    assert layout.rgb or layout.tir
    assert layout.truth or layout.truth_folder
    assert layout.kind in ("thermal", "depth", "event")
    # a plain folder may hold boxes or four corners
    formats = ("auto",) if layout is LAYOUTS["folder"] else ("xywh", "xyxy")
    assert layout.box_format in formats
    assert layout.annotated_every >= 1
    assert bool(layout.attributes) == bool(layout.attribute_folder)
    assert len(set(layout.attributes)) == len(layout.attributes)
    files = (*layout.truth, *layout.truth_tir, *layout.present)
    assert not any("/" in name for name in files)
    assert not any(".." in name or name.startswith("/") for name in (*layout.rgb, *layout.tir))


def test_attribute_counts():
    counts = {
        "gtot": 7,
        "rgbt210": 12,
        "rgbt234": 12,
        "lasher": 19,
        "lasher_unaligned": 19,
        "muart244": 43,
        "luart": 22,
        "visevent": 17,
    }
    assert {name: len(row.attributes) for name, row in LAYOUTS.items() if row.attributes} == counts


def test_an_unknown_layout():
    with pytest.raises(ValueError, match=r"layout must be one of 'gtot', .*, got 'lasot'"):
        get_layout("lasot")
