"""The figures on the page of the models are counted anew."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from rgbt_fusion.models.preset_figures import FIGURES, preset_figures
from rgbt_fusion.models.presets import list_models
from rgbt_fusion.models.summary import ModelSummary, summarise
from rgbt_fusion.weights.pretrained import create_model

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "models.md").read_text()
ROWS = re.findall(
    r"^\| `(\w+_vitb_\w+)`(?:, `keep_ratio=([\d.]+)`)? \|.*\| ([\d,]+) \| ([\d.]+) \|$",
    PAGE,
    re.MULTILINE,
)


@cache
def counted(name: str, **overrides: Any) -> ModelSummary:
    """Count a preset without its weights."""
    with torch.device("meta"):
        return summarise(create_model(name, **overrides))


def test_every_large_preset_is_on_the_page() -> None:
    assert {name for name, *_ in ROWS} == {name for name in list_models() if "_vitb_" in name}


@pytest.mark.parametrize(("name", "keep_ratio", "parameters", "macs"), ROWS)
def test_parameters_and_arithmetic_are_those_on_the_page(
    name: str, keep_ratio: str, parameters: str, macs: str
) -> None:
    summary = counted(name, **({"keep_ratio": float(keep_ratio)} if keep_ratio else {}))
    assert f"{summary.parameters:,}" == parameters
    assert f"{summary.macs / 1e9:.1f}" == macs


@pytest.mark.parametrize("name", list_models())
def test_the_list_of_presets_says_what_is_counted(name: str) -> None:
    summary = counted(name)
    assert preset_figures(name) == (summary.parameters, summary.macs)
    assert name in FIGURES


def test_the_readme_says_the_same() -> None:
    page = {
        name: (parameters, macs) for name, keep_ratio, parameters, macs in ROWS if not keep_ratio
    }
    readme = (ROOT / "README.md").read_text()
    rows = re.findall(
        r"^\| `(\w+_vitb_\w+)` \|.*\| ([\d.]+) M \| ([\d.]+) \|$", readme, re.MULTILINE
    )
    assert len(rows) >= 8
    for name, millions, macs in rows:
        assert (f"{int(page[name][0].replace(',', '')) / 1e6:.1f}", page[name][1]) == (
            millions,
            macs,
        ), name


def row(title: str) -> str:
    """Return a row of the table of published figures."""
    (found,) = [line for line in PAGE.splitlines() if line.startswith(f"| {title} |")]
    return found


def test_what_ainet_adds_to_its_baseline_is_what_the_page_says() -> None:
    base = counted("two_stream_vitb_256")
    released, compact = counted("ainet_vitb_256_released"), counted("ainet_vitb_256_compact")
    more = [summary.parameters - base.parameters for summary in (released, compact)]
    work = [summary.macs - base.macs for summary in (released, compact)]
    assert more[1] <= 15_900_000 and work[1] <= 5_200_000_000
    parameters, macs = (
        row("AINet, added to its baseline: parameters"),
        row("AINet, added to its baseline: multiply-adds"),
    )
    assert (
        f"| {more[0] / 1e6:.1f} M |" in parameters
        and f"`_compact` adds {more[1] / 1e6:.1f} M" in parameters
    )
    assert f"| {work[0] / 1e9:.1f} G |" in macs and f"`_compact` adds {work[1] / 1e9:.1f} G" in macs
    (dfm,) = [part for part in released.components if part.name == "dfm"]
    assert f"| {dfm.parameters // dfm.layers:,} |" in row("AINet, a DFM")


def test_what_tpmri_adds_is_what_the_page_says() -> None:
    with torch.device("meta"):
        model: Any = create_model("tpmri_vitb_256")
    layers = [layer.interaction for layer in model.prompt_layers]
    cmi, maf = (
        {sum(p.numel() for p in getattr(layer, name).parameters()) for layer in layers}
        for name in ("cmi", "maf")
    )
    assert (cmi, maf, len(layers)) == ({144}, {40}, 12)
    assert "| 0.0017 M, 0.0005 M | 12 x 144, 12 x 40 |" in row("TPMRI: CMI, MAF")
    tmr = sum(p.numel() for p in model.tmr.parameters())
    assert f"| {tmr / 1e6:.4f} M |" in row("TPMRI: TMR")
    assert f"| 23.08 G | {counted('tpmri_vitb_256').macs / 1e9:.1f} G |" in row(
        "TPMRI: multiply-adds"
    )


def test_ostrack_without_the_products_of_attention_costs_what_is_published() -> None:
    plain = counted("ostrack_vitb_256", keep_ratio=1.0)
    products = 12 * 2 * 320 * 320 * 768
    assert f"{(plain.macs - products) / 1e9:.1f}" == "29.0"


def test_student_and_teacher_are_equal_work() -> None:
    student, teacher = (
        counted("one_stream_student_vitb_256"),
        counted("mutual_prompt_teacher_vitb_256"),
    )
    assert f"| {student.macs / teacher.macs:.2f} times the operations |" in PAGE
