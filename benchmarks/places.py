"""Time what a layer costs elsewhere: AnyPlace on maps and pyramids, and N streams with a mask.

Each group runs interleaved in one process on one thread, forward, float32. A ratio is the median
CPU time of a contender over that of the first one of its group, which does the same work on the
layer itself.

    python benchmarks/places.py
"""

import argparse
from collections.abc import Callable

import torch
from torch import Tensor

from rgbt_fusion import DFM, MAF, TPI, AnyPlace, MultiStreamFusion, MultiStreamPrompter
from rgbt_fusion import MutualPrompter as Prompter
from rgbt_fusion.benchmarking.timing import Effort, interleave

Calls = dict[str, Callable[[], object]]

LEVELS = ((64, 32, 32), (128, 16, 16), (256, 8, 8))
"""Channels, height and width of the levels of a pyramid."""


def tokens_of(maps: Tensor) -> Tensor:
    """Return maps as tokens that lie in memory as tokens do."""
    return maps.flatten(2).mT.contiguous()


def on_maps() -> Calls:
    """Return a layer on tokens, and the same one on maps."""
    layer = DFM(768).eval()
    place = AnyPlace(layer)
    rgb, tir = torch.randn(2, 1, 768, 16, 20)
    rgb_tokens, tir_tokens = tokens_of(rgb), tokens_of(tir)
    return {
        "DFM on 320 tokens": lambda: layer(rgb_tokens, tir_tokens),
        "AnyPlace(DFM) on maps 16 x 20": lambda: place(rgb, tir),
    }


def on_pyramids() -> Calls:
    """Return three layers on the tokens of three levels, and the same on a pyramid of maps."""
    layers = [DFM(channels).eval() for channels, _, _ in LEVELS]
    place = AnyPlace(layers)
    rgb = [torch.randn(1, *level) for level in LEVELS]
    tir = [torch.randn(1, *level) for level in LEVELS]
    pairs = [(tokens_of(a), tokens_of(b)) for a, b in zip(rgb, tir, strict=True)]
    return {
        "three DFM on tokens": lambda: [
            layer(*pair) for layer, pair in zip(layers, pairs, strict=True)
        ],
        "AnyPlace([DFM, DFM, DFM]) on a pyramid": lambda: place(rgb, tir),
    }


def on_tokens() -> Calls:
    """Return a layer on maps, and the same one on tokens."""
    layer = TPI(768).eval()
    place = AnyPlace(layer, grid=(16, 16))
    rgb, tir = torch.randn(2, 1, 768, 16, 16)
    rgb_tokens, tir_tokens = tokens_of(rgb), tokens_of(tir)
    return {
        "TPI on maps 16 x 16": lambda: layer(rgb, tir),
        "AnyPlace(TPI) on 256 tokens": lambda: place(rgb_tokens, tir_tokens),
    }


def prompters() -> Calls:
    """Return the prompter of two streams, and that of any number."""
    pair, many = Prompter(320).eval(), MultiStreamPrompter(320).eval()
    streams, history = torch.randn(2, 1, 3, 320, 768)
    two, before = streams[:, :2], history[:, :2]
    rgb, tir = streams[:, 0], streams[:, 1]
    earlier = (history[:, 0], history[:, 1])
    return {
        "MutualPrompter, two streams": lambda: pair(rgb, tir, earlier),
        "MultiStreamPrompter, two streams": lambda: many(two, before),
        "MultiStreamPrompter, two streams, mask": lambda: many(two, before, _present(2)),
        "MultiStreamPrompter, three streams, mask": lambda: many(streams, history, _present(3)),
    }


def blends() -> Calls:
    """Return the blend of two maps, and that of any number."""
    pair, two_streams = MAF(8).eval(), MultiStreamFusion(8, 2).eval()
    three_streams = MultiStreamFusion(8, 3).eval()
    streams = torch.randn(1, 3, 8, 16, 16)
    two = streams[:, :2]
    return {
        "MAF, two maps": lambda: pair(*two.unbind(1)),
        "MultiStreamFusion, two maps": lambda: two_streams(two),
        "MultiStreamFusion, two maps, mask": lambda: two_streams(two, _present(2)),
        "MultiStreamFusion, three maps, mask": lambda: three_streams(streams, _present(3)),
    }


def _present(count: int) -> Tensor:
    """Return a mask of one sample that has every stream: nothing is saved by what is absent."""
    return torch.ones(1, count, dtype=torch.bool)


GROUPS = (on_maps, on_pyramids, on_tokens, prompters, blends)


def main() -> None:
    """Print the milliseconds of every contender and its ratio to the first one of its group."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--budget", type=float, default=3.0, help="Seconds per contender.")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    effort = Effort(rounds=options.rounds, budget_s=options.budget)
    with torch.no_grad():
        for group in GROUPS:
            times = {name: clocks.cpu_ms for name, clocks in interleave(group(), effort).items()}
            first = next(iter(times.values())).median
            for name, taken in times.items():
                quartiles = f"{taken.q1:.3f} to {taken.q3:.3f}"
                print(
                    f"{name:42s} {taken.median:8.3f} ms ({quartiles})  {taken.median / first:.2f}"
                )


if __name__ == "__main__":
    main()
