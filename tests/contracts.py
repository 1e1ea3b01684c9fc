"""The questions that every layer is asked, each a function of one row of ``CASES``."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.checkpoint import checkpoint

from rgbt_fusion.benchmarking.cases import ByKeyword, Case

BATCH = 2


def build(case: Case, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, tuple[Any, ...]]:
    """Build the small size of a case, seeded, with its inputs."""
    torch.manual_seed(0)
    layer = case.small.build().to(dtype)
    return layer, case.small.inputs(torch.Generator().manual_seed(1), dtype)


def tensors(tree: Any, *, floating: bool = False) -> list[Tensor]:
    """Return the tensors in inputs or outputs, in order."""
    leaves = [x for x in tree_flatten(tree)[0] if isinstance(x, Tensor)]
    return [x for x in leaves if x.is_floating_point()] if floating else leaves


def changed(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Change every floating-point tensor of a tree; keep what requires a gradient so."""

    def apply(x: Any) -> Any:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            return x
        return change(x.detach()).requires_grad_(x.requires_grad)

    return tree_map(apply, tree)


def objective(outputs: Any) -> Tensor:
    """Weigh every output differently, so that no gradient cancels."""
    total = torch.zeros((), dtype=torch.float64)
    for i, x in enumerate(x for x in tensors(outputs, floating=True) if x.requires_grad):
        weights = torch.randn(
            x.shape, generator=torch.Generator().manual_seed(i), dtype=torch.float64
        )
        total = total + (x.double() * weights).sum()
    return total


def gradients(layer: nn.Module, inputs: tuple[Any, ...], outputs: Any) -> list[Tensor | None]:
    """Return the gradient of every input and parameter."""
    wanted = [x for x in [*tensors(inputs), *layer.parameters()] if x.requires_grad]
    return list(torch.autograd.grad(objective(outputs), wanted, allow_unused=True))


def assert_same(actual: Any, expected: Any, **tolerances: float) -> None:
    """Compare all tensors of two trees."""
    found, wanted = tensors(actual), tensors(expected)
    assert len(found) == len(wanted)
    for x, y in zip(found, wanted, strict=True):
        torch.testing.assert_close(x, y, **tolerances)


def runs_in(case: Case, dtype: torch.dtype) -> None:
    """Outputs have the dtype of the inputs and are finite; in low precision they stay near
    float32."""
    layer, inputs = build(case)
    expected = layer(*inputs)
    low_layer, low_inputs = build(case, dtype)
    outputs = low_layer(*low_inputs)
    for x, y in zip(tensors(outputs, floating=True), tensors(expected, floating=True), strict=True):
        assert x.shape == y.shape
        assert torch.isfinite(x).all()
        # A state may be kept in float32 whatever the inputs are.
        assert x.dtype in (dtype, torch.float32)
        error = (x.float() - y).abs().max() / y.abs().max().clamp(min=1e-6)
        assert error < 0.1, f"relative error {error:.3f} in {dtype}"


def gives_every_parameter_a_gradient(case: Case) -> None:
    """No parameter is left out of training, unless the case names it."""
    layer, inputs = build(case)
    objective(layer(*inputs)).backward()
    for name, parameter in layer.named_parameters():
        if name.startswith(case.untrained):
            continue
        assert parameter.grad is not None, f"{name} gets no gradient"
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, f"the gradient of {name} is zero"


def passes_gradcheck(case: Case) -> None:
    """The gradient is that of the output, in float64."""
    layer, inputs = build(case, torch.float64)
    leaves, spec = tree_flatten(inputs)
    places = [i for i, x in enumerate(leaves) if isinstance(x, Tensor) and x.requires_grad]
    parameters = {name: p for name, p in layer.named_parameters() if p.requires_grad}

    def function(*values: Tensor) -> tuple[Tensor, ...]:
        filled = list(leaves)
        for place, value in zip(places, values, strict=False):
            filled[place] = value
        named = dict(zip(parameters, values[len(places) :], strict=True))
        outputs = torch.func.functional_call(layer, named, tuple(spec.unflatten(filled)))
        return tuple(x for x in tensors(outputs, floating=True) if x.requires_grad)

    values = [leaves[i] for i in places] + [
        p.detach().clone().requires_grad_() for p in parameters.values()
    ]
    torch.manual_seed(5)
    assert torch.autograd.gradcheck(function, values, fast_mode=True, atol=1e-5, rtol=1e-3)


def survives_a_state_dict(case: Case) -> None:
    """A new layer with the old state computes the same, bit for bit."""
    layer, inputs = build(case)
    torch.manual_seed(99)
    other = case.small.build()
    other.load_state_dict(layer.state_dict())
    assert_same(other(*inputs), layer(*inputs), rtol=0, atol=0)


def keeps_samples_apart(case: Case) -> None:
    """Changing sample 1 never changes sample 0."""
    layer, inputs = build(case)

    def replace(x: Tensor) -> Tensor:
        if x.dim() and x.shape[0] == BATCH:
            x = x.clone()
            x[1] = torch.rand(x[1].shape, generator=torch.Generator().manual_seed(7), dtype=x.dtype)
        return x

    before, after = tensors(layer(*inputs)), tensors(layer(*changed(inputs, replace)))
    assert any(not torch.equal(x, y) for x, y in zip(before, after, strict=True)), (
        "the change was seen nowhere"
    )
    for x, y in zip(before, after, strict=True):
        torch.testing.assert_close(x[0], y[0])


