"""The compiled kernels against the reference in float64, at every instruction set that this
processor has."""

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from ops.agreement import (
    CONV_CASES,
    LAYOUTS,
    SCAN_CASES,
    ConvCase,
    ScanCase,
    assert_conv_agrees,
    assert_scan_agrees,
    cancellation,
    make_conv_inputs,
    make_scan_inputs,
    relative_error,
    run_conv,
    run_scan,
)
from ops.guarded import CAN_FORBID, guarded
from rgbt_fusion.ops.inputs import CPU_CHECKPOINT_STEPS, ScanGradients, ScanInputs, ScanResults
from rgbt_fusion.ops.native import backend as native

HALVES = (torch.bfloat16, torch.float16)
GUARDED = guarded(at_end=True) if CAN_FORBID else native
NO_COMPILER = not any(shutil.which(name) for name in ("cc", "gcc", "clang"))

pytestmark = pytest.mark.skipif(
    bool(native.why_missing())
    and (NO_COMPILER or os.environ.get("RGBT_FUSION_EXPECT_NO_NATIVE") == "1"),
    reason="no compiled CPU kernels",
)


@pytest.fixture
def library() -> Iterator[native._Library]:
    """The loaded kernels; level, thread pool and thread count are put back afterwards."""
    loaded = native.loaded_library()
    level, pool, threads = loaded.level, loaded.parallel_for, torch.get_num_threads()
    yield loaded
    loaded.level, loaded.parallel_for = level, pool
    torch.set_num_threads(threads)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", SCAN_CASES, ids=str)
def test_scan_agrees_with_the_reference(case: ScanCase, layout: str) -> None:
    assert_scan_agrees(GUARDED, case, torch.float32, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CONV_CASES, ids=str)
def test_convolution_agrees_with_the_reference(case: ConvCase, layout: str) -> None:
    assert_conv_agrees(GUARDED, case, torch.float32, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("case", SCAN_CASES, ids=str)
def test_scan_agrees_in_16_bits(case: ScanCase, dtype: torch.dtype, layout: str) -> None:
    assert_scan_agrees(GUARDED, case, dtype, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("case", CONV_CASES, ids=str)
def test_convolution_agrees_in_16_bits(case: ConvCase, dtype: torch.dtype, layout: str) -> None:
    assert_conv_agrees(GUARDED, case, dtype, layout)


@pytest.mark.parametrize("dtype", (torch.float32, *HALVES), ids=str)
@pytest.mark.parametrize("layout", ("token", "channel"))
def test_every_instruction_set_agrees(
    library: native._Library, layout: str, dtype: torch.dtype
) -> None:
    for level in range(len(library.levels) - 1):  # the last one runs in all other tests
        library.level = level
        for case in SCAN_CASES:
            assert_scan_agrees(GUARDED, case, dtype, layout)
        for case in CONV_CASES:
            assert_conv_agrees(GUARDED, case, dtype, layout)


@pytest.mark.parametrize("taps", [5, 16])
def test_any_number_of_taps(taps: int) -> None:
    for dtype in (torch.float32, *HALVES):
        assert_conv_agrees(GUARDED, ConvCase(f"{taps} taps", taps=taps, order=(1, 2, 13)), dtype)


# Large enough for several threads, and for several pieces of channels.
WIDE = ScanCase(
    "wide",
    length=130,
    channels=300,
    state=16,
    options=frozenset({"D", "z", "delta_bias", "softplus"}),
)
WIDE_SHARED = WIDE._replace(
    name="wide, shared", directions=2, batch=1, shared=frozenset({"u", "B", "A"}), order=(2, 1, 5)
)
WIDE_CONV = ConvCase("wide", length=260, channels=600)


@pytest.mark.parametrize("pool", ["torch", "own"])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=str)
def test_every_thread_count_and_pool_agrees(
    library: native._Library, pool: str, threads: int, dtype: torch.dtype
) -> None:
    if pool == "own":  # as where torch does not export its pool
        library.parallel_for = 0
    torch.set_num_threads(threads)
    for layout in ("token", "channel"):
        assert_scan_agrees(native, WIDE, dtype, layout)
        assert_scan_agrees(native, WIDE_SHARED, dtype, layout)
        assert_conv_agrees(native, WIDE_CONV, dtype, layout)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_results_are_the_same_bit_for_bit(library: native._Library, threads: int) -> None:
    torch.set_num_threads(threads)
    for case in (WIDE, WIDE_SHARED):
        runs = [run_scan(native, make_scan_inputs(case)) for _ in range(3)]
        library.parallel_for = 0
        runs.append(run_scan(native, make_scan_inputs(case)))
        for other in runs[1:]:
            assert all(torch.equal(other[name], value) for name, value in runs[0].items())
    runs = [run_conv(native, make_conv_inputs(WIDE_CONV)) for _ in range(3)]
    assert all(
        torch.equal(other[name], value) for other in runs[1:] for name, value in runs[0].items()
    )


@pytest.mark.parametrize("layout", ["token", "channel"])
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=str)
def test_the_number_of_threads_changes_no_bit(
    library: native._Library, layout: str, dtype: torch.dtype
) -> None:
    for level in range(len(library.levels)):
        library.level = level
        for case in (WIDE, WIDE_SHARED, WIDE._replace(groups=2, batch=1)):
            runs = []
            for threads in (1, 2, 3, 7):
                torch.set_num_threads(threads)
                runs.append(run_scan(native, make_scan_inputs(case, dtype, layout)))
            assert all(same_bits(runs[0], other) for other in runs[1:])
        runs = []
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            runs.append(run_conv(native, make_conv_inputs(WIDE_CONV, dtype, layout)))
        assert all(same_bits(runs[0], other) for other in runs[1:])


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(other[name], value) for name, value in one.items())


