"""One step of the selective scan: what it computes, and which states it touches."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rgbt_fusion import ShapeError, selective_scan, selective_state_update


def arguments_of(
    *, heads: int | None = None, groups: int = 1, dtype: torch.dtype = torch.float32, batch: int = 3
) -> dict[str, Any]:
    random = torch.Generator().manual_seed(0)
    precise = torch.float64 if dtype == torch.float64 else torch.float32
    channels = (5,) if heads is None else (heads, 5)
    rows = (4,) if heads is None else (groups, 4)

    def normal(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64).to(dtype)

    return {
        "state": normal(batch, *channels, 4),
        "x": normal(batch, *channels),
        "dt": normal(batch, *channels),
        "A": -normal(*channels, 4, dtype=precise).exp(),
        "B": normal(batch, *rows, dtype=precise),
        "C": normal(batch, *rows, dtype=precise),
        "D": normal(*channels, dtype=precise),
        "z": normal(batch, *channels),
        "dt_bias": normal(*channels, dtype=precise),
        "dt_softplus": True,
    }


def written_out(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    dt_softplus: bool,
) -> tuple[Tensor, Tensor]:
    """The new state and the result, in float64."""
    state, x, dt, A, B, C = (one.double() for one in (state, x, dt, A, B, C))
    if state.dim() == 4:
        per_group = state.shape[1] // B.shape[1]
        B, C = (one.repeat_interleave(per_group, dim=1)[:, :, None] for one in (B, C))
    else:
        B, C = B[:, None], C[:, None]
    if dt_bias is not None:
        dt = dt + dt_bias
    if dt_softplus:
        dt = F.softplus(dt)
    state = torch.exp(dt[..., None] * A) * state + dt[..., None] * B * x[..., None]
    y = (state * C).sum(-1)
    if D is not None:
        y = y + D * x
    if z is not None:
        y = y * F.silu(z.double())
    return state, y


TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 2e-2, torch.float16: 2e-3}


@pytest.mark.parametrize("dtype", [*TOLERANCE], ids=str)
@pytest.mark.parametrize(("heads", "groups"), [(None, 1), (4, 1), (4, 2), (4, 4)])
@pytest.mark.parametrize(
    "without",
    [(), ("D",), ("z",), ("dt_bias",), ("D", "z", "dt_bias")],
    ids=lambda names: "all" if not names else "without " + " ".join(names),
)
def test_is_one_step_of_the_equation(
    without: tuple[str, ...], heads: int | None, groups: int, dtype: torch.dtype
) -> None:
    arguments = arguments_of(heads=heads, groups=groups, dtype=dtype)
    arguments |= dict.fromkeys(without)
    want_state, want = written_out(**arguments)
    got = selective_state_update(**arguments)
    assert got.dtype == dtype
    close = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    torch.testing.assert_close(got.double(), want, **close)
    torch.testing.assert_close(arguments["state"].double(), want_state, **close)


def test_steps_are_the_scan_of_all_tokens() -> None:
    arguments = arguments_of()
    random = torch.Generator().manual_seed(1)
    u, delta, z = (torch.randn(3, 5, 7, generator=random) for _ in range(3))
    B, C = (torch.randn(3, 4, 7, generator=random) for _ in range(2))
    A, D, bias = (arguments[name] for name in ("A", "D", "dt_bias"))
    out, last_state = selective_scan(u, delta, A, B, C, D, z, bias, True, True)
    state = torch.zeros(3, 5, 4)
    for t in range(7):
        step = (one[..., t] for one in (u, delta))
        y = selective_state_update(
            state, *step, A, B[..., t], C[..., t], D, z[..., t], bias, dt_softplus=True
        )
        torch.testing.assert_close(y, out[..., t])
    torch.testing.assert_close(state, last_state)


@pytest.mark.parametrize("heads", [None, 4])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_indices_choose_rows_and_padding_touches_none(
    dtype: torch.dtype, heads: int | None
) -> None:
    arguments = arguments_of(heads=heads)
    indices = torch.tensor([5, -1, 2], dtype=dtype)
    cache = torch.randn(7, *arguments["state"].shape[1:])
    before = cache.clone()
    arguments["state"] = cache
    got = selective_state_update(**arguments, state_batch_indices=indices)
    used = arguments_of(heads=heads) | {"state": before[[5, 0, 2]]}
    want = selective_state_update(**used)
    assert torch.equal(got[[0, 2]], want[[0, 2]])
    assert torch.all(got[1] == 0)
    assert torch.equal(cache[[5, 2]], used["state"][[0, 2]])
    untouched = [0, 1, 3, 4, 6]
    assert torch.equal(cache[untouched], before[untouched])


def test_reads_parameters_that_are_one_number_repeated() -> None:
    arguments = arguments_of(heads=4)
    tied = {
        "A": -torch.rand(4, 1, 1).expand(4, 5, 4),
        "dt": torch.rand(3, 4, 1).expand(3, 4, 5),
        "dt_bias": torch.rand(4, 1).expand(4, 5),
        "D": torch.rand(4, 1).expand(4, 5),
    }
    arguments |= tied
    _, want = written_out(**arguments)
    torch.testing.assert_close(
        selective_state_update(**arguments).double(), want, rtol=1e-5, atol=1e-5
    )


def test_carries_no_gradient_and_accepts_parameters() -> None:
    arguments = arguments_of()
    arguments["D"].requires_grad_()
    assert not selective_state_update(**arguments).requires_grad


@pytest.mark.parametrize(
    ("replaced", "error", "message"),
    [
        ({"x": torch.zeros(3, 6)}, ShapeError, r"x must have shape \(B, D\) with D = 5"),
        ({"dt": torch.zeros(2, 5)}, ShapeError, r"dt must have shape \(B, D\)"),
        ({"A": torch.zeros(5, 3)}, ShapeError, r"A must have shape \(D, N\)"),
        ({"B": torch.zeros(3, 9)}, ShapeError, r"B must have shape \(B, G, N\)"),
        ({"state": torch.zeros(2, 5, 4)}, ShapeError, "state must have the 3 sequences of x"),
        ({"A": torch.zeros(5, 4, dtype=torch.complex64)}, TypeError, "A must be real"),
        ({"z": torch.zeros(3, 5, dtype=torch.int64)}, TypeError, "z must hold real"),
        (
            {"state_batch_indices": torch.tensor([0, 1, 3])},
            ValueError,
            "state_batch_indices must be below the 3 rows of the state, got 3",
        ),
        (
            {"state_batch_indices": torch.tensor([0.0, 1.0, 2.0])},
            TypeError,
            "state_batch_indices must be int32 or int64",
        ),
        ({"backend": "nothing"}, ValueError, "backend must be one of"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_arguments_are_named(
    replaced: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        selective_state_update(**(arguments_of() | replaced))


def test_groups_divide_the_heads() -> None:
    arguments = arguments_of(heads=4, groups=3)
    with pytest.raises(ValueError, match="H must be divisible by the groups of B = 3, got 4"):
        selective_state_update(**arguments)
