"""What is measured, as plain data, and the functions that run it: here, or in a fresh process."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from rgbt_fusion.benchmarking import baselines
from rgbt_fusion.benchmarking.baselines import CONVOLUTIONS, SCANS, ScanTensors
from rgbt_fusion.benchmarking.cases import find_setup
from rgbt_fusion.benchmarking.permuted_copies import (
    COPIES,
    CopiedScans,
    PermutedCopiesMamba,
    scan_copies,
)
from rgbt_fusion.checks import check_choice
from rgbt_fusion.layers.all_layer_self_attention import AllLayerSelfAttention
from rgbt_fusion.layers.attention import Attention, AttentionWithScores
from rgbt_fusion.layers.cross_attention_fusion import CrossAttentionFusion
from rgbt_fusion.layers.difference_fusion_mamba import DFM
from rgbt_fusion.layers.mamba import MambaBlock
from rgbt_fusion.layers.order_dynamic_fusion_mamba import OFM
from rgbt_fusion.ops.arithmetic import count_macs, count_parameters
from rgbt_fusion.ops.backends import BackendName
from rgbt_fusion.ops.causal_conv1d import causal_conv1d, ordered_causal_conv1d
from rgbt_fusion.ops.selective_scan import ordered_selective_scan, selective_scan

__all__ = [
    "ATTENTION",
    "TASKS",
    "Call",
    "Draw",
    "Prepared",
    "Task",
    "Workload",
    "error_against_float64",
    "errors_against_float64",
    "exact_results",
    "prepare",
    "prepare_module",
    "shrunk",
]


BACKEND_NAMES: tuple[BackendName, ...] = get_args(BackendName)


@dataclass(frozen=True)
class Workload:
    """One thing that can be run: who does what, on what."""

    task: str
    """A key of :data:`TASKS`."""
    contender: str
    """A backend of the ops, or what is compared with it."""
    sizes: dict[str, int] = field(default_factory=dict)
    """In the letters of the documentation: B, L, C, K for layers; B, D, L, N, W, K for ops."""
    dtype: str = "float32"
    layout: str = "token"
    """``"token"`` for ``(B, L, D)`` memory, ``"channel"`` for ``(B, D, L)``."""
    backward: bool = False
    """Forward and backward, instead of forward without a graph."""
    threads: int = 1
    device: str = "cpu"


class Prepared(NamedTuple):
    """A forward pass without arguments, and what a backward pass gives gradients to."""

    forward: Callable[[], Any]
    leaves: Sequence[Tensor]


class Draw:
    """Seeded values whose numbers depend on neither layout, dtype nor contender."""

    def __init__(self, workload: Workload, exact: bool) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.dtype: torch.dtype = getattr(torch, workload.dtype)
        self.exact = exact
        self.workload = workload

    def _place(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        x = x.to(dtype)
        if self.exact:
            x = x.double()
        return x.to(self.workload.device).requires_grad_(self.workload.backward)

    def sequence(self, *shape: int, scale: float = 1.0) -> Tensor:
        """Return a sequence of token-major ``shape``, laid out as the workload says."""
        x = torch.randn(shape, generator=self.generator) * scale
        if self.workload.layout == "channel":
            x = x.mT.contiguous()
        return self._place(x, self.dtype)

    def parameter(self, *shape: int, low: float = -1.0, high: float = 1.0) -> Tensor:
        """Return a uniform parameter in the precision of parameters."""
        x = torch.rand(shape, generator=self.generator) * (high - low) + low
        return self._place(x, torch.float32)

    def decay(self, *shape: int) -> Tensor:
        """Return Mamba's initial decay rates, -1 to -N."""
        rates = torch.arange(1.0, shape[-1] + 1).expand(shape)
        return self._place(-rates.clone(), torch.float32)

    def step_bias(self, *shape: int) -> Tensor:
        """Return Mamba's initial step biases: steps of 0.001 to 0.1 behind the softplus."""
        step = torch.rand(shape, generator=self.generator) * 0.099 + 0.001
        return self._place(torch.log(torch.expm1(step)), torch.float32)

    def order(self, *shape: int) -> Tensor:
        """Return random segment orders."""
        return torch.rand(shape, generator=self.generator).argsort(-1).to(self.workload.device)


def _sizes(workload: Workload, axes: str) -> tuple[int, ...]:
    return tuple(workload.sizes[axis] for axis in axes)