SHORT_SCANS = [case for case in SCAN_CASES if case.length * case.channels < 30_000]
SHORT_CONVOLUTIONS = [case for case in CONV_CASES if case.channels < 100]


@pytest.mark.parametrize("dtype", (torch.float32, *HALVES), ids=str)
def test_how_the_inputs_lie_in_memory_changes_no_bit(
    library: native._Library, dtype: torch.dtype
) -> None:
    for level in range(len(library.levels)):
        library.level = level
        for case in SHORT_SCANS:
            runs = [run_scan(native, make_scan_inputs(case, dtype, layout)) for layout in LAYOUTS]
            assert all(same_bits(runs[0], other) for other in runs[1:]), case
        for case in SHORT_CONVOLUTIONS:
            runs = [run_conv(native, make_conv_inputs(case, dtype, layout)) for layout in LAYOUTS]
            assert all(same_bits(runs[0], other) for other in runs[1:]), case


BETWEEN_INSTRUCTION_SETS = {torch.float32: 4e-6, torch.bfloat16: 4e-3, torch.float16: 5e-4}
"""How far two instruction sets may be apart, of the largest value of a result: docs/backends.md
says what was measured, half of it and less."""


@pytest.mark.parametrize("dtype", (torch.float32, *HALVES), ids=str)
def test_instruction_sets_differ_by_rounding_alone(
    library: native._Library, dtype: torch.dtype
) -> None:
    limit = BETWEEN_INSTRUCTION_SETS[dtype]
    for case in SHORT_SCANS:
        inputs = make_scan_inputs(case, dtype)
        assert_levels_are_close(library, lambda inputs=inputs: run_scan(native, inputs), limit)
    for case in SHORT_CONVOLUTIONS:
        inputs = make_conv_inputs(case, dtype)
        found = assert_levels_are_close(
            library, lambda inputs=inputs: run_conv(native, inputs), limit
        )
        if not case.silu and {"avx2", "avx512"} <= found.keys():
            assert same_bits(found["avx2"], found["avx512"]), case


def assert_levels_are_close(
    library: native._Library, run: Callable[[], dict[str, Tensor]], limit: float
) -> dict[str, dict[str, Tensor]]:
    """Run at each instruction set, and return what each found."""
    found = {}
    for level, name in enumerate(library.levels):
        library.level = level
        found[name] = run()
    # an arrangement of each instruction set's own
    compared = found["baseline"].keys() - {"checkpoints"}
    for other in found.values():
        for name in compared:
            error = relative_error(other[name], found["baseline"][name])
            assert error / cancellation(name, found["baseline"]) <= limit, name
    return found


