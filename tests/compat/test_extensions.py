"""The compiled extensions' functions, called as public code calls them, against autograd."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rgbt_fusion import causal_conv1d, causal_conv1d_update, selective_scan
from rgbt_fusion.compat import extensions


def scan_arguments(
    *, rank: int = 4, constant: str = "", dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
        return torch.randn(*shape, generator=random).to(dtype).requires_grad_()

    def coefficient(name: str) -> Tensor:
        if name in constant:
            return normal(6, 3, dtype=torch.float32)
        return normal(2, 3, 70) if rank == 3 else normal(2, 2, 3, 70)

    return {
        "u": normal(2, 6, 70),
        "delta": normal(2, 6, 70),
        "A": torch.rand(6, 3, generator=random).neg().requires_grad_(),
        "B": coefficient("B"),
        "C": coefficient("C"),
        "D": normal(6, dtype=torch.float32),
        "z": normal(2, 6, 70),
        "delta_bias": normal(6, dtype=torch.float32),
    }


def close(got: Any, want: Tensor, tolerance: float = 1e-5) -> None:
    scale = want.detach().abs().max().item()
    torch.testing.assert_close(got, want.detach(), rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("kept", [True, False], ids=["same states", "copied states"])
@pytest.mark.parametrize("constant", ["", "B", "C", "BC"])
@pytest.mark.parametrize("rank", [3, 4])
def test_the_scan_and_its_gradients(rank: int, constant: str, kept: bool) -> None:
    arguments = scan_arguments(rank=rank, constant=constant)
    want, last_state = selective_scan(**arguments, delta_softplus=True, return_last_state=True)
    gradient = torch.randn_like(want)
    expected = dict(
        zip(arguments, torch.autograd.grad(want, [*arguments.values()], gradient), strict=True)
    )
    values = [x.detach() for x in arguments.values()]
    with torch.no_grad():
        out, states, gated = extensions.scan_fwd(*values, True)
        close(gated, want)
        close(out * F.silu(values[6]), want)
        close(states[:, :, -1, 1::2], last_state)
        if not kept:
            states = states.clone()
        place = torch.full_like(gated, torch.nan)
        found = extensions.scan_bwd(*values, gradient, states, out, place, True, True)
    names = ("u", "delta", "A", "B", "C", "D", "delta_bias", "z")
    for name, got in zip(names, found, strict=False):
        close(got, expected[name])
    assert found[7] is place
    close(found[8], want)


def test_the_scan_without_a_gate_a_skip_and_a_bias() -> None:
    arguments = scan_arguments()
    used = {name: arguments[name] for name in ("u", "delta", "A", "B", "C")}
    want = selective_scan(**used)
    assert isinstance(want, Tensor)
    expected = torch.autograd.grad(want, [*used.values()], torch.ones_like(want))
    values = [x.detach() for x in used.values()]
    out, states = extensions.scan_fwd(*values, None, None, None, False)
    close(out, want)
    ones = torch.ones_like(out)
    found = extensions.scan_bwd(*values, None, None, None, ones, states, None, None, False, False)
    assert len(found) == 7 and found[5] is None and found[6] is None
    for got, gradient in zip(found, expected, strict=False):
        close(got, gradient)


def test_the_variants_without_a_gate() -> None:
    arguments = scan_arguments(dtype=torch.bfloat16)
    arguments.pop("z")
    u, delta, A, B, C, D, delta_bias = (x.detach() for x in arguments.values())
    want = selective_scan(u, delta, A, B, C, D, None, delta_bias, True)
    core, _ = extensions.core_scan_fwd(u, delta, A, B, C, D, delta_bias, True, 1)
    precise, states = extensions.oflex_scan_fwd(u, delta, A, B, C, D, delta_bias, True, 1, True)
    assert core.dtype == torch.bfloat16 and torch.equal(core, want)  # pyright: ignore
    assert precise.dtype == torch.float32 and torch.equal(precise, core.float())
    found = extensions.oflex_scan_bwd(
        u, delta, A, B, C, D, delta_bias, torch.ones_like(precise), states, True, 1
    )
    dtypes = [x.dtype for x in found if x is not None]
    assert dtypes == [x.dtype for x in (u, delta, A, B, C, D, delta_bias)]


def test_a_complex_state_space_is_refused() -> None:
    arguments = [x.detach() for x in scan_arguments().values()]
    arguments[2] = arguments[2].to(torch.complex64)
    with pytest.raises(NotImplementedError, match=r"A must be real, got torch\.complex64"):
        extensions.scan_fwd(*arguments, True)


@pytest.mark.parametrize(
    ("function", "count"),
    [
        (extensions.scan_fwd, 8),
        (extensions.scan_bwd, 13),
        (extensions.core_scan_fwd, 7),
        (extensions.conv_fwd, 6),
        (extensions.conv_bwd, 8),
        (extensions.conv_update, 4),
    ],
)
def test_an_unknown_number_of_arguments_is_refused(function: Any, count: int) -> None:
    with pytest.raises(TypeError, match=f"must be given .* arguments, got {count}"):
        function(*[None] * count)


def conv_arguments(layout: str = "token-major", length: int = 9) -> list[Tensor]:
    """``x``, ``weight``, ``bias`` and the initial states."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(2, length, 6, generator=random).mT
    states = torch.randn(2, 3, 6, generator=random).mT
    if layout == "channel-major":
        x, states = x.contiguous(), states.contiguous()
    weight = torch.randn(6, 4, generator=random)
    bias = torch.randn(6, generator=random)
    return [x, weight, bias, states]