def _backend(workload: Workload) -> BackendName:
    """Return the contender as a backend of the ops.

    Raises:
        ValueError: it is no backend.
    """
    return check_choice(workload.contender, BACKEND_NAMES, name="contender")


def _segment_order(workload: Workload, draw: Draw) -> Tensor | None:
    """Return a random order of K segments, or None where the workload has no K."""
    return draw.order(workload.sizes["K"]) if "K" in workload.sizes else None


def _scan(workload: Workload, draw: Draw) -> Prepared:
    """The selective scan with skip, gate, bias and softplus.

    With K it runs token-major in a random order of K segments.
    """
    B, D, L, N = _sizes(workload, "BDLN")
    u = draw.sequence(B, L, D)
    z = draw.sequence(B, L, D)
    delta = draw.sequence(B, L, D, scale=0.5)
    B_in = draw.sequence(B, L, N)
    C_out = draw.sequence(B, L, N)
    A = draw.decay(D, N)
    skip = draw.parameter(D)
    leaves = (u, delta, A, B_in, C_out, skip, z, draw.step_bias(D))
    order = _segment_order(workload, draw)
    channels_first = workload.layout == "channel"
    if workload.contender in SCANS:
        baseline = SCANS[workload.contender]
        if channels_first:
            return Prepared(lambda: baseline(ScanTensors(*leaves)), leaves)
        views = ScanTensors(*map(_turned, leaves))
        return Prepared(lambda: baseline(views).mT, leaves)
    backend = _backend(workload)

    def our_scan() -> Any:
        if channels_first:
            return selective_scan(*leaves, delta_softplus=True, backend=backend)
        scan = ordered_selective_scan(*leaves, delta_softplus=True, order=order, backend=backend)
        return scan.out

    return Prepared(our_scan, leaves)


def _turned(x: Tensor) -> Tensor:
    """Swap tokens and channels of a sequence; a parameter stays as it is."""
    return x.mT if x.dim() == 3 else x


def _conv(workload: Workload, draw: Draw) -> Prepared:
    """The causal convolution with SiLU."""
    B, D, L, W = _sizes(workload, "BDLW")
    x = draw.sequence(B, L, D)
    weight = draw.parameter(D, W)
    bias = draw.parameter(D)
    order = _segment_order(workload, draw)
    channels_first = workload.layout == "channel"
    if workload.contender in CONVOLUTIONS:
        baseline = CONVOLUTIONS[workload.contender]
        if channels_first:
            return Prepared(lambda: baseline(x, weight, bias), (x, weight, bias))
        return Prepared(lambda: baseline(x.mT, weight, bias).mT, (x, weight, bias))
    backend = _backend(workload)

    def our_convolution() -> Tensor:
        if channels_first:
            return causal_conv1d(x, weight, bias, activation="silu", backend=backend)
        return ordered_causal_conv1d(x, weight, bias, "silu", order=order, backend=backend)

    return Prepared(our_convolution, (x, weight, bias))


DIRECTIONS = 3
"""How many orders the OFM scans in: forward, backward and a predicted one."""


def _directions(workload: Workload, draw: Draw) -> Prepared:
    """Convolution and scan of the OFM in three orders of K layers, without the projections.

    A contender of permuted copies gets what depends on the convolved sequence in its own order
    already.
    """
    B, D, L, N, W, K = _sizes(workload, "BDLNWK")
    xz = draw.sequence(B, K * L, 2 * D)
    delta = [draw.sequence(B, K * L, D, scale=0.5) for _ in range(DIRECTIONS)]
    B_in = [draw.sequence(B, K * L, N) for _ in range(DIRECTIONS)]
    C_out = [draw.sequence(B, K * L, N) for _ in range(DIRECTIONS)]
    scans = CopiedScans(
        conv_weight=draw.parameter(DIRECTIONS, D, W),
        conv_bias=draw.parameter(DIRECTIONS, D),
        A=draw.decay(DIRECTIONS, D, N),
        D=draw.parameter(DIRECTIONS, D),
        delta_bias=draw.step_bias(DIRECTIONS, D),
    )
    natural = torch.arange(K, device=workload.device).expand(B, K)
    orders = torch.stack([natural, natural.flip(-1), draw.order(B, K)])
    if workload.contender in COPIES:
        copies = COPIES[workload.contender]
        projected = list(zip(delta, B_in, C_out, strict=True))
        return Prepared(
            lambda: scan_copies(xz, orders, scans, lambda r, x: projected[r], copies),
            (xz, *scans, *delta, *B_in, *C_out),
        )

    def stacked(tensors: list[Tensor]) -> Tensor:
        return torch.stack(tensors).detach().requires_grad_(workload.backward)

    all_delta = stacked(delta)
    all_B = stacked(B_in)
    all_C = stacked(C_out)
    backend = _backend(workload)

    def one_call() -> Tensor:
        x, z = xz.chunk(2, dim=-1)
        x = ordered_causal_conv1d(
            x,
            scans.conv_weight,
            scans.conv_bias,
            "silu",
            order=orders,
            trusted_order=True,
            backend=backend,
        )
        return ordered_selective_scan(
            x,
            all_delta,
            scans.A,
            all_B,
            all_C,
            scans.D,
            z,
            scans.delta_bias,
            delta_softplus=True,
            order=orders,
            merge=True,
            trusted_order=True,
            backend=backend,
        ).out

    return Prepared(one_call, (xz, *scans, all_delta, all_B, all_C))


