"""The public convolutions: what they compute, in both forms and on every backend."""

import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ops.agreement import CONV_CASES, ConvCase, as_float64, assert_close, make_conv_inputs, run_conv
from ops.public_arguments import differentiate, floating, in_float64, ordered_arguments
from rgbt_fusion import (
    BackendUnavailableError,
    ShapeError,
    causal_conv1d,
    ordered_causal_conv1d,
)
from rgbt_fusion.ops import reference
from rgbt_fusion.ops.backends import BACKENDS

PROBE = make_conv_inputs(ConvCase("probe"))
AVAILABLE = [backend.name for backend in BACKENDS if not backend.why_not("conv", PROBE)]
ORDERED_CASES = [
    case for case in CONV_CASES if case.directions > 1 or case.order or "length 6" in case.name
]


def causal_conv1d_semantics(
    x: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None
) -> Tensor:
    """Write causal-conv1d's contract out."""
    taps = weight.shape[1]
    y = F.conv1d(F.pad(x, (taps - 1, 0)), weight[:, None], bias, groups=len(weight))
    return y if activation is None else F.silu(y)


def arguments_of(
    dtype: torch.dtype = torch.float32, length: int = 70, taps: int = 4, batch: int = 2
) -> dict[str, Any]:
    random = torch.Generator().manual_seed(0)
    state = torch.float64 if dtype == torch.float64 else torch.float32
    return {
        "x": torch.randn(batch, 6, length, generator=random).to(dtype),
        "weight": torch.randn(6, taps, generator=random).to(state),
        "bias": torch.randn(6, generator=random).to(state),
        "activation": "silu",
    }


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("backend", AVAILABLE)
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str
)
@pytest.mark.parametrize(
    "replaced", [{}, {"bias": None}, {"activation": None}, {"activation": "swish"}], ids=str
)
def test_every_option_has_causal_conv1ds_meaning(
    replaced: dict[str, Any], dtype: torch.dtype, backend: str
) -> None:
    arguments = arguments_of(dtype) | replaced
    if dtype == torch.float64 and backend in ("native", "triton"):
        with pytest.raises(BackendUnavailableError, match="float64"):
            causal_conv1d(**arguments, backend=backend)
        return
    got = differentiate(lambda **x: causal_conv1d(**x, backend=backend), arguments)
    assert got["out"].dtype == dtype and got["grad x"].dtype == dtype
    assert_close(got, differentiate(causal_conv1d_semantics, in_float64(arguments)))


@pytest.mark.parametrize("backend", AVAILABLE)
@pytest.mark.parametrize(("length", "taps"), [(1, 4), (2, 4), (70, 1), (70, 9)])
def test_any_number_of_taps_meets_any_length(length: int, taps: int, backend: str) -> None:
    arguments = arguments_of(length=length, taps=taps)
    got = differentiate(lambda **x: causal_conv1d(**x, backend=backend), arguments)
    assert_close(got, differentiate(causal_conv1d_semantics, in_float64(arguments)))


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("backend", AVAILABLE)
@pytest.mark.parametrize("case", ORDERED_CASES, ids=str)
def test_ordered_convolution_agrees_with_the_reference(case: ConvCase, backend: str) -> None:
    inputs = make_conv_inputs(case)
    want = run_conv(reference, as_float64(inputs))
    got = differentiate(
        lambda **x: ordered_causal_conv1d(**x, backend=backend), ordered_arguments(inputs)
    )
    directed = case.directions > 1 or (case.order is not None and case.order[1] > 1)
    assert got["out"].dim() == 3 + directed
    assert_close({name: x.reshape(want[name].shape) for name, x in got.items()}, want)


@pytest.mark.parametrize("backend", AVAILABLE)
def test_the_input_may_lie_anywhere_in_memory(backend: str) -> None:
    arguments = arguments_of()
    x = arguments["x"]
    want = causal_conv1d(**arguments, backend=backend)
    for view in (x.mT.contiguous().mT, x.repeat_interleave(2, -1)[..., ::2]):
        torch.testing.assert_close(
            causal_conv1d(**(arguments | {"x": view}), backend=backend), want
        )


