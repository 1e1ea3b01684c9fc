"""The compiled kernels against the reference in float64, at every instruction set that this processor has."""

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

from rgbt_fusion.ops import _cpu

HALVES = (torch.bfloat16, torch.float16)

pytestmark = pytest.mark.skipif(bool(_cpu.why_missing()), reason="no compiled CPU kernels")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", SCAN_CASES, ids=str)
def test_scan_agrees_with_the_reference(case: ScanCase, layout: str) -> None:
    assert_scan_agrees(_cpu, case, torch.float32, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CONV_CASES, ids=str)
def test_convolution_agrees_with_the_reference(case: ConvCase, layout: str) -> None:
    assert_conv_agrees(_cpu, case, torch.float32, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("case", SCAN_CASES, ids=str)
def test_scan_agrees_in_16_bits(case: ScanCase, dtype: torch.dtype, layout: str) -> None:
    assert_scan_agrees(_cpu, case, dtype, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("case", CONV_CASES, ids=str)
def test_convolution_agrees_in_16_bits(case: ConvCase, dtype: torch.dtype, layout: str) -> None:
    assert_conv_agrees(_cpu, case, dtype, layout)