def prepare_module(workload: Workload, draw: Draw, module: nn.Module, *inputs: Any) -> Prepared:
    """Prepare a module whose parameters are equal for every contender that has the same ones."""
    module = module.to(workload.device, torch.float64 if draw.exact else draw.dtype).eval()
    return Prepared(lambda: module(*inputs), (*_tensors(inputs), *module.parameters()))


def _mamba(workload: Workload, dim: int, expand: float) -> nn.Module:
    N = workload.sizes.get("N", 16)
    if workload.contender == "written in PyTorch":
        return baselines.MambaInPyTorch(dim, N, expand=expand)
    if workload.contender == "mambapy":
        return baselines.mambapy_block(dim, N)
    if workload.contender == "mamba-ssm":
        return baselines.mamba_ssm_block(dim, N)
    return MambaBlock(dim, N, expand=expand, backend=_backend(workload))


def _block(workload: Workload, draw: Draw) -> Prepared:
    """A Mamba block of expand 2, or only the convolution and the scan inside it."""
    B, L, C = _sizes(workload, "BLC")
    tokens = draw.sequence(B, L, C)
    if workload.contender != "its scan and convolution":
        return prepare_module(workload, draw, _mamba(workload, C, 2), tokens)
    block = MambaBlock(C, workload.sizes.get("N", 16)).to(workload.device)
    with torch.no_grad():
        xz = block.in_proj(tokens)
        projected = block.x_proj(xz.chunk(2, -1)[0])
        delta, B_in, C_out = projected.split([block.dt_rank, block.d_state, block.d_state], -1)
        delta = nn.functional.linear(delta, block.dt_proj.weight)
        A = -torch.exp(block.A_log)
    taps = block.conv1d.weight[:, 0]
    bias = block.conv1d.bias

    def scan_and_convolution() -> Tensor:
        x, z = xz.chunk(2, -1)
        x = ordered_causal_conv1d(x, taps, bias, "silu")
        return ordered_selective_scan(
            x, delta, A, B_in, C_out, block.D, z, block.dt_proj.bias, delta_softplus=True
        ).out

    leaves = (block.D, block.conv1d.weight, block.dt_proj.bias)
    return Prepared(scan_and_convolution, leaves)


ATTENTION: dict[str, Any] = {
    "fused attention": "fused",
    "written-out attention": "explicit",
    "fused, scores": "fused",
    "written out, scores": "explicit",
}
"""Contenders that attend, and how their attention is computed."""


