"""Calls like earlier ones, which go straight to the native kernels: same bits, same errors."""

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ops.agreement import ScanCase, make_scan_inputs, upstream
from ops.modules import MODULES, tensors_for
from ops.public_arguments import floating, mamba_ssm_arguments, ordered_arguments
from rgbt_fusion import ShapeError, causal_conv1d, ordered_selective_scan, selective_scan
from rgbt_fusion.ops import prepared, reference
from rgbt_fusion.ops.backends import BACKEND_VARIABLE
from rgbt_fusion.ops.native import backend as native

pytestmark = pytest.mark.skipif(
    bool(native.why_missing()), reason="the compiled kernels are missing"
)


@pytest.fixture(autouse=True)
def no_plans() -> None:
    prepared.forget_every_plan()


class Watching(TorchDispatchMode):
    """Makes calls take the long way, and notes the ops that torch sees."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "rgbt_fusion":
            self.names.append(func._opname)
        return func(*args, **(kwargs or {}))


def results_and_gradients(run: Callable[..., Any], tensors: list[Tensor]) -> list[Tensor]:
    results = run(*tensors)
    leaves = [x for x in tensors if x.requires_grad]
    return [*results, *torch.autograd.grad(results, leaves, [upstream(x, 1) for x in results])]


def by_the_op(run: Callable[..., Any], tensors: list[Tensor]) -> list[Tensor]:
    with Watching() as watching:
        found = results_and_gradients(run, tensors)
    assert len(watching.names) == 2
    return found


def assert_same_tensors(got: list[Tensor], want: list[Tensor]) -> None:
    for x, y in zip(got, want, strict=True):
        assert torch.equal(x, y)
        assert x.dtype == y.dtype and x.stride() == y.stride()


@MODULES
def test_a_prepared_call_gives_the_bits_and_the_layout_of_the_op(module: type[nn.Module]) -> None:
    tensors = tensors_for(module)
    want = by_the_op(module(), tensors)
    for _ in range(3):
        assert_same_tensors(results_and_gradients(module(), tensors), want)


FORMS = {
    "plain": {},
    "no options": {"D": None, "z": None, "delta_bias": None, "delta_softplus": False},
    "constant B": {"B": "constant"},
    "groups": {"B": "groups", "C": "groups"},
    "one group for three": {"B": "one group", "C": "groups"},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("layout", ["channels", "tokens", "strided", "halves"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_and_layout_gives_the_bits_of_the_op(
    form: str, layout: str, dtype: torch.dtype
) -> None:
    changes = dict(FORMS[form])
    coefficients = {name: changes.pop(name, "varying") for name in ("B", "C")}
    arguments = mamba_ssm_arguments(dtype, **coefficients) | changes
    if not arguments["delta_softplus"]:  # the step sizes must be small and positive by themselves
        arguments["delta"] = arguments["delta"].abs() / 50
    leaves = floating(arguments)

    def laid_out(name: str, x: Tensor) -> Tensor:
        if name not in ("u", "delta", "z", "B", "C") or x.dim() == 2 or layout == "channels":
            return x
        if layout == "tokens":
            return x.transpose(-1, -2).contiguous().transpose(-1, -2)
        if layout == "strided":
            return torch.stack([x, x], -1)[..., 0]
        return torch.cat([x, x], 1)[:, : x.shape[1]]

    def run(*values: Tensor) -> Any:
        views = {k: laid_out(k, x) for k, x in zip(leaves, values, strict=True)}
        return selective_scan(**(arguments | views), return_last_state=True)

    tensors = list(leaves.values())
    with Watching():
        want = results_and_gradients(run, tensors)
    for _ in range(2):
        assert_same_tensors(results_and_gradients(run, tensors), want)


@pytest.mark.parametrize("result", [0, 1])
def test_one_result_alone_can_be_differentiated(result: int) -> None:
    arguments = mamba_ssm_arguments()
    leaves = floating(arguments)

    def gradients() -> list[Tensor | None]:
        found = selective_scan(**(arguments | leaves), return_last_state=True)[result]
        inputs = list(leaves.values())
        return list(torch.autograd.grad(found.sum(), inputs, allow_unused=True))

    with Watching():
        want = gradients()
    for _ in range(2):
        for x, y in zip(gradients(), want, strict=True):
            assert (x is None or not x.any()) if y is None else x is not None and torch.equal(x, y)


def test_every_call_has_results_of_its_own() -> None:
    arguments = mamba_ssm_arguments()
    first = selective_scan(**arguments, return_last_state=True)
    kept = [x.clone() for x in first]
    second = selective_scan(**(arguments | {"u": arguments["u"] * 2}), return_last_state=True)
    assert all(map(torch.equal, first, kept))
    assert not torch.equal(first[0], second[0])


@pytest.mark.parametrize("trusted", [False, True])
def test_an_order_is_checked_at_every_call(trusted: bool) -> None:
    arguments = ordered_arguments(make_scan_inputs(ScanCase("", length=12, order=(1, 1, 4))))
    ordered_selective_scan(**arguments, trusted_order=trusted)
    wrong = arguments | {"order": torch.tensor([0, 1, 1, 9])}
    if trusted:
        ordered_selective_scan(**wrong, trusted_order=True)
        return
    with pytest.raises(ValueError, match=r"got a second 1 at \(0, 0, 2\) of shape \(1, 1, 4\)"):
        ordered_selective_scan(**wrong)


def test_a_wrong_call_is_refused_after_a_right_one() -> None:
    arguments = mamba_ssm_arguments()
    selective_scan(**arguments)
    for _ in range(2):
        with pytest.raises(ShapeError, match="delta must have the shape of u"):
            selective_scan(**(arguments | {"delta": arguments["delta"][:, :, 1:]}))
        with pytest.raises(ValueError, match="backend must be one of"):
            selective_scan(**arguments, backend="fastest")  # pyright: ignore


def test_the_environment_is_asked_at_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = mamba_ssm_arguments()
    selective_scan(**arguments)
    calls = []
    forward = reference.scan_forward
    monkeypatch.setattr(reference, "scan_forward", lambda *x: (calls.append(x), forward(*x)))
    monkeypatch.setenv(BACKEND_VARIABLE, "reference")
    selective_scan(**arguments)
    assert len(calls) == 1


@MODULES
def test_torch_sees_the_op_after_a_prepared_call(module: type[nn.Module]) -> None:
    tensors = [x.detach() for x in tensors_for(module)]
    module()(*tensors)
    with Watching() as watching:
        module()(*tensors)
    assert len(watching.names) == 1


def test_a_subclass_of_tensor_is_not_looked_through() -> None:
    class Noting(Tensor):
        """Notes that one of torch's functions was called on it."""

        calls = 0

        @classmethod
        def __torch_function__(
            cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            cls.calls += 1
            return super().__torch_function__(func, types, args, kwargs or {})

    arguments = mamba_ssm_arguments()
    selective_scan(**arguments)
    selective_scan(**(arguments | {"u": arguments["u"].as_subclass(Noting)}))
    assert Noting.calls > 0


def test_a_profiler_shows_prepared_calls_by_name() -> None:
    arguments = mamba_ssm_arguments()
    selective_scan(**arguments)
    with torch.autograd.profiler.profile() as profile:
        selective_scan(**arguments)
    events = profile.function_events or []
    assert "rgbt_fusion::selective_scan" in {event.name for event in events}


def test_a_plan_keeps_no_tensor() -> None:
    arguments = mamba_ssm_arguments()
    x, weight = arguments["u"], torch.randn(6, 4)

    def tensors_alive() -> int:
        gc.collect()
        return sum(type(x) is Tensor for x in gc.get_objects())

    selective_scan(**arguments)
    causal_conv1d(x, weight)
    prepared.forget_every_plan()
    before = tensors_alive()
    selective_scan(**arguments)
    causal_conv1d(x, weight)
    assert tensors_alive() == before


def test_only_so_many_kinds_of_calls_are_remembered() -> None:
    plans = prepared.Remembered(lambda tensors: object())
    for length in range(plans.MOST + 5):
        plans.plan([torch.empty(length + 1)])
    assert len(plans._plans) == 5


def convolved(x: Tensor) -> Tensor:
    weight = torch.linspace(-1, 1, 12).view(3, 4)
    return causal_conv1d(x, weight, activation="silu")


def scanned(x: Tensor) -> Tensor:
    A, B = -torch.ones(3, 4), torch.linspace(-1, 1, 36).view(1, 4, 9)
    out = selective_scan(x, torch.full_like(x, 0.1), A, B, B)
    assert isinstance(out, Tensor)
    return out


BOTH_OPS = pytest.mark.parametrize("run", [convolved, scanned])


@BOTH_OPS
def test_a_second_derivative_is_refused_after_a_prepared_call(
    run: Callable[[Tensor], Tensor],
) -> None:
    x = torch.randn(1, 3, 9, requires_grad=True)
    torch.autograd.grad(run(x).square().sum(), x)
    (slope,) = torch.autograd.grad(run(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="is differentiable once"):
        torch.autograd.grad(slope.sum(), x)


@BOTH_OPS
def test_saved_tensors_may_come_back_in_another_layout(run: Callable[[Tensor], Tensor]) -> None:
    def turned(x: Tensor) -> Tensor:
        return x.transpose(-1, -2).contiguous().transpose(-1, -2) if x.dim() > 1 else x

    x = torch.randn(1, 3, 9, requires_grad=True)
    (expected,) = torch.autograd.grad(run(x).square().sum(), x)
    with torch.autograd.graph.saved_tensors_hooks(turned, lambda x: x):
        out = run(x).square().sum()
    (found,) = torch.autograd.grad(out, x)
    torch.testing.assert_close(found, expected)
