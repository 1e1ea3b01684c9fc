"""What is not handed to mamba-ssm and causal-conv1d, each objection alone."""

import sys

import pytest
import torch

from ops.agreement import ConvCase, ScanCase, make_conv_inputs, make_scan_inputs
from rgbt_fusion.ops import mamba_ssm

SCAN = ScanCase("", length=6, channels=8, state=4)
CONVOLUTION = ConvCase("", length=6, channels=8)

COPIED = "takes (B, D, L) memory only; token-major inputs would be copied"
SEVERAL = "has no segment order, initial state or several directions"
STRIDES = "takes token-major inputs only with channels and strides divisible by 8"


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both packages import."""
    monkeypatch.setattr(mamba_ssm, "_scan_import_error", lambda: "")
    monkeypatch.setattr(mamba_ssm, "_conv_import_error", lambda: "")


@pytest.mark.parametrize(
    ("case", "layout", "reasons"),
    [
        (SCAN, "channel", []),
        (SCAN, "token", [COPIED]),
        (SCAN._replace(directions=2), "channel", [SEVERAL]),
        (SCAN._replace(order=(1, 1, 3)), "channel", [SEVERAL]),
        (SCAN._replace(options=frozenset({"initial_state"})), "channel", [SEVERAL]),
        (SCAN._replace(state=256), "channel", []),
        (SCAN._replace(state=257), "channel", ["takes at most 256 states, got 257"]),
    ],
)
def test_scans_that_are_not_handed_over(case: ScanCase, layout: str, reasons: list[str]) -> None:
    assert mamba_ssm.scan_why_not(make_scan_inputs(case, layout=layout)) == reasons


@pytest.mark.parametrize(
    ("case", "layout", "reasons"),
    [
        (CONVOLUTION, "channel", []),
        (CONVOLUTION, "token", []),
        (CONVOLUTION._replace(channels=12), "token", [STRIDES]),
        (CONVOLUTION._replace(channels=12), "channel", []),
        (
            CONVOLUTION._replace(directions=2),
            "token",
            ["has no segment order or several directions"],
        ),
        (
            CONVOLUTION._replace(order=(1, 1, 3)),
            "token",
            ["has no segment order or several directions"],
        ),
        (CONVOLUTION._replace(taps=2), "token", []),
        (CONVOLUTION._replace(taps=1), "token", ["takes 2 to 4 taps, got 1"]),
        (CONVOLUTION._replace(taps=5), "token", ["takes 2 to 4 taps, got 5"]),
    ],
)
def test_convolutions_that_are_not_handed_over(
    case: ConvCase, layout: str, reasons: list[str]
) -> None:
    assert mamba_ssm.conv_why_not(make_conv_inputs(case, layout=layout)) == reasons


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_double_precision_is_not_handed_over(dtype: torch.dtype) -> None:
    scan = make_scan_inputs(SCAN, dtype, layout="channel")
    convolution = make_conv_inputs(CONVOLUTION, dtype)
    reasons = []
    if dtype == torch.float64:
        reasons = ["takes float32, float16 and bfloat16, got torch.float64"]
    assert mamba_ssm.scan_why_not(scan) == mamba_ssm.conv_why_not(convolution) == reasons


def test_nothing_is_handed_over_while_a_compiler_looks_or_without_the_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    traced = ["cannot be traced by torch.compile or torch.export"]
    assert mamba_ssm.scan_why_not(make_scan_inputs(SCAN, layout="channel")) == traced
    assert mamba_ssm.conv_why_not(make_conv_inputs(CONVOLUTION)) == traced
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "selective_scan_cuda", None)
    monkeypatch.setitem(sys.modules, "causal_conv1d", None)
    for name in ("_scan_import_error", "_conv_import_error"):
        monkeypatch.setattr(mamba_ssm, name, getattr(mamba_ssm, name).__wrapped__)
    (reason,) = mamba_ssm.scan_why_not(make_scan_inputs(SCAN, layout="channel"))
    assert reason.startswith("mamba-ssm's selective_scan_cuda does not import (")
    (reason,) = mamba_ssm.conv_why_not(make_conv_inputs(CONVOLUTION))
    assert reason.startswith("causal-conv1d does not import (")
