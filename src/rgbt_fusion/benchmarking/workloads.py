"""What is measured, as plain data, and the functions that make it runnable: here, or again in a
fresh process."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

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
from rgbt_fusion.benchmarking.trackers import frame_step, network_step, parse
from rgbt_fusion.layers.attention import Attention, AttentionWithScores
from rgbt_fusion.layers.attention_fusion import AllLayerSelfAttention, CrossAttentionFusion
from rgbt_fusion.layers.difference_fusion_mamba import DFM
from rgbt_fusion.layers.mamba import MambaBlock
from rgbt_fusion.layers.order_dynamic_fusion_mamba import OFM
from rgbt_fusion.ops.causal_conv1d import causal_conv1d, ordered_causal_conv1d
from rgbt_fusion.ops.selective_scan import ordered_selective_scan, selective_scan

__all__ = ["TASKS", "Workload", "error_against_float64", "prepare", "shrunk"]


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
        self.exact, self.workload = exact, workload

    def _place(self, x: Tensor, dtype: torch.dtype, leaf: bool) -> Tensor:
        x = x.to(dtype)
        x = x.double() if self.exact else x
        return x.to(self.workload.device).requires_grad_(leaf and self.workload.backward)

    def sequence(self, *shape: int, scale: float = 1.0) -> Tensor:
        """Return a sequence of token-major ``shape``, laid out as the workload says."""
        x = torch.randn(shape, generator=self.generator) * scale
        x = x.mT.contiguous() if self.workload.layout == "channel" else x
        return self._place(x, self.dtype, leaf=True)

    def parameter(self, *shape: int, low: float = -1.0, high: float = 1.0) -> Tensor:
        """Return a uniform parameter in the precision of parameters."""
        return self._place(
            torch.rand(shape, generator=self.generator) * (high - low) + low,
            torch.float32,
            leaf=True,
        )

    def decay(self, *shape: int) -> Tensor:
        """Return Mamba's initial decay rates, -1 to -N."""
        rates = torch.arange(1.0, shape[-1] + 1).expand(shape)
        return self._place(-rates.clone(), torch.float32, leaf=True)

    def step_bias(self, *shape: int) -> Tensor:
        """Return Mamba's initial step biases: steps of 0.001 to 0.1 behind the softplus."""
        step = torch.rand(shape, generator=self.generator) * 0.099 + 0.001
        return self._place(torch.log(torch.expm1(step)), torch.float32, leaf=True)

    def order(self, *shape: int) -> Tensor:
        """Return random segment orders."""
        return torch.rand(shape, generator=self.generator).argsort(-1).to(self.workload.device)


def _scan(workload: Workload, draw: Draw) -> Prepared:
    """The selective scan with skip, gate, bias and softplus; with K, token-major in a random order
    of K segments."""
    B, D, L, N = (workload.sizes[axis] for axis in "BDLN")
    u, z = draw.sequence(B, L, D), draw.sequence(B, L, D)
    delta = draw.sequence(B, L, D, scale=0.5)
    coefficients = draw.sequence(B, L, N), draw.sequence(B, L, N)
    leaves = (u, delta, draw.decay(D, N), *coefficients, draw.parameter(D), z, draw.step_bias(D))
    order = draw.order(workload.sizes["K"]) if "K" in workload.sizes else None
    if workload.contender in SCANS:
        baseline = SCANS[workload.contender]
        if workload.layout == "channel":
            return Prepared(lambda: baseline(ScanTensors(*leaves)), leaves)
        views = ScanTensors(*(x.mT if x.dim() == 3 else x for x in leaves))
        return Prepared(lambda: baseline(views).mT, leaves)
    backend = workload.contender
    if workload.layout == "channel":
        return Prepared(
            lambda: selective_scan(*leaves, delta_softplus=True, backend=backend), leaves
        )
    return Prepared(
        lambda: (
            ordered_selective_scan(*leaves, delta_softplus=True, order=order, backend=backend).out
        ),
        leaves,
    )