@pytest.mark.parametrize("threads", [1, 3])
def test_what_else_is_in_the_batch_changes_no_bit(library: native._Library, threads: int) -> None:
    torch.set_num_threads(threads)
    for level in range(len(library.levels)):
        library.level = level
        together = WIDE._replace(batch=5, options=WIDE.options | {"initial_state"})
        inputs = make_scan_inputs(together)
        grad_out = torch.randn(1, 5, *inputs.u.shape[2:], generator=torch.Generator())
        whole = scan_with_gradients(inputs, grad_out)
        for part in (slice(0, 1), slice(1, 3), slice(4, 5)):
            alone = scan_with_gradients(samples_of(inputs, part), grad_out[:, part])
            for name in ("out", "last_state", "u", "delta", "B", "C", "z", "initial_state"):
                assert torch.equal(alone[name], whole[name][:, part]), name
        # the weights' gradients are summed over the samples in their order
        one_by_one = [
            scan_with_gradients(samples_of(inputs, slice(b, b + 1)), grad_out[:, b : b + 1])
            for b in range(5)
        ]
        for name in ("A", "D", "delta_bias"):
            total = one_by_one[0][name]
            for found in one_by_one[1:]:
                total = total + found[name]
            assert torch.equal(whole[name], total), name


def samples_of(inputs: ScanInputs, part: slice) -> ScanInputs:
    """Some samples of a batch, as tensors of their own."""
    own = {
        name: getattr(inputs, name)[:, part].contiguous()
        for name in ("u", "delta", "B", "C", "z", "initial_state")
    }
    return inputs._replace(**own)


