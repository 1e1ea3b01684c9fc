"""The emulator itself: what instructions compute, and that it finds each kind of mistake.

Every mistake stands beside the same kernel without it, in which nothing is found.
"""

import numpy as np
import pytest
from numpy.typing import NDArray

from ops.ptx.arithmetic import Unsupported
from ops.ptx.machine import Machine, Program
from ops.ptx.memory import EXISTS, MAY_BE_WRITTEN, WRITTEN, Memory
from ops.ptx.parsing import Address, parse

IN, OUT = 4096, 8192
"""Where the two arrays of a kernel start; each has a word per thread."""

LISTING = """
.visible .entry kernel(
    .param .u64 .ptr .global .align 1 input,
    .param .u64 .ptr .global .align 1 output,
    .param .u32 n
)
{
    ld.param.b64 %rd1, [input];
    ld.param.b64 %rd2, [output];
    ld.param.b32 %r1, [n];
    mov.u32 %r2, %tid.x;
    mov.u32 %r3, %ctaid.x;
    mad.lo.s32 %r4, %r3, 32, %r2;
    mul.wide.s32 %rd3, %r4, 4;
    add.s64 %rd4, %rd1, %rd3;
    add.s64 %rd5, %rd2, %rd3;
    BODY
    ret;
}
"""
"""Thread, program and index of an element are %r2, %r3 and %r4; its addresses %rd4 and %rd5."""