@pytest.mark.parametrize("backend", AVAILABLE)
@pytest.mark.parametrize("layout", ["channels", "tokens"])
def test_result_and_gradient_lie_in_memory_as_the_input(layout: str, backend: str) -> None:
    arguments = arguments_of()
    x = arguments["x"] if layout == "channels" else arguments["x"].mT.contiguous().mT
    x.requires_grad_()
    for _ in range(2):
        out = causal_conv1d(**(arguments | {"x": x}), backend=backend)
        (gradient,) = torch.autograd.grad(out.sum(), x)
        assert out.stride() == gradient.stride() == x.stride()


@pytest.mark.parametrize(("batch", "length"), [(0, 5), (2, 0)])
def test_an_empty_input_gives_an_empty_output_and_zero_gradients(batch: int, length: int) -> None:
    found = differentiate(causal_conv1d, arguments_of(batch=batch, length=length))
    assert found["out"].shape == (batch, 6, length)
    assert not found["grad weight"].any() and not found["grad bias"].any()


def test_gradients_are_those_of_finite_differences() -> None:
    arguments = arguments_of(torch.float64, length=5)
    leaves = floating(arguments)
    assert torch.autograd.gradcheck(
        lambda *x: causal_conv1d(*x, activation="silu"), list(leaves.values())
    )


def test_gradients_of_the_ordered_convolution_are_those_of_finite_differences() -> None:
    case = ConvCase(
        "", length=6, channels=3, directions=2, order=(2, 2, 3), shared=frozenset({"x"})
    )
    arguments = ordered_arguments(make_conv_inputs(case, torch.float64))
    leaves = floating(arguments)

    def run(*values: Tensor) -> Tensor:
        return ordered_causal_conv1d(**(arguments | dict(zip(leaves, values, strict=True))))

    assert torch.autograd.gradcheck(run, list(leaves.values()))


ORDERS = {
    "natural": None,
    "of segments": torch.tensor([2, 0, 3, 1]),
    "per direction": torch.tensor([[3, 2, 1, 0], [1, 0, 2, 3]]),
    "per direction and sample": torch.stack([torch.randperm(4) for _ in range(4)]).view(2, 2, 4),
}


def in_scan_order(length: int, order: Tensor | None, direction: int, sample: int) -> Tensor:
    """Return the rows that a direction of a sample visits, one by one."""
    if order is None:
        return torch.arange(length)
    if order.dim() == 1:
        order = order[None]
    if order.dim() == 2:
        order = order[:, None]
    segments = order[direction % len(order), sample % order.shape[1]].tolist()
    size = length // len(segments)
    return torch.tensor([segment * size + i for segment in segments for i in range(size)])


@pytest.mark.parametrize("backend", AVAILABLE)
@pytest.mark.parametrize("directed", [False, True], ids=["states of all", "states per direction"])
@pytest.mark.parametrize("length", [4, 12])
@pytest.mark.parametrize("name", ORDERS)
def test_an_ordered_convolution_goes_on_from_states(
    name: str, length: int, directed: bool, backend: str
) -> None:
    """As the convolution of the permuted sequence that goes on from the same states."""
    order = ORDERS[name]
    random = torch.Generator().manual_seed(0)
    x, weight, bias, states = (
        torch.randn(*shape, generator=random)
        for shape in ((2, length, 6), (6, 5), (6,), (2, 2, 4, 6) if directed else (2, 4, 6))
    )
    given = {"x": x, "weight": weight, "bias": bias, "initial_states": states}

    def public(**given: Tensor) -> tuple[Tensor, ...]:
        return ordered_causal_conv1d(
            **given, activation="silu", order=order, return_final_states=True, backend=backend
        )

    def permuted(**given: Tensor) -> tuple[Tensor, ...]:
        directions = 2 if directed or (order is not None and order.dim() > 1) else 1
        outs, finals = [], []
        for r in range(directions):
            for b in range(2):
                rows = in_scan_order(length, order, r, b)
                start = given["initial_states"]
                start = start[r, b] if directed else start[b]
                sequence = torch.cat([start, given["x"][b][rows]])
                y = causal_conv1d_semantics(
                    sequence.mT[None], given["weight"], given["bias"], "silu"
                )[0].mT[4:]
                outs.append(torch.empty_like(y).index_copy(0, rows, y))
                finals.append(sequence[-4:])
        shape = (directions, 2, -1, 6) if directions > 1 else (2, -1, 6)
        return torch.stack(outs).view(shape), torch.stack(finals).view(shape)

    found, wanted = differentiate(public, given), differentiate(permuted, given)
    assert found.keys() == wanted.keys()
    for key, want in wanted.items():
        torch.testing.assert_close(found[key], want, rtol=1e-4, atol=1e-5, msg=key)