def _conv(workload: Workload, draw: Draw) -> Prepared:
    """The causal convolution with SiLU."""
    B, D, L, W = (workload.sizes[axis] for axis in "BDLW")
    leaves = (draw.sequence(B, L, D), draw.parameter(D, W), draw.parameter(D))
    order = draw.order(workload.sizes["K"]) if "K" in workload.sizes else None
    backend = workload.contender
    if backend in CONVOLUTIONS:
        baseline = CONVOLUTIONS[backend]
        if workload.layout == "channel":
            return Prepared(lambda: baseline(*leaves), leaves)
        return Prepared(lambda: baseline(leaves[0].mT, *leaves[1:]).mT, leaves)
    if workload.layout == "channel":
        return Prepared(lambda: causal_conv1d(*leaves, "silu", backend=backend), leaves)
    return Prepared(
        lambda: ordered_causal_conv1d(*leaves, "silu", order=order, backend=backend), leaves
    )


def _directions(workload: Workload, draw: Draw) -> Prepared:
    """Convolution and scan of the OFM in three orders of K layers, the projections between them
    left out.

    A contender of permuted copies is handed what depends on the convolved sequence in its own order
    already.
    """
    B, D, L, N, W, K = (workload.sizes[axis] for axis in "BDLNWK")
    xz = draw.sequence(B, K * L, 2 * D)
    delta = [draw.sequence(B, K * L, D, scale=0.5) for _ in range(3)]
    coefficients = [[draw.sequence(B, K * L, N) for _ in range(3)] for _ in range(2)]
    scans = CopiedScans(
        draw.parameter(3, D, W),
        draw.parameter(3, D),
        draw.decay(3, D, N),
        draw.parameter(3, D),
        draw.step_bias(3, D),
    )
    natural = torch.arange(K, device=workload.device).expand(B, K)
    orders = torch.stack([natural, natural.flip(-1), draw.order(B, K)])
    if workload.contender in COPIES:
        copies = COPIES[workload.contender]
        made = [(delta[r], coefficients[0][r], coefficients[1][r]) for r in range(3)]
        leaves = (xz, *scans, *delta, *coefficients[0], *coefficients[1])
        return Prepared(
            lambda: scan_copies(xz, orders, scans, lambda r, x: made[r], copies), leaves
        )
    steps, inputs, readouts = (
        torch.stack(x).detach().requires_grad_(workload.backward) for x in (delta, *coefficients)
    )
    leaves = (xz, *scans, steps, inputs, readouts)
    backend = workload.contender

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
            steps,
            scans.A,
            inputs,
            readouts,
            scans.D,
            z,
            scans.delta_bias,
            delta_softplus=True,
            order=orders,
            merge=True,
            trusted_order=True,
            backend=backend,
        ).out

    return Prepared(one_call, leaves)


def _module(workload: Workload, draw: Draw, module: nn.Module, *inputs: Any) -> Prepared:
    """Prepare a module whose parameters are the same for every contender that has the same ones."""
    module = module.to(workload.device, torch.float64 if draw.exact else draw.dtype).eval()
    tensors = [x for given in inputs for x in (given if isinstance(given, Sequence) else [given])]
    return Prepared(lambda: module(*inputs), (*tensors, *module.parameters()))


def _mamba(workload: Workload, dim: int, expand: float) -> nn.Module:
    N = workload.sizes.get("N", 16)
    if workload.contender == "written in PyTorch":
        return baselines.MambaInPyTorch(dim, N, expand=expand)
    if workload.contender == "mambapy":
        return baselines.mambapy_block(dim, N)
    if workload.contender == "mamba-ssm":
        return baselines.mamba_ssm_block(dim, N)
    return MambaBlock(dim, N, expand=expand, backend=workload.contender)


def _block(workload: Workload, draw: Draw) -> Prepared:
    """A Mamba block of expand 2, or the convolution and the scan inside it alone."""
    B, L, C = (workload.sizes[axis] for axis in "BLC")
    tokens = draw.sequence(B, L, C)
    if workload.contender != "its scan and convolution":
        return _module(workload, draw, _mamba(workload, C, 2), tokens)
    block = MambaBlock(C, workload.sizes.get("N", 16)).to(workload.device)
    with torch.no_grad():
        xz = block.in_proj(tokens)
        delta, B_, C_ = block.x_proj(xz.chunk(2, -1)[0]).split(
            [block.dt_rank, block.d_state, block.d_state], -1
        )
        delta = nn.functional.linear(delta, block.dt_proj.weight)
        A = -torch.exp(block.A_log)
    taps, bias = block.conv1d.weight[:, 0], block.conv1d.bias

    def alone() -> Tensor:
        x, z = xz.chunk(2, -1)
        x = ordered_causal_conv1d(x, taps, bias, "silu")
        return ordered_selective_scan(
            x, delta, A, B_, C_, block.D, z, block.dt_proj.bias, delta_softplus=True
        ).out

    return Prepared(alone, (block.D, block.conv1d.weight, block.dt_proj.bias))


