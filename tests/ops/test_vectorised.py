"""The pure-PyTorch backend against the reference in float64."""

import pytest
import torch
from ops.agreement import (
    CONV_CASES,
    LAYOUTS,
    SCAN_CASES,
    ConvCase,
    ScanCase,
    assert_conv_agrees,
    assert_scan_agrees,
)

from rgbt_fusion.ops import _vectorised

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", SCAN_CASES, ids=str)
def test_scan_agrees_with_the_reference(case: ScanCase, layout: str) -> None:
    assert_scan_agrees(_vectorised, case, torch.float32, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CONV_CASES, ids=str)
def test_convolution_agrees_with_the_reference(case: ConvCase, layout: str) -> None:
    assert_conv_agrees(_vectorised, case, torch.float32, layout)