PACKED = torch.tensor([[0, 0, 0, 1, 1, 1, 1, -1, -1], [7, 8, 8, 8, 8, 8, 9, 9, 9]]).int()


@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize("layout", ["token-major", "channel-major"])
def test_every_form_of_the_convolution_forward(layout: str, silu: bool) -> None:
    x, weight, bias, states = conv_arguments(layout)
    activation = "silu" if silu else None
    plain = causal_conv1d(x, weight, bias, activation=activation)
    packed = causal_conv1d(x, weight, bias, PACKED, activation=activation)
    continued, final = causal_conv1d(
        x, weight, bias, None, states, return_final_states=True, activation=activation
    )
    assert torch.equal(extensions.conv_fwd(x, weight, bias, silu), plain)  # pyright: ignore
    assert torch.equal(extensions.conv_fwd(x, weight, bias, PACKED, silu), packed)  # pyright: ignore
    place = torch.full_like(states, torch.nan)
    got = extensions.conv_fwd(x, weight, bias, None, states, place, silu)
    assert torch.equal(got, continued) and torch.equal(place, final)  # pyright: ignore
    out, place = torch.full_like(x, torch.nan), torch.full_like(states, torch.nan)
    assert extensions.conv_fwd(x, weight, bias, None, states, out, place, silu) is None
    assert torch.equal(out, continued) and torch.equal(place, final)
    assert extensions.conv_fwd(x, weight, bias, PACKED, None, out, None, silu) is None
    assert torch.equal(out, packed)


def expected_gradients(
    values: list[Tensor], gradient: Tensor, final_gradient: Tensor | None, **options: Any
) -> list[Tensor]:
    leaves = [x.detach().requires_grad_() for x in values]
    x, weight, bias, *states = leaves
    found = causal_conv1d(
        x,
        weight,
        bias,
        initial_states=states[0] if states else None,
        return_final_states=final_gradient is not None,
        **options,
    )
    if final_gradient is None:
        return [*torch.autograd.grad(found, leaves, gradient)]
    return [*torch.autograd.grad([*found], leaves, [gradient, final_gradient])]


@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize("layout", ["token-major", "channel-major"])
@pytest.mark.parametrize("length", [2, 9])
def test_every_form_of_the_convolution_backward(length: int, layout: str, silu: bool) -> None:
    x, weight, bias, states = conv_arguments(layout, length)
    activation = "silu" if silu else None
    gradient, final_gradient = torch.randn_like(x), torch.randn_like(states)
    plain = expected_gradients([x, weight, bias], gradient, None, activation=activation)
    place = torch.full_like(x, torch.nan)
    found = extensions.conv_bwd(x, weight, bias, gradient, place, silu)
    assert found is not None and found[0] is place
    for got, want in zip(found, plain, strict=True):
        close(got, want)
    if length == 9:
        packed = expected_gradients(
            [x, weight, bias], gradient, None, seq_idx=PACKED, activation=activation
        )
        found = extensions.conv_bwd(x, weight, bias, gradient, PACKED, None, silu)
        for got, want in zip(found, packed, strict=True):  # pyright: ignore
            close(got, want)
    continued = expected_gradients(
        [x, weight, bias, states], gradient, final_gradient, activation=activation
    )
    given = (x, weight, bias, gradient, None, states, final_gradient)
    found = extensions.conv_bwd(*given, None, True, silu)
    for got, want in zip(found, continued, strict=True):  # pyright: ignore
        close(got, want)
    places = [torch.full_like(one, torch.nan) for one in (x, weight, bias, states)]
    assert extensions.conv_bwd(*given, *places, silu) is None
    for got, want in zip(places, continued, strict=True):
        close(got, want)


def test_the_backward_works_inside_a_custom_op() -> None:
    x, weight, bias, states = conv_arguments()
    gradient, place = torch.randn_like(x), torch.empty_like(x)

    @torch.library.custom_op("rgbt_fusion_tests::conv_backward", mutates_args={"place"})
    def backward(
        x: Tensor, weight: Tensor, bias: Tensor, gradient: Tensor, states: Tensor, place: Tensor
    ) -> None:
        extensions.conv_bwd(x, weight, bias, gradient, None, states, None, place, True, True)

    backward(x, weight, bias, gradient, states, place)
    want = expected_gradients([x, weight, bias, states], gradient, None, activation="silu")
    close(place, want[0])


def test_every_form_of_the_update() -> None:
    x, weight, bias, _ = conv_arguments()
    seen = torch.tensor([3, 8], dtype=torch.int32)
    rows = torch.tensor([1, 0], dtype=torch.int32)
    for places in ((), (None,), (seen,), (None, rows), (seen, rows)):
        states = [torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(3))]
        states += [states[0].clone(), states[0].clone()]
        want = causal_conv1d_update(x[..., :2], states[0], weight, bias, "silu", *places)
        got = extensions.conv_update(x[..., :2], states[1], weight, bias, True, *places)
        assert torch.equal(got, want) and torch.equal(states[1], states[0])  # pyright: ignore
        out = torch.full_like(want, torch.nan)
        both = (*places, None, None)[:2]
        extensions.conv_update(x[..., :2], states[2], weight, bias, out, True, *both)
        assert torch.equal(out, want) and torch.equal(states[2], states[0])