def _dfm(workload: Workload, draw: Draw) -> Prepared:
    """A DFM, or the cross-attention in its place."""
    B, L, C = (workload.sizes[axis] for axis in "BLC")
    streams = draw.sequence(B, L, C), draw.sequence(B, L, C)
    if workload.contender in _ATTENTION:
        attention = _ATTENTION[workload.contender]
        return _module(
            workload, draw, CrossAttentionFusion(C, C // 64 or 1, attention=attention), *streams
        )
    dfm = DFM(C)
    dfm.mamba = _mamba(workload, C, 1)  # pyright: ignore[reportAttributeAccessIssue]
    return _module(workload, draw, dfm, *streams)


def _ofm(workload: Workload, draw: Draw) -> Prepared:
    """An OFM over K layers, the same with permuted copies, or the self-attention in its place."""
    B, L, C, K = (workload.sizes[axis] for axis in "BLCK")
    features = [draw.sequence(B, L, C) for _ in range(K)]
    if workload.contender in _ATTENTION:
        attention = _ATTENTION[workload.contender]
        return _module(
            workload, draw, AllLayerSelfAttention(C, C // 64 or 1, attention=attention), features
        )
    if workload.contender not in COPIES:
        return _module(workload, draw, OFM(C, num_layers=K, backend=workload.contender), features)
    ofm = OFM(C, num_layers=K, order_gradient="none")
    in_one_call = ofm.scans
    ofm.scans = PermutedCopiesMamba(C, 3, in_one_call.d_state, 4, 2, in_one_call.dt_rank, "auto")
    ofm.scans.copies = COPIES[workload.contender]
    ofm.scans.load_state_dict(in_one_call.state_dict())
    return _module(workload, draw, ofm, features)


_ATTENTION: dict[str, Any] = {
    "fused attention": "fused",
    "written-out attention": "explicit",
    "fused, scores": "fused",
    "written out, scores": "explicit",
}
"""Contenders that attend, and how their attention is computed."""


def _attention(workload: Workload, draw: Draw) -> Prepared:
    """Self-attention over L tokens in S streams, each led by T template tokens, with their scores
    or without."""
    B, L, C, T, S = (workload.sizes[axis] for axis in "BLCTS")
    tokens = draw.sequence(B, L, C)
    if workload.contender == "fused, no scores":
        return _module(workload, draw, Attention(C, C // 64 or 1), tokens)
    attention = AttentionWithScores(C, C // 64 or 1, attention=_ATTENTION[workload.contender])
    prepared = _module(workload, draw, attention, tokens)
    return prepared._replace(forward=lambda: attention(tokens, T, streams=S))


def _fusion(workload: Workload, draw: Draw) -> Prepared:
    """All that AINet adds to a two-stream encoder: a fusion of K layers of tokens, and one over all
    of them."""
    B, L, C, K = (workload.sizes[axis] for axis in "BLCK")
    if workload.contender in _ATTENTION:
        attention = _ATTENTION[workload.contender]
        fusion = CrossAttentionFusion(C, C // 64 or 1, attention=attention)
        summary = AllLayerSelfAttention(C, C // 64 or 1, attention=attention)
    else:
        fusion = DFM(C, backend=workload.contender)
        summary = OFM(C, num_layers=K, backend=workload.contender)

    class Fusion(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fusion, self.summary = fusion, summary

        def forward(self, rgb: Tensor, tir: Tensor) -> Tensor:
            fused = []
            for _ in range(K):
                rgb, tir, joined = self.fusion(rgb, tir)
                fused.append(joined)
            return self.summary(fused)

    return _module(workload, draw, Fusion(), draw.sequence(B, L, C), draw.sequence(B, L, C))


def _layer(workload: Workload, draw: Draw) -> Prepared:
    """A row of :data:`~rgbt_fusion.benchmarking.cases.CASES`, named by the contender."""
    setup = find_setup(workload.contender)
    module = setup.build().to(workload.device, draw.dtype).eval()
    inputs = _moved(setup.inputs(draw.generator, draw.dtype), workload.device)
    return Prepared(
        lambda: module(*inputs),
        [x for x in (*_tensors(inputs), *module.parameters()) if x.requires_grad],
    )


def _model(workload: Workload, draw: Draw) -> Prepared:
    """One step of a tracker of :data:`~rgbt_fusion.benchmarking.trackers.TRACKERS`, named by the
    contender."""
    place: dict[str, Any] = {
        "batch": workload.sizes["B"],
        "threads": workload.threads,
        "device": workload.device,
    }
    return Prepared(network_step(workload.contender, dtype=draw.dtype, **place), ())


def _track(workload: Workload, draw: Draw) -> Prepared:
    """One frame from its pixels to the box."""
    height, width = workload.sizes["H"], workload.sizes["W"]
    step = frame_step(
        workload.contender, height=height, width=width, dtype=draw.dtype, device=workload.device
    )
    return Prepared(step, ())


def _moved(inputs: Any, device: str) -> Any:
    if isinstance(inputs, Tensor):
        return inputs.detach().to(device).requires_grad_(inputs.requires_grad)
    if isinstance(inputs, tuple | list):
        return type(inputs)(_moved(x, device) for x in inputs)
    return inputs


TASKS: dict[str, Callable[[Workload, Draw], Prepared]] = {
    "scan": _scan,
    "conv": _conv,
    "directions": _directions,
    "block": _block,
    "dfm": _dfm,
    "ofm": _ofm,
    "attention": _attention,
    "fusion": _fusion,
    "layer": _layer,
    "model": _model,
    "track": _track,
}
"""What can be run."""


def prepare(workload: Workload, *, exact: bool = False) -> Callable[[], tuple[Tensor, ...]]:
    """Return a function that runs ``workload`` once and returns its outputs and, with ``backward``,
    its gradients.

    With ``exact`` the same rounded inputs are raised to float64 and everything is computed there.
    """
    torch.manual_seed(0)
    prepared = TASKS[workload.task](workload, Draw(workload, exact))
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
    drawn = (
        torch.randn(x.shape, generator=generator).to(getattr(torch, workload.dtype))
        for x in outputs
    )
    return [x.to(workload.device, torch.float64 if exact else x.dtype) for x in drawn]


def _tensors(value: Any) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)


def error_against_float64(
    workload: Workload, truth: Sequence[Tensor] | None = None
) -> dict[str, float]:
    """Return the largest absolute error over the largest absolute value, of the output and of the
    worst gradient.

    The truth is the same call in float64 on the pure-PyTorch backend, which the tests hold against
    the plain loop.
    """
    truth = exact_results(workload) if truth is None else truth
    errors = []
    for found, right in zip(prepare(workload)(), truth, strict=True):
        right = right.to(found.device)
        errors.append(
            ((found.double() - right).abs().max() / right.abs().max().clamp(min=1e-300)).item()
        )
    return (
        {"out": errors[0], "gradients": max(errors[1:])}
        if workload.backward
        else {"out": errors[0]}
    )


def exact_results(workload: Workload) -> tuple[Tensor, ...]:
    """Return the outputs and gradients of ``workload`` in float64, whoever its contender is."""
    return prepare(replace(workload, contender="vectorised"), exact=True)()


def shrunk(workload: Workload) -> Workload:
    """Return the same workload at sizes that cost next to nothing, to load what is loaded once."""
    if workload.task == "layer":
        return replace(workload, contender=f"{workload.contender.partition(':')[0]}: small")
    if workload.task in ("model", "track"):
        tracker, _, form = parse(workload.contender)
        return replace(workload, contender=f"{tracker}: tiny_128, {form}")
    small = {"B": 1, "D": 16, "L": 8, "C": 64, "N": 4, "K": 1, "T": 1}
    return replace(
        workload,
        sizes={axis: min(size, small.get(axis, size)) for axis, size in workload.sizes.items()},
    )
