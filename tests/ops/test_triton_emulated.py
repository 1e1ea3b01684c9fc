"""The compiled kernels on cards that do not exist, sm_80, sm_90 and sm_100, against float64.

What is compiled is what a card would get; ``ops.ptx`` executes it and watches its memory, lanes and
programs. The whole grid runs where ``RGBT_FUSION_EMULATED`` is ``all``.
"""

import contextlib
import os
import re
from collections.abc import Callable

import pytest
import torch

pytest.importorskip("triton", minversion="3.3", reason="Triton is not installed")

import triton
import triton.language as tl

from ops import triton_interpreted
from ops.agreement import ALL_OPTIONS, TOKENS, ConvCase, ScanCase
from ops.ptx.card import emulated_card
from ops.triton_interpreted import BRAIN, FLOAT, HALF, Run, scan

CARDS = (80, 90, 100)
EVERYTHING = os.environ.get("RGBT_FUSION_EMULATED") == "all"

SCAN = Run(scan("16 states, batch of 2", 66, 17, 16, batch=2), BRAIN)
CONVOLUTION = Run(ConvCase("two tiles of channels", 9, 130))
RUNS = (
    (80, SCAN),
    (80, Run(scan("wide tiles, the last not full", 5, 90, 16), FLOAT, multiprocessors=0)),
    (80, Run(scan("8 states, channel-major", 65, 64, 8), HALF, "channel")),
    (80, Run(scan("3 states", 7, 40, 3))),
    (80, CONVOLUTION),
    (80, Run(ConvCase("segments of 12", 24, 17, directions=3, order=(3, 2, 2)), BRAIN)),
    (90, Run(scan("one of everything", 1, 1, 1, options=frozenset()))),
    (90, Run(scan("two chunks in segments of 6", 66, 20, 4, order=(1, 1, 11)))),
    (90, Run(scan("three chunks of 12 states", 131, 33, 12), BRAIN, multiprocessors=8)),
    (90, Run(scan("dt 1e-6 to 20", 127, 17, 8, dt=(1e-6, 20.0)), multiprocessors=0)),
    (90, Run(scan("strided", 65, 17, 16), HALF, "strided")),
    (90, Run(scan("merged", 12, 10, 8, order=(3, 2, 4), directions=3, merge=True, shared=TOKENS))),
    (90, Run(ConvCase("stretches", 65, 5, batch=1))),
    (90, Run(ConvCase("3 taps, strided", 9, 17, 3), HALF, "strided")),
    (100, Run(scan("5 states in segments of 3", 9, 17, 5, order=(1, 1, 3)))),
    (100, Run(scan("64 states", 6, 17, 64), BRAIN)),
    (100, Run(scan("groups of 5 channels", 65, 10, 5, groups=2), FLOAT, "channel")),
    (100, Run(scan("two chunks, one state", 68, 130, 1, options=ALL_OPTIONS))),
    (100, Run(ConvCase("segments shorter than the taps", 8, 5, order=(1, 2, 4)))),
    (100, Run(ConvCase("channel-major", 65, 130, bias=False), BRAIN, "channel")),
)
"""What every run of the tests asks, each on one card."""

DFM = ScanCase("a scan of DFM", 320, 768, 16, batch=1, options=ALL_OPTIONS)
"""A real shape: the tokens of a template and a search region, and a ViT-B's channels."""


def grid() -> list[tuple[int, Run]]:
    runs = [run for _, run in RUNS]
    runs += triton_interpreted.runs(everything=True)
    return [(card, run) for card in CARDS for run in dict.fromkeys(runs)]


@pytest.mark.parametrize(
    ("capability", "run"),
    [*(grid() if EVERYTHING else RUNS), (90, Run(DFM, BRAIN, multiprocessors=132))],
    ids=str,
)
def test_the_compiled_kernels_agree_with_float64_and_nothing_is_wrong_with_them(capability, run):
    with emulated_card(capability) as card:
        run.check()
    assert card.launches
    assert not list(map(str, card.findings()))


Change = Callable[[str], str]


def _without_clamps(listing: str) -> str:
    """Lanes past the last channel take their own number in place of the last channel's."""
    return re.sub(r"min\.s32 (\s*%r\d+, %r\d+), %r\d+;", r"mov.b32 \1;", listing)


def _without_masks(listing: str) -> str:
    """Every lane stores."""
    return re.sub(r"@%p\d+ (st\.global)", r"\1", listing)


def _without_barriers(listing: str) -> str:
    return re.sub(r"(?m)^\s*bar\.(warp\.)?sync.*$", "", listing)


def _without_scratch(listing: str) -> str:
    """States that are kept within a block are not."""
    return re.sub(r"(?m)^\s*st\.global\.v4.*$", "", listing)


@pytest.mark.parametrize(
    ("change", "run", "kinds"),
    [
        (_without_clamps, SCAN, {"read outside"}),
        (_without_masks, CONVOLUTION, {"write outside", "race between programs"}),
        (_without_barriers, SCAN, {"race between lanes"}),
        (_without_scratch, SCAN, {"unwritten"}),
    ],
    ids=["no clamps", "no masks", "no barriers", "no scratch"],
)
def test_a_kernel_that_lacks_something_is_found_out(change: Change, run: Run, kinds: set[str]):
    """The same kernels as compiled pass above."""
    # Whether the numbers still agree is not the question.
    with emulated_card(80, change=change) as card, contextlib.suppress(AssertionError):
        run.check()
    assert kinds <= {finding.kind for finding in card.findings()}


@triton.jit
def _copy(x, y, n, SIZE: tl.constexpr, LAST: tl.constexpr):
    """Copy n elements, or one too many."""
    i = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    value = tl.load(x + i, mask=i < n)
    tl.store(y + i, value, mask=i < n + LAST)


@pytest.mark.parametrize("warps", [1, 4])
def test_a_mask_that_is_off_by_one_is_found(warps: int):
    x, y = torch.arange(200.0), torch.zeros(200)
    with emulated_card(90) as card:
        _copy[(2,)](x, y, 200, SIZE=128, LAST=0, num_warps=warps, enable_fp_fusion=True)
    assert torch.equal(x, y)
    assert not card.findings()
    with emulated_card(90) as card:
        _copy[(2,)](x, y, 200, SIZE=128, LAST=1, num_warps=warps, enable_fp_fusion=True)
    assert [finding.kind for finding in card.findings()] == ["write outside"]


def test_a_store_beside_a_view_is_found():
    x, wide = torch.arange(200.0), torch.zeros(300)
    with emulated_card(90) as card:
        _copy[(2,)](x, wide[:200], 200, SIZE=128, LAST=1, num_warps=1, enable_fp_fusion=True)
    assert [finding.kind for finding in card.findings()] == ["write beside"]


def test_memory_counts_as_unwritten_until_somebody_writes_it():
    y = torch.zeros(128)
    with emulated_card(90) as card:
        x = torch.empty(128)
        _copy[(1,)](x, y, 128, SIZE=128, LAST=0, num_warps=1, enable_fp_fusion=True)
        assert [finding.kind for finding in card.findings()] == ["unwritten"]
        assert y.isnan().all()
        card.launches.clear()
        _copy[(1,)](y, x, 128, SIZE=128, LAST=0, num_warps=1, enable_fp_fusion=True)
        _copy[(1,)](x, y, 128, SIZE=128, LAST=0, num_warps=1, enable_fp_fusion=True)
        _copy[(1,)](
            x.new_empty(128).fill_(1.0),
            y,
            128,
            SIZE=128,
            LAST=0,
            num_warps=1,
            enable_fp_fusion=True,
        )
        assert not card.findings()