def scan_with_gradients(inputs: ScanInputs, grad_out: Tensor) -> dict[str, Tensor]:
    _, batch, length, channels = inputs.u.shape
    states = inputs.A.shape[2]
    spans = -(-length // CPU_CHECKPOINT_STEPS)
    results = ScanResults(
        out=torch.empty_like(inputs.u),
        last_state=torch.empty(1, batch, channels, states),
        checkpoints=torch.empty(1, batch, spans, states, channels),
    )
    native.scan_forward(inputs, results)
    gradients = ScanGradients._make(
        None if getattr(inputs, name) is None else torch.empty_like(getattr(inputs, name))
        for name in ScanGradients._fields
    )
    native.scan_backward(inputs, results.checkpoints, grad_out, None, gradients)
    found = {name: grad for name, grad in gradients._asdict().items() if grad is not None}
    return found | {"out": results.out, "last_state": results.last_state}


# What a caller can get wrong must not reach into foreign memory.


@pytest.mark.parametrize("taps", [5_000, 120_000])
def test_any_number_of_taps_fits_on_a_small_stack(taps: int) -> None:
    script = f"""
import threading, torch
from rgbt_fusion import causal_conv1d

def run():
    x, weight = torch.randn(1, 16, 70, requires_grad=True), torch.randn(16, {taps})
    weight.requires_grad_()
    out = causal_conv1d(x, weight, backend="native")
    want = causal_conv1d(x, weight[:, -70:], backend="reference")
    torch.testing.assert_close(out, want, rtol=1e-4, atol=1e-4)
    out.sum().backward()
    assert weight.grad[:, :-70].eq(0).all() and weight.grad[:, -1].ne(0).all()
    print("done")

threading.stack_size(512 * 1024)
thread = threading.Thread(target=run)
thread.start()
thread.join()
"""
    assert _in_a_process(script) == "done"


def test_a_wrong_order_that_is_trusted_stays_inside_the_tensors() -> None:
    script = """
import torch
from rgbt_fusion import ordered_causal_conv1d, ordered_selective_scan

u, delta = torch.randn(1, 96, 40, requires_grad=True), torch.rand(1, 96, 40)
A, B, C = -torch.rand(40, 8), torch.randn(1, 96, 8), torch.randn(1, 96, 8)
for wrong in ([0, 1, 2, 10**12], [-1, -(2**62), 3, 2], [7, 7, 7, 7]):
    order = torch.tensor(wrong)
    options = {"order": order, "trusted_order": True, "backend": "native"}
    out = ordered_selective_scan(u, delta, A, B, C, **options).out
    out.sum().backward()
    ordered_causal_conv1d(u, torch.randn(40, 4), **options).sum().backward()
print("done")
"""
    assert _in_a_process(script) == "done"


def test_more_tokens_than_a_row_number_holds_are_refused() -> None:
    inputs = make_scan_inputs(SMALL)
    long = inputs._replace(u=torch.zeros(()).expand(1, 1, 2**31, 11))
    assert native.scan_why_not(long) == [
        f"takes at most {2**31 - 65} tokens, the inputs have {2**31}"
    ]


# What flows where no number is left: a NaN must come out as NaN, and never touch what does not
# depend on it.

SMALL = ScanCase("small", length=70, channels=11, state=5, batch=1)


# A quiet NaN of any payload: some processors keep the payload, and the exponential works on bits.
STRANGE_NAN = torch.tensor([0x7FC00155], dtype=torch.int32).view(torch.float32)


@pytest.mark.parametrize("nan", [torch.tensor([math.nan]), STRANGE_NAN], ids=["nan", "payload"])
@pytest.mark.parametrize("name", ["u", "delta", "z", "B", "C"])
def test_a_nan_token_reaches_what_depends_on_it(
    library: native._Library, name: str, nan: Tensor
) -> None:
    inputs = make_scan_inputs(SMALL)
    getattr(inputs, name)[0, 0, 20, ..., 2] = nan
    for level in range(len(library.levels)):
        library.level = level
        _assert_nan_is_where_it_belongs(run_scan(native, inputs)["out"][0, 0], name)


def _assert_nan_is_where_it_belongs(out: Tensor, name: str) -> None:
    assert out[:20].isfinite().all()
    every_channel = name in ("B", "C")
    assert out[20].isnan().all() if every_channel else out[20, 2].isnan()
    if not every_channel:
        assert out[:, torch.arange(11) != 2].isfinite().all()
    remembered = name in ("u", "delta", "B")
    assert out[21:, 2].isnan().all() if remembered else out[21:, 2].isfinite().all()


@pytest.mark.parametrize("name", ["A", "D", "delta_bias"])
def test_a_nan_weight_reaches_its_channel_alone(library: native._Library, name: str) -> None:
    for level in range(len(library.levels)):
        library.level = level
        inputs = make_scan_inputs(SMALL)
        getattr(inputs, name)[0, 2] = STRANGE_NAN
        out = run_scan(native, inputs)["out"][0, 0]
        # The first state is B dt u whatever A is: exp(dt A) multiplies the zero before it, and 0
        # NaN = NaN.
        assert out[:, 2].isnan().all()
        assert out[:, torch.arange(11) != 2].isfinite().all()


@pytest.mark.parametrize("rate", [-1e4, -1e30, -math.inf])
def test_a_state_that_dies_at_once_leaves_its_input(library: native._Library, rate: float) -> None:
    for level in range(len(library.levels)):
        library.level = level
        inputs = make_scan_inputs(SMALL._replace(options=frozenset(), dt=(0.1, 0.1)))
        inputs.A.fill_(rate)
        want = (
            inputs.delta[0, 0]
            * inputs.u[0, 0]
            * (inputs.B * inputs.C)[0, 0, :, 0].sum(-1, keepdim=True)
        )
        result = run_scan(native, inputs)
        torch.testing.assert_close(result["out"][0, 0], want, rtol=1e-5, atol=1e-5)
        assert result["grad A"].eq(0).all() or math.isinf(rate)


def test_a_state_that_explodes_is_infinite_not_garbage(library: native._Library) -> None:
    for level in range(len(library.levels)):
        library.level = level
        inputs = make_scan_inputs(SMALL._replace(options=frozenset(), state=1, dt=(1.0, 1.0)))
        inputs.A.fill_(50.0)  # e^50 is a number, e^100 is none
        inputs.u.fill_(1.0)
        inputs.B.fill_(1.0)
        inputs.C.fill_(1.0)
        out = run_scan(native, inputs, grads=False)["out"][0, 0]
        torch.testing.assert_close(
            out[:2], torch.tensor([[1.0], [math.exp(50)]]).expand(2, 11), rtol=1e-5, atol=0
        )
        assert out[2:].isposinf().all()


@pytest.mark.parametrize("name", ["u", "weight", "bias"])
def test_a_nan_reaches_the_convolution(name: str) -> None:
    inputs = make_conv_inputs(ConvCase("small", length=40, channels=9, batch=1))
    if name == "u":
        inputs.x[0, 0, 20, 2] = math.nan
    else:
        getattr(inputs, name)[0, 2] = math.nan
    wrong = run_conv(native, inputs)["out"][0, 0].isnan()
    want = torch.zeros(40, 9, dtype=torch.bool)
    want[slice(20, 24) if name == "u" else slice(None), 2] = True
    assert wrong.equal(want)


def test_every_16_bit_value_is_read_as_it_is(library: native._Library) -> None:
    """One tap of weight 1 hands each of the 65,536 bit patterns through; only what is subnormal in
    fp32 becomes 0."""
    patterns = torch.arange(65536, dtype=torch.int32).sub(32768).to(torch.int16)
    for level in range(len(library.levels)):
        library.level = level
        for dtype in HALVES:
            x = patterns.view(dtype).view(1, 1, 512, 128)
            inputs = make_conv_inputs(
                ConvCase("", taps=1, channels=128, bias=False, silu=False)
            )._replace(x=x)
            inputs.weight.fill_(1.0)
            out = torch.empty_like(x)
            native.conv_forward(inputs, out)
            assert torch.equal(out.isnan(), x.isnan())
            want = torch.where(x.abs() < 2.0**-126, torch.zeros_like(x), x)
            assert torch.equal(out.nan_to_num(1.0), want.nan_to_num(1.0))


def test_rounding_to_16_bits_is_to_nearest_even(library: native._Library) -> None:
    random = torch.Generator().manual_seed(0)
    weight = torch.cat(
        [torch.randn(3000, generator=random) * scale for scale in (1e-7, 1e-5, 1.0, 3e4, 1e5)]
    )
    ties = torch.tensor(
        [1.00390625, 1.01171875, 1.00048828125, 1.00146484375, 65519.0, 65520.0, 2.0**-25]
    )
    weight = torch.cat([weight, ties, -ties])[None, :, None]
    for level in range(len(library.levels)):
        library.level = level
        for dtype in HALVES:
            x = torch.ones(1, 1, 1, weight.shape[1], dtype=dtype)
            inputs = make_conv_inputs(ConvCase("", taps=1, bias=False, silu=False))._replace(
                x=x, weight=weight
            )
            out = torch.empty_like(x)
            native.conv_forward(inputs, out)
            assert torch.equal(out[0, 0, 0], weight[0, :, 0].to(dtype))


def test_the_library_names_what_it_cannot_compute() -> None:
    inputs = make_scan_inputs(SMALL, torch.float64)
    assert native.scan_why_not(inputs) == [
        "computes in float32, bfloat16 or float16, the inputs are torch.float64"
    ]
    assert native.scan_why_not(make_scan_inputs(SMALL)) == []
    meta = ScanInputs(
        *(x.to("meta") if isinstance(x, Tensor) else x for x in make_scan_inputs(SMALL))
    )
    assert native.scan_why_not(meta) == ["runs on the CPU, the inputs are on meta"]


def _in_a_process(script: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_the_environment_holds_the_kernels_to_an_instruction_set() -> None:
    script = """
from rgbt_fusion.ops.native import backend

library = backend._library()
print(library if isinstance(library, str) else library.levels[library.level])
"""
    assert _in_a_process(script, RGBT_FUSION_CPU_LEVEL="baseline") == "baseline"
    refusal = _in_a_process(script, RGBT_FUSION_CPU_LEVEL="mmx")
    assert refusal.startswith("RGBT_FUSION_CPU_LEVEL must be one of baseline")
    assert refusal.endswith("got 'mmx'")


def test_subnormal_arithmetic_is_left_as_it_was() -> None:
    run_scan(native, make_scan_inputs(SMALL))
    assert (torch.tensor([1e-39]) * 0.5).item() > 0
