"""The compiled kernels of layers, the mutual prompter's and the DFM's, on cards that do not exist.

The emulator of ``ops.ptx`` executes what a card would get and watches memory, lanes and programs.
All cases run where ``RGBT_FUSION_EMULATED`` is ``all``.
"""

import copy
import os
import re
from typing import NamedTuple
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("triton", minversion="3.3", reason="Triton is not installed")

from ops.prompts_interpreted import CASES, TOLERANCE, error_of
from ops.ptx.card import emulated_card
from rgbt_fusion import DFM
from rgbt_fusion.layers import difference_fusion_mamba, mutual_prompter
from rgbt_fusion.models import tpmri
from rgbt_fusion.ops.triton import maps, prompts, streams

CARDS = (80, 90, 100)
EVERYTHING = os.environ.get("RGBT_FUSION_EMULATED") == "all"

PROMPTS = [
    (80, "no sigmoid", False),
    (90, "no fovea, linear form", False),
    (90, "float16", False),
    (100, "slices of wider tensors", True),
]
if EVERYTHING:
    PROMPTS = [
        (card, name, history) for card in CARDS for name in CASES for history in (False, True)
    ]


def direct_prompts(*arguments):
    """Launch outside of the registered op, which would hide fresh memory from the emulator."""
    *given, sigmoid = arguments
    return prompts.mutual_prompts(*given, sigmoid=sigmoid)


@pytest.mark.parametrize(("capability", "name", "history"), PROMPTS)
def test_the_prompters_kernels_agree_with_the_layer(capability, name, history):
    case = CASES[name]
    with (
        mock.patch.object(mutual_prompter, "can_fuse_prompts", lambda *_: True),
        mock.patch.object(mutual_prompter, "mutual_prompts", direct_prompts),
        emulated_card(capability) as card,
    ):
        assert error_of(case, history=history) <= TOLERANCE[case.dtype]
    assert len(card.launches) == 4
    assert not list(map(str, card.findings()))


class Exchange(NamedTuple):
    """Sizes and type of the streams of a DFM."""

    length: int
    channels: int
    batch: int = 1
    skipped: int = 0
    dtype: torch.dtype = torch.float32
    strided: bool = False

    def streams(self) -> list[Tensor]:
        """Return RGB, TIR and the gate in front of its tanh."""
        torch.manual_seed(0)
        wide = torch.randn(3, self.batch, self.length, 2 * self.channels)
        return [
            (3 * x)[..., : self.channels].to(self.dtype)
            if self.strided
            else (3 * x)[..., : self.channels].contiguous().to(self.dtype)
            for x in wide
        ]


EXCHANGES = [
    (80, Exchange(3, 17, batch=2, skipped=1)),
    (80, Exchange(1, 1)),
    (90, Exchange(3, 33, batch=2, strided=True)),
    (90, Exchange(4, 130, skipped=2, dtype=torch.float16)),
    (100, Exchange(2, 40, skipped=2, dtype=torch.bfloat16)),
]
if EVERYTHING:
    sizes = [case for _, case in EXCHANGES]
    sizes += [
        Exchange(5, 768, skipped=2, dtype=torch.float16),
    ]
    EXCHANGES = [(card, case) for card in CARDS for case in sizes]


def direct(function):
    """Give a layer the launching function in place of the registered op."""
    name = function.__name__
    return mock.patch.object(difference_fusion_mamba, name, function)


