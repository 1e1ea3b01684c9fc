"""Run the kernels of the mutual prompter in Triton's interpreter and compare them with the layer in
float64, a line of JSON per case; a process of its own, with TRITON_INTERPRET=1."""

import copy
import json
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor

from rgbt_fusion import MutualPrompter
from rgbt_fusion.layers import mutual_prompter

TOLERANCE = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}


class Case(NamedTuple):
    """Sizes, type and options of a prompter."""

    tokens: int
    channels: int
    batch: int = 2
    dtype: torch.dtype = torch.float32
    strided: bool = False
    options: dict[str, Any] = {}  # noqa: RUF012


CASES = {
    "more than a tile": Case(33, 70),
    "float16": Case(20, 40, dtype=torch.float16),
    "bfloat16": Case(9, 33, dtype=torch.bfloat16),
    "no sigmoid": Case(20, 17, options={"gate": "none"}),
    "no fovea, linear form": Case(20, 17, options={"fovea_scale": None, "form": "linear"}),
    "one token of one channel": Case(1, 1),
    "slices of wider tensors": Case(20, 17, strided=True),
    "channels not side by side": Case(20, 17, strided=True, batch=1),
}


def error_of(case: Case, *, history: bool) -> float:
    """Return the largest error over the largest value of both prompts."""
    torch.manual_seed(0)
    prompter = MutualPrompter(case.tokens, history=history, **case.options).to(case.dtype)
    streams = [_stream(case) for _ in range(4)]
    calls = []
    previous = tuple(streams[2:]) if history else None
    with torch.no_grad():
        with mock.patch.object(
            mutual_prompter, "mutual_prompts", wraps=mutual_prompter.mutual_prompts
        ) as launched:
            got = prompter(*streams[:2], previous)
        if launched.call_count != 1:
            raise AssertionError("the kernels did not run")
        exact = [x.double() for x in streams]
        with mock.patch.object(mutual_prompter, "can_fuse_prompts", lambda *_: False):
            oracle = copy.deepcopy(prompter).double()
            want = oracle(*exact[:2], tuple(exact[2:]) if history else None)
    for ours, theirs in zip(got, want, strict=True):
        calls.append(((ours.double() - theirs).abs().max() / theirs.abs().max()).item())
    return max(calls)


def _stream(case: Case) -> Tensor:
    shape = (case.batch, case.tokens, case.channels)
    if not case.strided:
        return (2 * torch.randn(shape)).to(case.dtype)
    if case.batch == 1:
        return torch.randn(case.batch, case.channels, case.tokens).to(case.dtype).mT
    return torch.randn(case.batch, case.tokens + 3, 2 * case.channels).to(case.dtype)[
        :, 1:-2, case.channels :
    ]


def main() -> None:
    """Print for each case its error and what is allowed."""
    for name, case in CASES.items():
        for history in (False, True):
            error = error_of(case, history=history)
            print(json.dumps([name, history, error, TOLERANCE[case.dtype]]), flush=True)


if __name__ == "__main__":
    main()
