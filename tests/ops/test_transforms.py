"""What torch does around a gradient: checkpointing, saved tensors, torch.func, dual numbers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from ops.modules import EVERY_MODULE, MODULES, tensors_for
from rgbt_fusion import ordered_causal_conv1d, ordered_selective_scan

FORWARD_MODE = r"(selective_scan|causal_conv1d) has no derivative in forward mode"


def objective(run: Callable[..., Any], *tensors: Tensor) -> Tensor:
    """Weigh every result differently, so that no gradient cancels."""
    results = run(*tensors)
    weights = [torch.arange(x.numel()).view(x.shape).cos() for x in results]
    return torch.stack([(x * w).sum() for x, w in zip(results, weights, strict=True)]).sum()


def floating_places(tensors: list[Tensor]) -> tuple[int, ...]:
    return tuple(i for i, x in enumerate(tensors) if x.is_floating_point())


def gradients(run: Callable[..., Any], tensors: list[Tensor]) -> list[Tensor]:
    leaves = [x for x in tensors if x.requires_grad]
    for x in leaves:
        x.grad = None
    objective(run, *tensors).backward()
    return [x.grad for x in leaves if x.grad is not None]


def assert_all_close(got: Any, want: Any) -> None:
    assert len(got) == len(want)
    for x, y in zip(got, want, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-5)


@EVERY_MODULE
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradients_under_checkpointing_are_the_plain_ones(
    module: type[nn.Module], use_reentrant: bool
) -> None:
    tensors = tensors_for(module)
    run = module()

    def checkpointed(*values: Tensor) -> Any:
        return checkpoint(run, *values, use_reentrant=use_reentrant)

    for got, want in zip(gradients(checkpointed, tensors), gradients(run, tensors), strict=True):
        assert torch.equal(got, want)


@MODULES
def test_saved_tensors_may_wait_on_the_cpu(module: type[nn.Module]) -> None:
    tensors = tensors_for(module)
    with torch.autograd.graph.save_on_cpu():
        got = gradients(module(), tensors)
    assert_all_close(got, gradients(module(), tensors))


@MODULES
def test_saved_tensors_are_unpacked_once(module: type[nn.Module]) -> None:
    """A shard that is gathered for the backward pass is freed again after one use."""
    kept: dict[int, Tensor] = {}

    def pack(x: Tensor) -> int:
        kept[len(kept)] = x.clone()
        return len(kept) - 1

    tensors = tensors_for(module)
    with torch.autograd.graph.saved_tensors_hooks(pack, kept.pop):
        got = gradients(module(), tensors)
    assert not kept
    assert_all_close(got, gradients(module(), tensors))


@EVERY_MODULE
def test_func_grad_gives_the_gradients_of_backward(module: type[nn.Module]) -> None:
    tensors = tensors_for(module)
    plain = [x.detach() for x in tensors]

    def loss(*values: Tensor) -> Tensor:
        return objective(module(), *values)

    got = torch.func.grad(loss, argnums=floating_places(tensors))(*plain)
    assert_all_close(got, gradients(module(), tensors))


SAMPLES = 3


@EVERY_MODULE
@pytest.mark.parametrize("everything", [False, True], ids=["one input", "every input"])
def test_vmap_of_grad_gives_the_gradients_of_each_sample(
    module: type[nn.Module], everything: bool
) -> None:
    tensors = [x.detach() for x in tensors_for(module)]
    places = floating_places(tensors)
    batched = [everything or i == 0 for i in range(len(tensors))]
    samples = list(tensors)
    for i, own in enumerate(batched):
        if own and i in places:
            shifts = torch.arange(SAMPLES, dtype=tensors[i].dtype)
            samples[i] = torch.stack([tensors[i] + shift / 8 for shift in shifts], 1)
        elif own:
            samples[i] = torch.stack([tensors[i].roll(k, -1) for k in range(SAMPLES)], 1)

    def loss(*values: Tensor) -> Tensor:
        return objective(module(), *values)

    grad = torch.func.grad(loss, argnums=places)
    axes = tuple(1 if own else None for own in batched)
    got = torch.func.vmap(grad, in_dims=axes)(*samples)
    one_by_one = []
    for k in range(SAMPLES):
        own = [x[:, k] if own else x for x, own in zip(samples, batched, strict=True)]
        one_by_one.append(grad(*own))
    assert_all_close(got, [torch.stack(x) for x in zip(*one_by_one, strict=True)])


@EVERY_MODULE
def test_vmap_gives_the_results_of_each_sample(module: type[nn.Module]) -> None:
    tensors = [x.detach() for x in tensors_for(module)]
    samples = torch.stack([tensors[0], tensors[0] * 2])
    got = torch.func.vmap(lambda x: tuple(module()(x, *tensors[1:])))(samples)
    want = [module()(x, *tensors[1:]) for x in samples]
    assert_all_close(got, [torch.stack(x) for x in zip(*want, strict=True)])


@pytest.mark.parametrize("op", ["scan", "convolution"])
def test_samples_share_the_parameters_of_several_directions(op: str) -> None:
    """One sample after another, with parameters that have directions and no axis of samples."""
    torch.manual_seed(0)
    samples = torch.randn(3, 2, 6, 4)
    A, coefficients, weight = -torch.rand(2, 4, 3), torch.randn(2, 6, 3), torch.randn(2, 4, 3)

    def run(x: Tensor) -> Tensor:
        if op == "convolution":
            return ordered_causal_conv1d(x, weight)
        return ordered_selective_scan(x, x, A, coefficients, coefficients).out

    torch.testing.assert_close(torch.vmap(run)(samples), torch.stack([run(x) for x in samples]))


@MODULES
def test_jacrev_is_the_jacobian_of_backward(module: type[nn.Module]) -> None:
    tensors = [x.detach() for x in tensors_for(module, length=8)]
    places = floating_places(tensors)

    def sums(*given: Tensor) -> Tensor:
        values = dict(enumerate(tensors)) | dict(zip(places, given, strict=True))
        return module()(*values.values())[0].sum(-1).flatten()[:5]

    floating = tuple(tensors[place] for place in places)
    got = torch.func.jacrev(sums, argnums=tuple(range(len(floating))))(*floating)
    want = torch.autograd.functional.jacobian(sums, floating)
    assert_all_close(got, want)


def by_jvp(run: Callable[..., Any], tensors: list[Tensor]) -> None:
    torch.func.jvp(lambda x: run(x, *tensors[1:])[0], (tensors[0],), (tensors[0],))


def by_jacfwd(run: Callable[..., Any], tensors: list[Tensor]) -> None:
    torch.func.jacfwd(lambda x: run(x, *tensors[1:])[0])(tensors[0])


def by_dual_numbers(run: Callable[..., Any], tensors: list[Tensor]) -> None:
    with forward_ad.dual_level():
        run(forward_ad.make_dual(tensors[0], tensors[0]), *tensors[1:])


@MODULES
@pytest.mark.parametrize("differentiate", [by_jvp, by_jacfwd, by_dual_numbers])
def test_forward_mode_is_refused(
    module: type[nn.Module], differentiate: Callable[..., None]
) -> None:
    tensors = [x.detach() for x in tensors_for(module)]
    with pytest.raises(RuntimeError, match=FORWARD_MODE):
        differentiate(module(), tensors)


@pytest.mark.parametrize("differentiate", [by_jvp, by_jacfwd, by_dual_numbers])
def test_forward_mode_of_the_op_itself_is_refused(differentiate: Callable[..., None]) -> None:
    def run(x: Tensor, weight: Tensor) -> tuple[Tensor]:
        return (
            torch.ops.rgbt_fusion.causal_conv1d(x, weight, None, None, True, False, False, "auto"),
        )

    with pytest.raises(RuntimeError, match=FORWARD_MODE):
        differentiate(run, [torch.randn(1, 2, 9, 6), torch.randn(1, 6, 4)])


@MODULES
def test_a_second_derivative_is_refused_by_transforms_too(module: type[nn.Module]) -> None:
    tensors = [x.detach() for x in tensors_for(module)]

    def loss(x: Tensor) -> Tensor:
        return objective(module(), x, *tensors[1:]).square()

    def slope(x: Tensor) -> Tensor:
        return torch.func.grad(loss)(x).sum()

    with pytest.raises(RuntimeError, match="is differentiable once"):
        torch.func.grad(slope)(tensors[0])