@pytest.mark.parametrize(("capability", "case"), EXCHANGES, ids=str)
def test_the_exchange_of_a_dfm_agrees_with_the_layer(capability, case):
    rgb, tir, gate = case.streams()
    dfm = DFM(case.channels, d_state=4).to(case.dtype)
    nn.init.normal_(dfm.norm.weight)
    nn.init.normal_(dfm.norm.bias)
    oracle = copy.deepcopy(dfm).double()
    with torch.no_grad():
        # what stands between both kernels has tests of its own
        with mock.patch.object(DFM, "_gate", lambda dfm, difference, scan: gate.double()):
            want = oracle.exchange(rgb.double(), tir.double(), skipped=case.skipped)
        seen = []
        with (
            mock.patch.object(DFM, "_can_fuse", lambda *_: True),
            mock.patch.object(
                DFM, "_gate", lambda dfm, difference, _: seen.append(difference) or gate
            ),
            direct(streams.exchange),
            direct(streams.normed_difference),
            emulated_card(capability) as card,
        ):
            got = dfm.exchange(rgb, tir, skipped=case.skipped)
        assert len(card.launches) == 2
        assert not list(map(str, card.findings()))
        pairs = [*zip(got, want, strict=True)]
        pairs.append((seen[0], oracle.norm(rgb.double() - tir.double())))
    for ours, theirs in pairs:
        assert ours.shape == theirs.shape
        if theirs.numel():
            error = (ours.double() - theirs).abs().max() / theirs.abs().max()
            assert error <= TOLERANCE[case.dtype]


def test_a_kernel_that_stores_every_lane_is_found_out():
    case = Exchange(3, 17)

    def without_masks(listing: str) -> str:
        return re.sub(r"@%p\d+ (st\.global)", r"\1", listing)

    with torch.no_grad(), emulated_card(90, change=without_masks) as card:
        streams.exchange(*case.streams(), 0)
    assert {finding.kind for finding in card.findings()} >= {"write outside"}


def test_the_layer_exchanges_alike_where_the_kernels_cannot_run():
    rgb, tir, _ = Exchange(6, 8, batch=2).streams()
    dfm = DFM(8, d_state=4)
    with torch.no_grad():
        tokens, joined = dfm.exchange(rgb, tir, skipped=2)
        enhanced = dfm(rgb, tir)
        assert torch.equal(tokens, torch.cat((enhanced.rgb, enhanced.tir)))
        assert torch.equal(dfm.join_pairs(joined), enhanced.fused[:, 2:])


MAPS = [(90, (5, 18), 2, torch.float32), (100, (4, 9), 1, torch.float16)]
if EVERYTHING:
    MAPS = [
        (card, lengths, batch, dtype)
        for card in CARDS
        for lengths, batch in (((5, 18), 2), ((1, 1), 1), ((16, 64), 1), ((40, 3), 1))
        for dtype in TOLERANCE
    ]


@pytest.mark.parametrize(("capability", "lengths", "batch", "dtype"), MAPS)
def test_the_maps_of_a_prompt_layer_agree_with_the_layer(capability, lengths, batch, dtype):
    torch.manual_seed(0)
    layer = _prompt_layer(lengths[0]).to(dtype)
    size = (batch, sum(lengths), 20)
    x, y = ((2 * torch.randn(size)).to(dtype) for _ in range(2))
    # what baddbmm adds to the tokens: nothing to their first copy
    x[..., 8:16] = x[..., :8]
    y[..., :8] = 0
    masks = (tpmri._apart(*lengths).double(), tpmri._shares(*lengths).double())
    with torch.no_grad():
        oracle = copy.deepcopy(layer).double()
        want = oracle._fused(x.double(), y.double(), oracle.prepare(), *masks)
        with (
            mock.patch.object(tpmri, "can_fuse_maps", lambda *_: True),
            mock.patch.object(tpmri, "prompt_maps", maps.prompt_maps),
            emulated_card(capability) as card,
        ):
            got = layer._fused(x, y, layer.prepare(), *masks)
    assert len(card.launches) == 1
    assert not list(map(str, card.findings()))
    assert (got.double() - want).abs().max() <= TOLERANCE[dtype] * want.abs().max()


def _prompt_layer(template_length: int) -> nn.Module:
    return tpmri._PromptLayer(
        12,
        tmr=False,
        history=False,
        cmi="tir_to_rgb",
        maf="global",
        detach_history=True,
        template_length=template_length,
    )
