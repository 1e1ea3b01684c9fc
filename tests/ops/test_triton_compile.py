"""The machine code of the Triton kernels, compiled without a card: nothing spills in the loops, and
they stay short.

A slower kernel shows here as more instructions for each state-element. The figures of all cases,
also those that are not held to anything, are in ``benchmarks/notes_triton_kernel.md``.
"""

from functools import cache
from itertools import product

import pytest

pytest.importorskip("triton", minversion="3.3", reason="Triton is not installed")

from ops import triton_offline
from ops.triton_offline import AMD, Card, Case, Code, compile_launch, launches_of

FORWARD, BACKWARD = {80: 15, 89: 15, 90: 13}, {80: 45, 89: 45, 90: 40}
"""Instructions in the loops for each state-element, at most; the inputs are bfloat16 and have 16
states."""
MOST_STACK = 8
"""Bytes. Triton 3.7 spills two registers of the backward pass, outside the loops; 3.9 none."""
LAUNCHES = {
    "few programs": ("scan forward", Case(), FORWARD),
    "many programs": ("scan forward", Case(multiprocessors=0), FORWARD),
    "chunks": ("scan forward", Case(multiprocessors=100), FORWARD),
    "backward": ("scan backward", Case(), BACKWARD),
    "ordered backward": ("scan backward", Case(segments=12), BACKWARD),
}
missing = [
    tool
    for tool in ("cuobjdump", "nvdisasm", "ptxas")
    if not (triton_offline.TOOLS / tool).is_file()
]
needs_tools = pytest.mark.skipif(bool(missing), reason=f"Triton came without {', '.join(missing)}")


@cache
def compiled(name: str, card: Card) -> Code:
    op, case, _ = LAUNCHES[name]
    launches = launches_of(case, op, 64 if card == AMD else 32)
    return compile_launch(launches[f"scan_{op.split()[1]}"], card)


@needs_tools
@pytest.mark.parametrize(
    ("name", "card"),
    [
        *product(("few programs", "many programs", "chunks", "backward"), (80, 90)),
        *product(("many programs", "backward"), (89,)),
    ],
)
def test_the_loops_are_short_and_nothing_spills_in_them(name, card):
    code = compiled(name, card)
    assert code.stack <= MOST_STACK
    assert code.per_element("LDL") == code.per_element("STL") == 0
    assert 1 < code.per_element() <= LAUNCHES[name][2][card]


@needs_tools
def test_an_order_costs_the_loops_nothing():
    """Two to four registers are spilled, but outside the loops."""
    code = compiled("ordered backward", 90)
    assert code.stack <= 16
    assert code.per_element("LDL") == code.per_element("STL") == 0
    assert 1 < code.per_element() <= BACKWARD[90]


@needs_tools
def test_the_work_of_the_loops_is_where_it_was_counted():
    """An exponential for every state-element, 3 more for every token: else the wrong loops were
    counted."""
    assert 1 < compiled("few programs", 90).per_element("MUFU") < 1.25
    assert compiled("few programs", 90).per_element("FFMA") > 2


@needs_tools
def test_sums_take_no_shuffles_and_no_atomics():
    """Sums cross lanes through shared memory, once in a few steps, and programs in a fixed
    order."""
    for name in LAUNCHES:
        code = compiled(name, 90)
        assert code.per_element("SHFL") == 0
        assert not {"ATOM", "ATOMG", "RED", "REDG"} & code.names


@pytest.mark.parametrize("name", ["many programs", "backward"])
def test_amd_cards_use_no_scratch(name):
    assert compiled(name, AMD).stack == 0