def test_an_ordered_convolution_in_two_parts_is_the_whole() -> None:
    arguments = arguments_of(length=20)
    x = arguments.pop("x").mT
    whole = ordered_causal_conv1d(x, **arguments)
    first, states = ordered_causal_conv1d(x[:, :1], **arguments, return_final_states=True)
    rest, _ = ordered_causal_conv1d(
        x[:, 1:], **arguments, initial_states=states, return_final_states=True
    )
    torch.testing.assert_close(torch.cat([first, rest], 1), whole)
    assert states.shape == (2, 3, 6)
    assert not states[:, :2].any()  # nothing came before


def test_gradients_of_an_ordered_convolution_with_states_are_those_of_finite_differences() -> None:
    x = torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    states = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    order = torch.tensor([[2, 0, 1], [0, 2, 1]])

    def run(x: Tensor, weight: Tensor, states: Tensor) -> tuple[Tensor, ...]:
        return ordered_causal_conv1d(
            x, weight, None, "silu", order=order, initial_states=states, return_final_states=True
        )

    assert torch.autograd.gradcheck(run, (x, weight, states))


@pytest.mark.parametrize(
    ("states", "error", "message"),
    [
        (torch.zeros(2, 4, 6), ShapeError, "initial_states must have shape (R, B, 3, D)"),
        (torch.zeros(6), ShapeError, "initial_states must have at least 3 axes"),
        (torch.zeros(2, 3, 6).double(), TypeError, "initial_states must have the dtype of x"),
        (torch.zeros(2, 3, 6, device="meta"), ValueError, "initial_states must be on the device"),
    ],
)
def test_states_of_an_ordered_convolution_are_checked(
    states: Tensor, error: type[Exception], message: str
) -> None:
    arguments = arguments_of()
    with pytest.raises(error, match=re.escape(message)):
        ordered_causal_conv1d(
            arguments["x"].mT, arguments["weight"], arguments["bias"], initial_states=states
        )


def test_a_packed_row_has_no_order() -> None:
    arguments = arguments_of()
    with pytest.raises(TypeError, match="seq_idx"):
        ordered_causal_conv1d(
            arguments["x"].mT, arguments["weight"], seq_idx=torch.zeros(2, 70, dtype=torch.int32)
        )


def states_and_sequences(layout: str, length: int = 9) -> dict[str, Any]:
    """Tokens with those before them, in one of the two layouts, with gradients in float64."""
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    x, states = normal(2, 6, length), normal(2, 6, 3)
    if layout == "token-major":
        x, states = normal(2, length, 6).mT, normal(2, 3, 6).mT
    return {
        "x": x.requires_grad_(),
        "weight": normal(6, 4).requires_grad_(),
        "bias": normal(6).requires_grad_(),
        "initial_states": states.requires_grad_(),
    }


