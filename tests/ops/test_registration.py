"""How torch's machinery takes the ops: compilers, exporters, autocast, opcheck and a second
derivative."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode

from ops.agreement import ConvCase, ScanCase, make_conv_inputs, make_scan_inputs, upstream
from ops.modules import EVERY_MODULE, MODULES, Convolution, OrderedScans, tensors_for
from ops.public_arguments import floating, mamba_ssm_arguments
from rgbt_fusion import DFM, OFM, causal_conv1d, selective_scan
from rgbt_fusion.ops import registration


def results_and_gradients(
    run: Callable[..., tuple[Tensor, ...]], tensors: list[Tensor]
) -> list[Tensor]:
    results = run(*tensors)
    leaves = [x for x in tensors if x.requires_grad]
    return [*results, *torch.autograd.grad(results, leaves, [upstream(x, 1) for x in results])]


def assert_all_close(got: list[Tensor], want: list[Tensor]) -> None:
    for x, y in zip(got, want, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-6, atol=1e-6)


@EVERY_MODULE
def test_compiled_op_equals_the_eager_one(module: type[nn.Module]) -> None:
    torch.compiler.reset()
    tensors = tensors_for(module)
    compiled = torch.compile(module(), fullgraph=True, backend="aot_eager")
    assert_all_close(
        results_and_gradients(compiled, tensors), results_and_gradients(module(), tensors)
    )


@EVERY_MODULE
def test_one_compilation_serves_every_length(module: type[nn.Module]) -> None:
    torch.compiler.reset()
    compilations = []

    def counting(graph: torch.fx.GraphModule, example_inputs: Any) -> Callable[..., Any]:
        compilations.append(graph)
        return graph.forward

    compiled = torch.compile(module(), fullgraph=True, dynamic=True, backend=counting)
    for length in (72, 80, 136):
        tensors = [x.detach() for x in tensors_for(module, length)]
        assert_all_close(compiled(*tensors), module()(*tensors))
    assert len(compilations) == 1


@pytest.mark.slow
def test_inductor_equals_the_eager_scan() -> None:
    torch.compiler.reset()
    tensors = tensors_for(OrderedScans)
    # a compiled graph that another version of the library left behind has other checkpoints
    options: dict[str, Any] = {"fx_graph_cache": False}
    compiled = torch.compile(OrderedScans(), fullgraph=True, options=options)
    assert_all_close(
        results_and_gradients(compiled, tensors), results_and_gradients(OrderedScans(), tensors)
    )


@EVERY_MODULE
def test_exported_op_equals_the_eager_one(module: type[nn.Module]) -> None:
    tensors = [x.detach() for x in tensors_for(module)]
    exported = torch.export.export(module(), tuple(tensors))
    assert all(map(torch.equal, exported.module()(*tensors), module()(*tensors)))
    assert "rgbt_fusion" in exported.graph_module.code


def scan_op_arguments(present: bool, channels_first: bool, merge: bool) -> list[Any]:
    """Return the arguments of the custom op, with all optional tensors or none."""
    options = frozenset(
        {"D", "z", "delta_bias", "softplus", "readout", "initial_state"} if present else ()
    )
    case = ScanCase(
        "", length=6, channels=4, state=3, groups=2, directions=2, options=options, merge=merge
    )
    inputs = make_scan_inputs(case._replace(order=(2, 2, 3) if present else None))
    tensors: list[Any] = list(inputs[:11])
    for i in (0, 1, 3, 4, 7) if channels_first else ():
        tensors[i] = None if tensors[i] is None else tensors[i].movedim(2, -1).contiguous()
    return [*tensors, inputs.delta_softplus, merge, channels_first]


def with_gradients(arguments: list[Any]) -> list[Any]:
    return [
        x.detach().requires_grad_() if isinstance(x, Tensor) and x.is_floating_point() else x
        for x in arguments
    ]


PRESENT = pytest.mark.parametrize(
    "present", [False, True], ids=["no optional tensor", "all optional tensors"]
)


@PRESENT
@pytest.mark.parametrize(
    ("channels_first", "merge"), [(False, False), (False, True), (True, False)]
)
def test_scan_ops_keep_torchs_rules(present: bool, channels_first: bool, merge: bool) -> None:
    arguments = scan_op_arguments(present, channels_first, merge)
    forward = torch.ops.rgbt_fusion.selective_scan.default
    out, last_state, checkpoints = forward(*arguments, present, True, "auto")
    torch.library.opcheck(forward, (*with_gradients(arguments), present, True, "auto"))
    gradients = (
        torch.ones_like(out),
        torch.ones_like(last_state) if present else None,
        checkpoints,
    )
    backward = torch.ops.rgbt_fusion.selective_scan_backward.default
    torch.library.opcheck(backward, (*gradients, *arguments, "auto"))


@pytest.mark.parametrize("backend", ["auto", "vectorised", "reference"])
def test_the_backward_op_takes_strided_tensors(backend: str) -> None:
    """Also kept states, which samples under vmap share; beside them lie values that spoil all."""
    arguments = scan_op_arguments(present=True, channels_first=False, merge=False)
    forward = torch.ops.rgbt_fusion.selective_scan.default
    out, last_state, checkpoints = forward(*arguments, True, True, backend)
    given = [torch.ones_like(out), torch.ones_like(last_state), checkpoints]
    backward = torch.ops.rgbt_fusion.selective_scan_backward.default
    want = backward(*given, *arguments, backend)
    got = backward(*map(with_gaps, given), *arguments, backend)
    assert_all_close(got, want)


def with_gaps(x: Tensor) -> Tensor:
    """Return a tensor of the same values, between any two of which lies one that is no number."""
    wide = x.new_full((*x.shape, 2), torch.nan)
    wide[..., 0] = x
    return wide[..., 0]


@PRESENT
@pytest.mark.parametrize("channels_first", [False, True])
def test_convolution_ops_keep_torchs_rules(present: bool, channels_first: bool) -> None:
    case = ConvCase(
        "", length=6, channels=4, directions=2, bias=present, order=(2, 2, 3) if present else None
    )
    inputs = make_conv_inputs(case)
    x = inputs.x.mT.contiguous() if channels_first else inputs.x
    arguments = [x, *inputs[1:], channels_first]
    forward = torch.ops.rgbt_fusion.causal_conv1d.default
    out = forward(*arguments, present, "auto")
    torch.library.opcheck(forward, (*with_gradients(arguments), present, "auto"))
    torch.library.opcheck(
        torch.ops.rgbt_fusion.causal_conv1d_backward.default,
        (torch.ones_like(out), *arguments, "auto"),
    )


def test_autocast_casts_nothing_that_the_scan_is_given() -> None:
    """What the caller raised to float32 on purpose stays float32."""
    arguments = mamba_ssm_arguments(B="constant")
    leaves = floating(arguments)
    with torch.autocast("cpu", torch.bfloat16):
        out, last_state = selective_scan(**(arguments | leaves), return_last_state=True)
        out.sum().backward()
    want, want_state = selective_scan(**arguments, return_last_state=True)
    assert torch.equal(out, want) and torch.equal(last_state, want_state)
    assert all(x.grad is not None and x.grad.dtype == torch.float32 for x in leaves.values())


def test_autocast_casts_nothing_that_the_convolution_is_given() -> None:
    x, weight, bias = tensors_for(Convolution)
    with torch.autocast("cpu", torch.bfloat16):
        y = causal_conv1d(x, weight, bias, activation="silu")
        y.sum().backward()
    assert torch.equal(y, causal_conv1d(x, weight, bias, activation="silu"))
    assert x.grad is not None and weight.grad is not None
    assert weight.grad.dtype == x.grad.dtype == torch.float32


def test_low_precision_under_autocast_stays_low() -> None:
    arguments = mamba_ssm_arguments(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        out = selective_scan(**arguments)
    assert isinstance(out, Tensor) and out.dtype == torch.bfloat16
    assert torch.equal(out, selective_scan(**arguments))


@pytest.mark.parametrize("layer", [DFM, OFM], ids=["DFM", "OFM"])
def test_our_layers_scan_in_low_precision_under_autocast(layer: type[nn.Module]) -> None:
    """Their projections cast; torch would cast them back to the caller's precision for nothing."""
    seen: list[torch.dtype] = []

    class Dtypes(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func.namespace == "rgbt_fusion":
                seen.append(args[0].dtype)
            return func(*args, **(kwargs or {}))

    torch.manual_seed(0)
    tokens = torch.randn(2, 24, 16)
    inputs = (tokens, tokens) if layer is DFM else (torch.stack([tokens, tokens], 1),)
    module = layer(16) if layer is DFM else layer(16, num_layers=2)
    with torch.autocast("cpu", torch.bfloat16), Dtypes():
        module(*inputs)
    assert seen and set(seen) == {torch.bfloat16}


@MODULES
def test_a_second_derivative_is_refused(module: type[nn.Module]) -> None:
    tensors = tensors_for(module)
    (gradient,) = torch.autograd.grad(
        module()(*tensors)[0].square().sum(), tensors[0], create_graph=True
    )
    with pytest.raises(
        RuntimeError, match=r"(selective_scan|causal_conv1d) is differentiable once"
    ):
        gradient.sum().backward()


def test_the_way_around_is_taken_under_a_transform_alone() -> None:
    function = SimpleNamespace(apply=lambda *arguments: "function")
    op = registration.Op(lambda *arguments: "registered op", function)
    found = [op()]

    def differentiated(x: Tensor) -> Tensor:
        found.append(op())
        return x.sum()

    torch.func.grad(differentiated)(torch.ones(2))
    assert [*found, op()] == ["registered op", "function", "registered op"]


def test_dual_numbers_elsewhere_do_not_matter() -> None:
    x, weight = torch.randn(2, 6, 9), torch.randn(6, 4)
    expected = causal_conv1d(x, weight)
    with forward_ad.dual_level():
        assert torch.equal(causal_conv1d(x, weight), expected)