def launch(
    body: str, *, n: int = 0, programs: int = 1, warps: int = 1, unwritten: bool = False
) -> tuple[Machine, NDArray[np.uint32]]:
    """Run a kernel on ``0, 1, 2, ...``; return the launch and what it wrote."""
    program = Program.of(parse(LISTING.replace("BODY", body)))
    memory = Memory("global", 3 * 4096, program.granule)
    size = 4 * 32 * programs * warps
    for start, state in ((IN, EXISTS | WRITTEN), (OUT, EXISTS | MAY_BE_WRITTEN)):
        if start == IN and unwritten:
            state = EXISTS
        memory.state[start // program.granule : (start + size) // program.granule] = state
    memory.bytes[IN : IN + size] = np.arange(size // 4, dtype=np.uint32).view(np.uint8)
    machine = Machine(
        program,
        {"input": IN, "output": OUT, "n": n},
        memory,
        grid=(programs, 1, 1),
        lanes=32 * warps,
        shared_bytes=128 * warps,
    )
    machine.run()
    return machine, memory.bytes[OUT : OUT + size].view(np.uint32)


def found(body: str, **options: int) -> list[str]:
    """Return the kinds of what is found, in order."""
    machine, _ = launch(body, **options)
    return sorted({finding.kind for finding in machine.findings})


def bits(x: float) -> str:
    return f"0f{np.float32(x).view(np.uint32):08X}"


NAN = "0f7FC00000"
COMPUTED = [
    # integers
    ("add.s32 %r9, 2147483647, 1;", -(2**31)),
    ("sub.s32 %r9, 3, 5;", -2),
    ("mul.lo.s32 %r9, 65536, 65537;", 65536),
    ("mul.hi.u32 %r9, -1, 4;", 3),
    ("mul.hi.s32 %r9, -2, 4;", -1),
    ("mul.wide.s32 %rd9, -3, 5; cvt.u32.u64 %r9, %rd9;", -15),
    ("mul.wide.u32 %rd9, -1, 2; shr.u64 %rd9, %rd9, 32; cvt.u32.u64 %r9, %rd9;", 1),
    ("mad.lo.s32 %r9, 3, 4, 5;", 17),
    ("mov.b64 %rd8, -100; mad.wide.s32 %rd9, -3, 5, %rd8; cvt.u32.u64 %r9, %rd9;", -115),
    ("div.s32 %r9, -7, 2;", -3),
    ("rem.s32 %r9, -7, 2;", -1),
    ("div.u32 %r9, -1, 2;", 2**31 - 1),
    ("min.s32 %r9, -1, 1;", -1),
    ("min.u32 %r9, -1, 1;", 1),
    ("max.s32 %r9, -1, 1;", 1),
    ("neg.s32 %r9, 7;", -7),
    ("abs.s32 %r9, -7;", 7),
    ("popc.b32 %r9, 255;", 8),
    ("not.b32 %r9, 0;", -1),
    ("xor.b32 %r9, 6, 3;", 5),
    ("shl.b32 %r9, 3, 4;", 48),
    ("shl.b32 %r9, 3, 32;", 0),
    ("shr.u32 %r9, -1, 28;", 15),
    ("shr.s32 %r9, -16, 2;", -4),
    ("shr.s32 %r9, -16, 40;", -1),
    ("bfe.u32 %r9, 0xABCD, 4, 8;", 0xBC),
    ("bfe.s32 %r9, 0xABCD, 4, 8;", 0xBC - 256),
    ("prmt.b32 %r9, 0x33221100, 0x77665544, 0x7050;", 0x77005500),
    ("prmt.b32 %r9, 0x33221180, 0x77665544, 0x7708U;", 0x777780FF),
    # choices
    ("setp.lt.s32 %p1, -1, 1; selp.b32 %r9, 5, 6, %p1;", 5),
    ("setp.lo.u32 %p1, -1, 1; selp.b32 %r9, 5, 6, %p1;", 6),
    (f"setp.lt.f32 %p1, {NAN}, {bits(1)}; selp.b32 %r9, 5, 6, %p1;", 6),
    (f"setp.geu.f32 %p1, {NAN}, {bits(1)}; selp.b32 %r9, 5, 6, %p1;", 5),
    (f"setp.ne.f32 %p1, {NAN}, {bits(1)}; selp.b32 %r9, 5, 6, %p1;", 6),
    ("mov.pred %p1, -1; not.pred %p2, %p1; selp.b32 %r9, 5, 6, %p2;", 6),
    ("mov.pred %p1, 0; mov.b32 %r9, 1; @%p1 mov.b32 %r9, 2;", 1),
    ("mov.pred %p1, 0; mov.b32 %r9, 1; @!%p1 mov.b32 %r9, 2;", 2),
    # floats
    (f"add.f32 %r9, {bits(0.5)}, {bits(0.25)};", 0.75),
    (f"fma.rn.f32 %r9, {bits(1 + 2**-12)}, {bits(1 + 2**-12)}, {bits(-1 - 2**-11)};", 2.0**-24),
    (f"max.f32 %r9, {NAN}, {bits(2)};", 2.0),
    (f"div.full.f32 %r9, {bits(1)}, {bits(8)};", 0.125),
    (f"ex2.approx.ftz.f32 %r9, {bits(-3)};", 0.125),
    (f"ex2.approx.ftz.f32 %r9, {bits(-127)};", 0.0),
    (f"abs.f32 %r9, {bits(-3)};", 3.0),
    (
        f"mov.b64 %rd9, {{{bits(1)}, {bits(2)}}}; fma.rn.f32x2 %rd9, %rd9, %rd9, %rd9; "
        "mov.b64 {_, %r9}, %rd9;",
        6.0,
    ),
    # conversions
    ("mov.b16 %rs1, 0xFFFE; cvt.s32.s16 %r9, %rs1;", -2),
    ("mov.b16 %rs1, 0xFFFE; cvt.u32.u16 %r9, %rs1;", 0xFFFE),
    ("cvt.rn.f32.s32 %r9, -3;", -3.0),
    (f"cvt.rzi.s32.f32 %r9, {bits(-2.7)};", -2),
    (f"cvt.rn.bf16.f32 %rs1, {bits(1 + 2**-8)}; cvt.u32.u16 %r9, %rs1;", 0x3F80),
    (f"cvt.rn.bf16.f32 %rs1, {bits(1 + 3 * 2**-8)}; cvt.u32.u16 %r9, %rs1;", 0x3F82),
    (f"cvt.rn.f16.f32 %rs1, {bits(1.5)}; cvt.f32.f16 %r9, %rs1;", 1.5),
    (f"cvt.rn.bf16x2.f32 %r9, {bits(1)}, {bits(2)};", 0x3F804000),
    ("mov.b16 %rs1, 0x3F80; cvt.f32.bf16 %r9, %rs1;", 1.0),
    (f"mov.b16 %rs1, 0x3F80; add.rn.f32.bf16 %r9, %rs1, {bits(2)};", 3.0),
    # halves
    ("mov.b32 %r8, 0x00050003; mov.b32 {%rs1, %rs2}, %r8; cvt.u32.u16 %r9, %rs2;", 5),
    ("mov.b16 %rs1, 7; mov.b16 %rs2, 1; mov.b32 %r9, {%rs1, %rs2};", 0x10007),
]


@pytest.mark.parametrize(("body", "want"), COMPUTED, ids=[body for body, _ in COMPUTED])
def test_an_instruction_computes_what_the_manual_says(body, want):
    machine, out = launch(f"{body} st.global.b32 [%rd5], %r9;")
    dtype = np.float32 if isinstance(want, float) else np.int32
    assert out.view(dtype).tolist() == [want] * 32
    assert not list(machine.findings)


@pytest.mark.parametrize(
    ("shuffle", "want"),
    [
        ("idx.b32 %r9, %r2, 3, 31, -1", [3] * 32),
        ("bfly.b32 %r9, %r2, 16, 31, -1", [i ^ 16 for i in range(32)]),
        ("up.b32 %r9, %r2, 2, 0, -1", [0, 1, *range(30)]),
        ("down.b32 %r9, %r2, 2, 31, -1", [*range(2, 32), 30, 31]),
    ],
)
def test_shuffles_read_other_lanes(shuffle, want):
    _, out = launch(f"shfl.sync.{shuffle}; st.global.b32 [%rd5], %r9;")
    assert out.tolist() == want


def test_matrices_go_through_shared_memory_as_they_came():
    """Lane l keeps two values of row l / 4; the rows lie where lanes 0 to 7 say, 16 bytes each."""
    _, out = launch(
        "shl.b32 %r5, %r2, 4; and.b32 %r5, %r5, 127; "
        "stmatrix.sync.aligned.m8n8.x1.shared.b16 [%r5], {%r2}; bar.sync 0; "
        "shl.b32 %r6, %r2, 2; ld.shared.b32 %r9, [%r6]; st.global.b32 [%rd5], %r9;"
    )
    assert out.tolist() == list(range(32))
    _, out = launch(
        "shl.b32 %r6, %r2, 2; st.shared.b32 [%r6], %r2; bar.sync 0; "
        "xor.b32 %r7, %r2, 7; shl.b32 %r5, %r7, 4; and.b32 %r5, %r5, 127; "
        "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r9}, [%r5]; st.global.b32 [%rd5], %r9;"
    )
    assert out.tolist() == [4 * (7 - i // 4) + i % 4 for i in range(32)]


def test_transposed_matrices_come_column_by_column():
    """Value ``(row, column)`` is ``8 row + column``; lane l has column l / 4, two rows of it."""
    _, out = launch(
        "mad.lo.s32 %r7, %r2, 131074, 65536; shl.b32 %r6, %r2, 2; st.shared.b32 [%r6], %r7; "
        "bar.sync 0; shl.b32 %r5, %r2, 4; and.b32 %r5, %r5, 127; "
        "ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%r9}, [%r5]; st.global.b32 [%rd5], %r9;"
    )
    first = [16 * (lane % 4) + lane // 4 for lane in range(32)]
    assert (out & 0xFFFF).tolist() == first
    assert (out >> 16).tolist() == [value + 8 for value in first]


def test_programs_that_walk_different_ways_all_arrive():
    """Program p turns p + 1 times."""
    machine, out = launch(
        "mov.b32 %r9, 0;\n$turn:\n add.s32 %r9, %r9, 1; setp.le.s32 %p1, %r9, %r3;\n"
        "@%p1 bra $turn;\n st.global.b32 [%rd5], %r9;",
        programs=4,
    )
    assert out.reshape(4, 32).tolist() == [[p + 1] * 32 for p in range(4)]
    assert not list(machine.findings)


SHARED = "shl.b32 %r5, %r2, 2; xor.b32 %r6, %r5, 124;"
"""Addresses in shared memory: one's own, and that of another lane."""

MISTAKES = {
    "read outside": (
        "ld.global.b32 %r9, [%rd4+128];",
        "setp.lt.s32 %p1, %r2, 0; mov.b32 %r9, 0; @%p1 ld.global.b32 %r9, [%rd4+128];",
    ),
    "write outside": (
        "st.global.b32 [%rd5+4], %r2;",
        "setp.lt.s32 %p1, %r2, 31; @%p1 st.global.b32 [%rd5+4], %r2;",
    ),
    "write beside": ("st.global.b32 [%rd4], %r2;", "st.global.b32 [%rd5], %r2;"),
    "misaligned": (
        "ld.global.v2.b32 {%r8, %r9}, [%rd1+4];",
        "ld.global.v2.b32 {%r8, %r9}, [%rd1+8];",
    ),
    "unwritten": (
        f"{SHARED} ld.shared.b32 %r9, [%r5];",
        f"{SHARED} st.shared.b32 [%r5], %r2; ld.shared.b32 %r9, [%r5];",
    ),
    "divergent branch": (
        "setp.lt.s32 %p1, %r2, 7;\n@%p1 bra $end;\n$end:",
        "setp.lt.s32 %p1, %r3, 7;\n@%p1 bra $end;\n$end:",
    ),
}
RACES = {
    "a lane reads what another wrote": (
        f"{SHARED} st.shared.b32 [%r5], %r2; BARRIER ld.shared.b32 %r9, [%r6];"
    ),
    "a lane writes what another read": (
        f"{SHARED} st.shared.b32 [%r5], %r2; ld.shared.b32 %r9, [%r5]; BARRIER "
        "st.shared.b32 [%r6], %r2;"
    ),
    "a lane writes what another wrote": (
        f"{SHARED} st.shared.b32 [%r5], %r2; BARRIER st.shared.b32 [%r6], %r2;"
    ),
    "several lanes read what one then writes": (
        f"{SHARED} mov.b32 %r7, 0; st.shared.b32 [%r5], %r2; bar.sync 0; "
        "ld.shared.b32 %r9, [%r7]; BARRIER setp.eq.b32 %p1, %r2, 31; "
        "@%p1 st.shared.b32 [%r7], %r2;"
    ),
    "a lane reads what another wrote to global memory": (
        "st.global.b32 [%rd5], %r2; BARRIER ld.global.b32 %r9, [%rd2];"
    ),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_found(kind):
    wrong, right = MISTAKES[kind]
    assert found(wrong) == [kind]
    assert found(right) == []


@pytest.mark.parametrize("name", RACES)
@pytest.mark.parametrize("barrier", ["bar.sync 0;", "bar.warp.sync -1;"])
def test_a_missing_barrier_is_found(name, barrier):
    assert found(RACES[name].replace("BARRIER", "")) == ["race between lanes"]
    assert found(RACES[name].replace("BARRIER", barrier)) == []


def test_a_barrier_of_warps_does_not_order_two_of_them():
    swap = SHARED.replace("124", "128") + RACES["a lane reads what another wrote"].removeprefix(
        SHARED
    )
    assert found(swap.replace("BARRIER", "bar.warp.sync -1;"), warps=2) == ["race between lanes"]
    assert found(swap.replace("BARRIER", "bar.sync 0;"), warps=2) == []


def test_lanes_that_write_one_place_must_agree():
    assert found("st.global.b32 [%rd2], %r2;") == ["race between lanes"]
    assert found("st.global.b32 [%rd2], %r3;") == []


@pytest.mark.parametrize(
    "body",
    [
        "st.global.b32 [%rd2], 7;",
        "st.global.b32 [%rd5], %r2; setp.eq.b32 %p1, %r3, 1; @%p1 st.global.b32 [%rd2], %r2;",
        "st.global.b32 [%rd5], %r2; ld.global.b32 %r9, [%rd2];",
    ],
    ids=["write and write", "write after another's write", "read after another's write"],
)
def test_programs_that_meet_are_found(body):
    assert "race between programs" in found(body, programs=2)
    assert "race between programs" not in found(body, programs=1)


def test_programs_that_meet_are_found_though_they_walk_apart():
    """Program 1 reads first, then both write what it read: no order of programs is assumed."""
    body = (
        "setp.eq.b32 %p1, %r3, 0;\n@%p1 bra $write;\n"
        "ld.global.b32 %r9, [%rd2];\nbra.uni $end;\n"
        "$write:\n st.global.b32 [%rd5], %r2;\n$end:"
    )
    assert "race between programs" in found(body, programs=2)


def test_memory_that_nothing_wrote_is_found():
    assert found("ld.global.b32 %r9, [%rd4];", unwritten=True) == ["unwritten"]
    assert found("ld.global.b32 %r9, [%rd4];") == []


def test_a_finding_says_where_and_who():
    machine, _ = launch(
        ".loc 1 12 9 // copy.py:12:9\nsetp.gt.s32 %p1, %r2, 4; @%p1 st.global.b32 [%rd5+4096], %r2;"
    )
    (finding,) = machine.findings
    assert str(finding) == (
        "write outside: no global memory, by lane 5 of program 0 in kernel, copy.py:12: "
        "@%p1 st.global.b32 [%rd5+4096], %r2"
    )


@pytest.mark.parametrize(
    "instruction",
    [
        "atom.global.add.u32 %r9, [%rd5], 1;",
        "cp.async.ca.shared.global [%r5], [%rd4], 16;",
        "add.rn.bf16x2 %r9, %r2, %r3;",
        "shfl.sync.idx.b32 %r9, %r2, 0, 7, -1;",
        "stmatrix.sync.aligned.m8n8.x1.trans.shared.b16 [%r5], {%r9};",
        "ldmatrix.sync.aligned.m16n16.x1.trans.shared.b8 {%r9, %r10}, [%r5];",
        "ld.local.b32 %r9, [%rd4];",
    ],
)
def test_what_the_emulator_does_not_know_is_refused(instruction):
    with pytest.raises(Unsupported, match="the emulator does not know"):
        launch(instruction)


def test_a_register_that_nothing_wrote_is_refused():
    with pytest.raises(ValueError, match="register %r99 is read before it is written"):
        launch("add.s32 %r9, %r99, 1;")


def test_a_listing_is_read():
    kernel = parse(
        LISTING.replace("BODY", "$here:\n @!%p1 ld.global.v2.b32 { %r1, %r2 }, [ %rd4 + 8 ];")
    )
    assert kernel.parameters == {"input": 8, "output": 8, "n": 4}
    assert kernel.labels == {"$here": 9}
    load = kernel.instructions[9]
    assert load.operands == (("%r1", "%r2"), Address("%rd4", 8))
    assert (load.guard, load.negated) == ("%p1", True)


def test_what_is_no_listing_is_refused():
    with pytest.raises(ValueError, match=r"has no \.entry"):
        parse("add.s32 %r1, %r2, %r3;")


def test_a_half_that_the_compiler_leaves_open_is_no_number():
    """It writes such a half where it reads the other one alone."""
    _, out = launch("cvt.u16.u32 %rs1, %r2; mov.b32 %r9, {%rs1, %rs2}; st.global.b32 [%rd5], %r9;")
    assert (out & 0xFFFF).tolist() == list(range(32))
    assert (out >> 16 == 0xFFFF).all()


def test_a_lane_whose_guard_was_shut_has_no_number():
    """A masked load without a value for the rest leaves those lanes open."""
    _, out = launch("setp.lt.s32 %p1, %r2, 4; @%p1 mov.b32 %r9, %r2; st.global.b32 [%rd5], %r9;")
    assert out[:4].tolist() == list(range(4))
    assert (out[4:] == 0xFFFFFFFF).all()