@pytest.mark.parametrize("layout", ["channel-major", "token-major"])
@pytest.mark.parametrize("length", [1, 2, 3, 9])
def test_states_continue_a_sequence(length: int, layout: str) -> None:
    arguments = states_and_sequences(layout, length)
    x, weight, bias, before = arguments.values()
    out, after = causal_conv1d(**arguments, return_final_states=True, activation="silu")
    tokens = torch.cat([before, x], dim=2)
    want = causal_conv1d_semantics(tokens, weight, bias, "silu")[:, :, 3:]
    torch.testing.assert_close(out, want)
    assert torch.equal(after, tokens[:, :, -3:])

    def gradients(out: Tensor, after: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(out.sin().sum() + after.cos().sum(), [*arguments.values()])

    for ours, theirs in zip(gradients(out, after), gradients(want, tokens[:, :, -3:]), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_final_states_are_written_where_asked_for() -> None:
    arguments = states_and_sequences("token-major")
    del arguments["initial_states"]
    place = torch.full((2, 6, 3), torch.nan, dtype=torch.float64)
    with torch.no_grad():
        _, after = causal_conv1d(**arguments, return_final_states=True, final_states_out=place)
    assert after is place
    assert torch.equal(place, arguments["x"][:, :, -3:])


def test_a_sequence_shorter_than_the_taps_has_zeros_before_it() -> None:
    x = torch.ones(1, 1, 1)
    _, after = causal_conv1d(x, torch.ones(1, 4), return_final_states=True)
    assert after.tolist() == [[[0.0, 0.0, 1.0]]]


@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_packed_sequences_stay_apart_and_padding_is_zero(
    dtype: torch.dtype, activation: str | None
) -> None:
    arguments = states_and_sequences("token-major")
    del arguments["initial_states"]
    x, weight, bias = arguments.values()
    numbers = [[0, 0, 0, 1, 1, 1, 1, -1, -1], [7, 8, 8, 8, 8, 8, 9, 9, 9]]
    pieces = [[(0, 3), (3, 7)], [(0, 1), (1, 6), (6, 9)]]
    got = causal_conv1d(x, weight, bias, torch.tensor(numbers, dtype=dtype), activation=activation)
    rows = []
    for row, edges in enumerate(pieces):
        parts = [
            causal_conv1d_semantics(x[row : row + 1, :, start:end], weight, bias, activation)
            for start, end in edges
        ]
        whole = torch.cat(parts, dim=2)
        rows.append(F.pad(whole, (0, 9 - whole.shape[2])))
    want = torch.cat(rows)
    torch.testing.assert_close(got, want)
    weights = torch.randn_like(want)
    leaves = [*arguments.values()]
    ours = torch.autograd.grad((got * weights).sum(), leaves)
    theirs = torch.autograd.grad((want * weights).sum(), leaves)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_the_fourth_argument_of_0_1_0_still_counts() -> None:
    x, weight = torch.randn(1, 2, 5), torch.randn(2, 4)
    with pytest.warns(DeprecationWarning, match="pass it by keyword"):
        old = causal_conv1d(x, weight, None, "silu")
    assert torch.equal(old, causal_conv1d(x, weight, activation="silu"))


@pytest.mark.parametrize(
    ("replaced", "error", "message"),
    [
        ({"seq_idx": torch.zeros(2, 9)}, TypeError, "seq_idx must be int32 or int64"),
        ({"seq_idx": torch.zeros(2, 8).int()}, ShapeError, r"seq_idx must have shape \(B, L\)"),
        (
            {"seq_idx": torch.zeros(2, 9).int(), "initial_states": torch.zeros(2, 6, 3)},
            ValueError,
            "seq_idx must come without initial_states and return_final_states",
        ),
        (
            {"seq_idx": torch.zeros(2, 9).int(), "return_final_states": True},
            ValueError,
            "seq_idx must come without initial_states and return_final_states",
        ),
        (
            {"seq_idx": torch.zeros(2, 9).int(), "backend": "reference"},
            ValueError,
            "backend must be 'auto' where seq_idx is given",
        ),
        (
            {"initial_states": torch.zeros(2, 6, 4)},
            ShapeError,
            r"initial_states must have shape \(B, D, 3\)",
        ),
        ({"initial_states": torch.zeros(2, 6, 3).half()}, TypeError, "initial_states must have"),
        (
            {"final_states_out": torch.zeros(2, 6, 3)},
            ValueError,
            "final_states_out must come with return_final_states",
        ),
        (
            {"activation": torch.zeros(2, 9)},
            TypeError,
            r"activation must be None, 'silu' or 'swish', got a tensor of shape \(2, 9\)",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_states_and_sequences_are_checked(
    replaced: dict[str, Any], error: type[Exception], message: str
) -> None:
    good = {"x": torch.randn(2, 6, 9), "weight": torch.randn(6, 4)}
    with pytest.raises(error, match=message):
        causal_conv1d(**(good | replaced))