def _dfm(workload: Workload, draw: Draw) -> Prepared:
    """A DFM, or the cross-attention in its place."""
    B, L, C = _sizes(workload, "BLC")
    rgb = draw.sequence(B, L, C)
    tir = draw.sequence(B, L, C)
    if workload.contender in ATTENTION:
        attention = ATTENTION[workload.contender]
        fusion = CrossAttentionFusion(C, C // 64 or 1, attention=attention)
        return prepare_module(workload, draw, fusion, rgb, tir)
    dfm = DFM(C)
    dfm.mamba = _mamba(workload, C, 1)  # pyright: ignore[reportAttributeAccessIssue]
    return prepare_module(workload, draw, dfm, rgb, tir)


def _ofm(workload: Workload, draw: Draw) -> Prepared:
    """An OFM over K layers, the same with permuted copies, or the self-attention in its place."""
    B, L, C, K = _sizes(workload, "BLCK")
    features = [draw.sequence(B, L, C) for _ in range(K)]
    if workload.contender in ATTENTION:
        attention = ATTENTION[workload.contender]
        fusion = AllLayerSelfAttention(C, C // 64 or 1, attention=attention)
        return prepare_module(workload, draw, fusion, features)
    if workload.contender not in COPIES:
        ofm = OFM(C, num_layers=K, backend=_backend(workload))
        return prepare_module(workload, draw, ofm, features)
    ofm = OFM(C, num_layers=K, order_gradient="none")
    in_one_call = ofm.scans
    in_copies = PermutedCopiesMamba(
        C, DIRECTIONS, in_one_call.d_state, 4, 2, in_one_call.dt_rank, "auto"
    )
    in_copies.copies = COPIES[workload.contender]
    in_copies.load_state_dict(in_one_call.state_dict())
    ofm.scans = in_copies
    return prepare_module(workload, draw, ofm, features)


def _attention(workload: Workload, draw: Draw) -> Prepared:
    """Self-attention over L tokens in S streams, each led by T template tokens."""
    B, L, C, T, S = _sizes(workload, "BLCTS")
    tokens = draw.sequence(B, L, C)
    if workload.contender == "fused, no scores":
        return prepare_module(workload, draw, Attention(C, C // 64 or 1), tokens)
    attention = AttentionWithScores(C, C // 64 or 1, attention=ATTENTION[workload.contender])
    prepared = prepare_module(workload, draw, attention, tokens)
    return prepared._replace(forward=lambda: attention(tokens, T, streams=S))


def _layer(workload: Workload, draw: Draw) -> Prepared:
    """A row of :data:`~rgbt_fusion.benchmarking.cases.CASES`, named by the contender."""
    setup = find_setup(workload.contender)
    module = setup.build().to(workload.device, draw.dtype).eval()
    inputs = _moved(setup.inputs(draw.generator, draw.dtype), workload.device)
    tensors = (*_tensors(inputs), *module.parameters())
    return Prepared(lambda: module(*inputs), [x for x in tensors if x.requires_grad])


def _moved(inputs: Any, device: str) -> Any:
    if isinstance(inputs, Tensor):
        return inputs.detach().to(device).requires_grad_(inputs.requires_grad)
    if isinstance(inputs, tuple | list):
        return type(inputs)(_moved(x, device) for x in inputs)
    return inputs


def _count_layer(workload: Workload) -> dict[str, int]:
    setup = find_setup(workload.contender)
    module = setup.build().eval()
    inputs = setup.inputs(torch.Generator().manual_seed(0), torch.float32)
    return {"parameters": count_parameters(module), "macs": count_macs(module, *inputs)}


SMALL_SIZES = {"B": 1, "D": 16, "L": 8, "C": 64, "N": 4, "K": 1, "T": 1}


def _shrink_sizes(workload: Workload) -> Workload:
    sizes = {axis: min(size, SMALL_SIZES.get(axis, size)) for axis, size in workload.sizes.items()}
    return replace(workload, sizes=sizes)


def _shrink_layer(workload: Workload) -> Workload:
    case = workload.contender.partition(":")[0]
    return replace(workload, contender=f"{case}: small")


Call = Callable[[], tuple[Tensor, ...]]
"""Runs a workload once and returns its outputs and gradients."""


def errors_against_float64(
    entries: Mapping[str, Workload], calls: Mapping[str, Call]
) -> dict[str, dict[str, float]]:
    """Return the errors of each of our contenders against float64.

    Contenders that have the same inputs share one run in float64.

    Args:
        entries: the contenders by label.
        calls: what runs each of them; not used here.
    """
    errors = {}
    truths: dict[tuple[str, str, str], tuple[Tensor, ...]] = {}
    for label, workload in entries.items():
        if workload.contender in (*SCANS, *CONVOLUTIONS):
            continue  # the tests hold them against the same loop
        inputs = (workload.dtype, workload.layout, str(workload.sizes))
        if inputs not in truths:
            truths[inputs] = exact_results(workload)
        errors[label] = error_against_float64(workload, truths[inputs])
    return errors


@dataclass(frozen=True)
class Task:
    """One kind of workload: how it is run, and what is measured besides its time."""

    prepare: Callable[[Workload, Draw], Prepared]
    shrink: Callable[[Workload], Workload] = _shrink_sizes
    """Returns the same workload at sizes that cost next to nothing."""
    count: Callable[[Workload], dict[str, int]] = lambda workload: {}
    """Counts what needs no run: ``parameters`` and ``macs``."""
    errors: Callable[[Mapping[str, Workload], Mapping[str, Call]], dict[str, dict[str, float]]] = (
        errors_against_float64
    )
    """Measures the errors of a contest, by label."""
    resident_bytes: Callable[[Workload], int | None] = lambda workload: None
    """Measures the memory of a whole process."""
    memory_of: Literal["first", "repeated", "all"] = "repeated"
    """Whose memory is measured: only that of the first contender, also that of the others that
    were fast enough to run more than once, or that of all."""


TASKS: dict[str, Task] = {
    "scan": Task(_scan),
    "conv": Task(_conv),
    "directions": Task(_directions),
    "block": Task(_block),
    "dfm": Task(_dfm),
    "ofm": Task(_ofm),
    "attention": Task(_attention),
    "layer": Task(_layer, shrink=_shrink_layer, count=_count_layer),
}
"""What can be run: ops, blocks and layers."""


def prepare(workload: Workload, *, exact: bool = False, tasks: Mapping[str, Task] = TASKS) -> Call:
    """Return a function that runs ``workload`` once.

    It returns the outputs and, with ``backward``, the gradients.

    Args:
        workload: what to run.
        exact: raise the same rounded inputs to float64 and compute everything there.
        tasks: what can be run.
    """
    torch.manual_seed(0)
    prepared = tasks[workload.task].prepare(workload, Draw(workload, exact))
    leaves = [x for x in prepared.leaves if x.requires_grad]
    upstream: list[Tensor] = []

    def run() -> tuple[Tensor, ...]:
        if torch.get_num_threads() != workload.threads:
            torch.set_num_threads(workload.threads)
        if not workload.backward:
            with torch.no_grad():
                return tuple(_tensors(prepared.forward()))
        outputs = [x for x in _tensors(prepared.forward()) if x.requires_grad]
        if not upstream:
            upstream.extend(_upstream(outputs, workload, exact))
        gradients = torch.autograd.grad(outputs, leaves, upstream, allow_unused=True)
        return *(x.detach() for x in outputs), *(x for x in gradients if x is not None)

    return run


def _upstream(outputs: Iterable[Tensor], workload: Workload, exact: bool) -> list[Tensor]:
    """Return gradients of the outputs: the same numbers for every contender and both precisions."""
    generator = torch.Generator().manual_seed(1)
    rounded_to: torch.dtype = getattr(torch, workload.dtype)
    gradients = []
    for output in outputs:
        gradient = torch.randn(output.shape, generator=generator).to(rounded_to)
        precision = torch.float64 if exact else output.dtype
        gradients.append(gradient.to(workload.device, precision))
    return gradients


def _tensors(value: Any) -> Iterable[Tensor]:
    """Yield the tensors of nested tuples and lists."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)


def error_against_float64(
    workload: Workload, truth: Sequence[Tensor] | None = None
) -> dict[str, float]:
    """Return the largest absolute error over the largest absolute value.

    ``"out"`` is that of the output, ``"gradients"`` that of the worst gradient.

    Args:
        workload: what to run; one of ``TASKS``.
        truth: what is right; by default the same call in float64 on the pure-PyTorch backend,
            which the tests hold against the plain loop.
    """
    if truth is None:
        truth = exact_results(workload)
    errors = []
    for found, right in zip(prepare(workload)(), truth, strict=True):
        right = right.to(found.device)
        largest = right.abs().max().clamp(min=1e-300)
        error = (found.double() - right).abs().max()
        errors.append((error / largest).item())
    out, *gradients = errors
    return {"out": out, "gradients": max(gradients)} if workload.backward else {"out": out}


def exact_results(workload: Workload) -> tuple[Tensor, ...]:
    """Return the outputs and gradients of ``workload`` in float64, whoever its contender is."""
    return prepare(replace(workload, contender="vectorised"), exact=True)()


def shrunk(workload: Workload, *, tasks: Mapping[str, Task] = TASKS) -> Workload:
    """Return the same workload at sizes that cost next to nothing.

    Running it first loads libraries and starts threads, once.
    """
    return tasks[workload.task].shrink(workload)