def takes_strided_inputs(case: Case) -> None:
    """The memory layout of the inputs does not matter, forward or backward."""
    layer, inputs = build(case)
    strided = changed(
        inputs,
        lambda x: torch.stack([x, torch.full_like(x, float("nan"))], -1)[..., 0] if x.dim() else x,
    )
    outputs, expected = layer(*strided), layer(*inputs)
    assert_same(outputs, expected, rtol=1e-4, atol=1e-5)
    assert_same(
        gradients(layer, strided, outputs), gradients(layer, inputs, expected), rtol=1e-3, atol=1e-4
    )


def survives_checkpointing(case: Case, *, use_reentrant: bool) -> None:
    """Gradients under activation checkpointing are those without it."""

    def gradients_through(call: Callable[..., Any]) -> list[Tensor | None]:
        layer, inputs = build(case)
        leaves, spec = tree_flatten(inputs)

        def run(*leaves: Any) -> Any:
            return layer(*spec.unflatten(list(leaves)))

        objective(call(run, *leaves)).backward()
        wanted = [x for x in [*tensors(inputs), *layer.parameters()] if x.requires_grad]
        return [x.grad for x in wanted]

    def checkpointed(run: Callable[..., Any], *leaves: Any) -> Any:
        def tensors_of(*leaves: Any) -> tuple[Tensor, ...]:
            return tuple(tensors(run(*leaves)))

        return checkpoint(tensors_of, *leaves, use_reentrant=use_reentrant)

    def plain(run: Callable[..., Any], *leaves: Any) -> Any:
        return run(*leaves)

    found, expected = gradients_through(checkpointed), gradients_through(plain)
    for x, y in zip(found, expected, strict=True):
        assert (x is None) == (y is None)
        if x is not None and y is not None:
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


def compiles_in_one_graph(case: Case, backend: str = "aot_eager") -> None:
    """``torch.compile(fullgraph=True)`` computes the same outputs and gradients."""
    torch._dynamo.reset()
    layer, inputs = build(case)
    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    outputs, expected = compiled(*inputs), layer(*inputs)
    assert_same(outputs, expected, rtol=1e-4, atol=1e-5)
    assert_same(
        gradients(layer, inputs, outputs), gradients(layer, inputs, expected), rtol=1e-3, atol=1e-4
    )


def exports(case: Case) -> None:
    """``torch.export`` gives a program that computes the same."""
    layer, inputs = build(case)
    layer = layer.eval()
    inputs = changed(inputs, lambda x: x.clone())
    inputs = tree_map(lambda x: x.detach() if isinstance(x, Tensor) else x, inputs)
    with torch.no_grad():
        program = torch.export.export(layer, inputs).module()
        assert_same(program(*inputs), layer(*inputs), rtol=1e-4, atol=1e-5)


def runs_on(case: Case, device: str) -> None:
    """On another device the outputs and gradients are those of the CPU."""
    layer, inputs = build(case)
    outputs = layer(*inputs)
    expected = [outputs, gradients(layer, inputs, outputs)]
    moved = tree_map(
        lambda x: (
            x.detach().to(device).requires_grad_(x.requires_grad) if isinstance(x, Tensor) else x
        ),
        inputs,
    )
    layer = layer.to(device)
    outputs = layer(*moved)
    found = [
        outputs,
        gradients(
            layer, moved, tree_map(lambda x: x.cpu() if isinstance(x, Tensor) else x, outputs)
        ),
    ]
    assert all(x.device.type == device for x in tensors(found))
    assert_same(
        tree_map(lambda x: x.cpu() if isinstance(x, Tensor) else x, found),
        expected,
        rtol=1e-3,
        atol=1e-4,
    )


NOT_SHOWN = {
    # where and how parameters are made, and what is accepted for compatibility and does nothing
    "MambaBlock": {"use_fast_path", "layer_idx", "device", "dtype"},
    # of the gated form only
    "TwoWayCompensation": {"max_len", "dropout", "position_std"},
}


def shows_its_options(case: Case) -> None:
    """The repr names every option of the constructor, in the layer's line or as a part of it."""
    layer = case.small.build()
    if isinstance(layer, ByKeyword):
        layer = layer.module
    name = type(layer).__name__
    options = set(inspect.signature(type(layer)).parameters) - NOT_SHOWN.get(name, set())
    shown = repr(layer)
    missing = {x for x in options if f"{x}=" not in shown and f"({x}): " not in shown}
    assert not missing, f"the repr of {name} does not show {sorted(missing)}"


def documents_its_call(case: Case) -> None:
    """``forward`` says what goes in and what comes out."""
    layer = case.small.build()
    documented = type(layer).forward.__doc__
    assert documented, f"{type(layer).__name__}.forward has no docstring"
    assert "see the class" not in documented


def names_what_is_wrong(case: Case) -> None:
    """A first argument that is no tensor, or of the wrong rank, raises one error that says so."""
    layer, inputs = build(case)
    first = inputs[0]
    wrong_rank = [first[0][None, None]] if isinstance(first, list) else first[None, None]
    for wrong in (None, wrong_rank):
        try:
            layer(wrong, *inputs[1:])
        except (TypeError, ValueError) as error:
            assert "must" in str(error), f"the message does not state a rule: {error}"
        else:
            raise AssertionError(f"{case.name} took {type(wrong).__name__} without an error")
