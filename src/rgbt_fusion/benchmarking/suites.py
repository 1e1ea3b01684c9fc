"""The questions that ``rgbt-fusion bench`` answers: each suite lists its comparisons as data."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import torch

from rgbt_fusion.benchmarking.baselines import CONVOLUTIONS, SCANS, why_missing
from rgbt_fusion.benchmarking.cases import CASES
from rgbt_fusion.benchmarking.comparison import Comparison, Options, base_workload, clock_of
from rgbt_fusion.benchmarking.model_suite import models
from rgbt_fusion.benchmarking.permuted_copies import COPIES
from rgbt_fusion.benchmarking.workloads import Workload
from rgbt_fusion.ops.backends import backend_report

__all__ = ["SCAN_SHAPES", "SUITES", "Comparison", "Options", "comparisons"]

SCAN_SHAPES = (
    (1, 192, 320, 16),
    (1, 1536, 320, 16),
    (1, 384, 3840, 8),
    (8, 768, 320, 16),
    (1, 1536, 3840, 16),
)
"""B, D, L, N: a small tracker, the blocks of a ViT-B, a long narrow scan, a training batch, and the
OFM."""

LAYOUTS = {"token": "token-major", "channel": "(B, D, L)"}
PASSES = {False: "forward", True: "forward+backward"}

_QUADRATIC_BACKWARD = 10**9
"""B D N L^2 above which the backward pass of the reference loop, quadratic in L, is not waited
for."""


def _backends(options: Options) -> tuple[str, ...]:
    """Return the backends to measure, the one that "auto" takes first."""
    report = backend_report(options.device, getattr(torch, options.dtypes[0]))["selective_scan"]
    able = [name for name, why_not in report["why_not"].items() if not why_not]
    if not options.backends:
        return tuple(name for name in able if name not in ("reference", "mamba-ssm"))
    for name in options.backends:
        if name not in report["why_not"]:
            raise ValueError(f"backend must be one of {', '.join(report['why_not'])}, got {name!r}")
        if name not in able:
            raise ValueError(
                f"backend {name} cannot run on {options.device}: {'; '.join(report['why_not'][name])}"
            )
    return options.backends


def _sizes(shape: tuple[int, ...], axes: str) -> dict[str, int]:
    if len(shape) != len(axes):
        raise ValueError(
            f"shape must be {','.join(axes)} for this suite, got {','.join(map(str, shape))}"
        )
    return dict(zip(axes, shape, strict=True))


def _against(
    base: Workload, ours: Iterable[str], others: Iterable[str]
) -> tuple[dict[str, Workload], dict[str, str]]:
    """Return ``base`` for each of ``ours`` and for each of ``others`` that can run, and why the
    rest cannot."""
    skipped = {}
    for name in others:
        if reason := why_missing(name, base.device) or _hopeless(name, base):
            skipped[name] = reason
    names = [*ours, *(name for name in others if name not in skipped)]
    return {name: replace(base, contender=name) for name in names}, skipped


def _hopeless(name: str, workload: Workload) -> str:
    if name not in ("reference loop", "written in PyTorch") or not workload.backward:
        return ""
    sizes = workload.sizes
    work = sizes["B"] * sizes.get("D", 2 * sizes.get("C", 0)) * sizes.get("N", 16) * sizes["L"] ** 2
    return "its backward pass is quadratic in the length" if work > _QUADRATIC_BACKWARD else ""


def scan(options: Options) -> Iterator[Comparison]:
    """The selective scan, with everything on: against loops and packages, over data types, threads
    and orders."""
    shapes = options.shapes or (SCAN_SHAPES[:2] if options.quick else SCAN_SHAPES)
    backends = _backends(options)
    for shape in shapes:
        for layout in options.layouts:
            for backward in options.passes:
                base = replace(
                    base_workload(options, "scan", _sizes(shape, "BDLN"), backward=backward),
                    layout=layout,
                )
                baseline = "chunked PyTorch loop" if backward else "reference loop"
                # what layout changes is shown by ours and one other
                ours, others = (
                    (backends, SCANS)
                    if layout == "token"
                    else (backends[:1], (baseline, "mamba-ssm"))
                )
                entries, skipped = _against(base, ours, others)
                yield Comparison(
                    "scan",
                    "scan",
                    f"{shape}, {LAYOUTS[layout]}, {PASSES[backward]}",
                    entries,
                    baseline,
                    clock_of(options),
                    # an op takes the same memory however its arguments lie
                    memory=layout == "token"
                    and (not options.quick or (shape == SCAN_SHAPES[1] and not backward)),
                    errors=True,
                    skipped=skipped,
                )
    for shape in shapes:
        for backward in options.passes:
            base = base_workload(options, "scan", _sizes(shape, "BDLN"), backward=backward)
            yield from _variants(
                replace(base, contender=backends[0]), options, f"{shape}, {PASSES[backward]}"
            )


def _variants(base: Workload, options: Options, title: str) -> Iterator[Comparison]:
    """Yield the comparisons of one backend with itself: other data types, more threads, an order of
    segments."""
    suite = base.task
    if len(options.dtypes) > 1:
        entries = {dtype: replace(base, dtype=dtype) for dtype in options.dtypes}
        yield Comparison(
            suite,
            f"{suite}-dtypes",
            title,
            entries,
            options.dtypes[0],
            clock_of(options),
            not options.quick,
            True,
        )
    if len(options.threads) > 1 and options.device == "cpu":
        entries = {
            f"{n} threads" if n > 1 else "1 thread": replace(base, threads=n)
            for n in options.threads
        }
        yield Comparison(suite, f"{suite}-threads", title, entries, next(iter(entries)), "wall")
    segments = next(k for k in range(12, 0, -1) if base.sizes["L"] % k == 0)
    if "token" in options.layouts and segments > 1:
        ordered = replace(base, sizes={**base.sizes, "K": segments})
        entries = {"natural order": base, "random order of segments": ordered}
        yield Comparison(
            suite, f"{suite}-order", title, entries, "natural order", clock_of(options)
        )


def conv(options: Options) -> Iterator[Comparison]:
    """The causal convolution with SiLU, likewise."""
    shapes = options.shapes or tuple(
        (B, D, L, 4) for B, D, L, _ in (SCAN_SHAPES[1:2] if options.quick else SCAN_SHAPES)
    )
    backends = _backends(options)
    for shape in shapes:
        for layout in options.layouts:
            for backward in options.passes:
                base = replace(
                    base_workload(options, "conv", _sizes(shape, "BDLW"), backward=backward),
                    layout=layout,
                )
                entries, skipped = _against(base, backends, CONVOLUTIONS)
                memory = layout == "token" and not options.quick
                title = f"{shape}, {LAYOUTS[layout]}, {PASSES[backward]}"
                yield Comparison(
                    "conv",
                    "conv",
                    title,
                    entries,
                    "torch conv1d",
                    clock_of(options),
                    memory,
                    True,
                    skipped,
                )
    for shape in shapes if not options.quick else ():
        for backward in options.passes:
            base = base_workload(options, "conv", _sizes(shape, "BDLW"), backward=backward)
            yield from _variants(
                replace(base, contender=backends[0]), options, f"{shape}, {PASSES[backward]}"
            )


def block(options: Options) -> Iterator[Comparison]:
    """A Mamba block of width C and expand 2: against other blocks, and how much of it is
    convolution and scan."""
    shapes = options.shapes or ((1, 320, 768),) + (
        () if options.quick else ((1, 720, 768), (1, 3840, 768))
    )
    backends = _backends(options)
    for shape in shapes:
        for backward in options.passes:
            base = base_workload(options, "block", _sizes(shape, "BLC"), backward=backward)
            others = ("written in PyTorch", "mambapy", "mamba-ssm")
            entries, skipped = _against(base, backends, others)
            yield Comparison(
                "block",
                "block",
                f"{shape}, {PASSES[backward]}",
                entries,
                "written in PyTorch"
                if "written in PyTorch" in entries
                else "mambapy"
                if "mambapy" in entries
                else None,
                clock_of(options),
                memory=not options.quick,
                skipped=skipped,
            )
    for shape in shapes:
        base = base_workload(options, "block", _sizes(shape, "BLC"))
        entries = {
            "Mamba block": replace(base, contender=backends[0]),
            "its scan and convolution": replace(base, contender="its scan and convolution"),
        }
        yield Comparison(
            "block", "block-share", f"{shape}, forward", entries, "Mamba block", clock_of(options)
        )


def dfm(options: Options) -> Iterator[Comparison]:
    """DFM on two streams: against itself written in PyTorch and against cross-attention."""
    shapes = options.shapes or ((1, 320, 768),) + (() if options.quick else ((1, 720, 768),))
    backends = _backends(options)
    for shape in shapes:
        for backward in options.passes:
            base = base_workload(options, "dfm", _sizes(shape, "BLC"), backward=backward)
            others = ("written in PyTorch", "fused attention", "written-out attention")
            entries, skipped = _against(base, backends, others)
            title = f"{shape}, {PASSES[backward]}"
            baseline = (
                "written in PyTorch" if "written in PyTorch" in entries else "fused attention"
            )
            yield Comparison(
                "dfm",
                "dfm",
                title,
                entries,
                baseline,
                clock_of(options),
                not options.quick,
                False,
                skipped,
            )


def ofm(options: Options) -> Iterator[Comparison]:
    """OFM over K layers: three directions in one call against three scans of permuted copies, and
    self-attention."""
    shapes = options.shapes or ((1, 320, 768, 12),)
    backend = _backends(options)[0]
    for shape in shapes:
        sizes = _sizes(shape, "BLCK")
        for backward in options.passes[:1] if options.quick else options.passes:
            inner = {**sizes, "D": 2 * sizes["C"], "N": 16, "W": 4}
            del inner["C"]
            base = base_workload(options, "directions", inner, backward=backward)
            entries = {"one call": replace(base, contender=backend)} | {
                name: replace(base, contender=name, layout=copies.layout)
                for name, copies in COPIES.items()
            }
            title, baseline = f"{shape}, {PASSES[backward]}", "copies as released"
            yield Comparison(
                "ofm", "ofm-scan", title, entries, baseline, clock_of(options), memory=True
            )
            base = replace(
                base_workload(options, "ofm", sizes, backward=backward), contender=backend
            )
            others = () if options.quick else ("fused attention",)
            entries = {"one call": base} | {
                name: replace(base, contender=name) for name in (*COPIES, *others)
            }
            yield Comparison(
                "ofm", "ofm", title, entries, baseline, clock_of(options), memory=not options.quick
            )


def layers(options: Options) -> Iterator[Comparison]:
    """Every layer at the sizes of a ViT-B tracker: parameters, arithmetic, time and memory, beside
    its counterpart."""
    for case in CASES:
        for setup in case.full[:1] if options.quick else case.full:
            name = f"{case.name}: {setup.size}"
            base = replace(base_workload(options, "layer", {}), contender=name)
            entries = {
                PASSES[backward]: replace(base, backward=backward) for backward in options.passes
            }
            baseline = next(iter(entries))
            for other in CASES:
                if other.name == case.compared_with and any(
                    setup.size == same.size for same in other.full
                ):
                    entries[other.name] = replace(
                        entries[baseline], contender=f"{other.name}: {setup.size}"
                    )
                    baseline = other.name
            yield Comparison(
                "layers",
                "layers",
                name,
                entries,
                baseline,
                clock_of(options),
                memory=not options.quick,
            )
    for tokens, template, streams in ((640, 64, 2), (720, 144, 1)):
        base = base_workload(
            options, "attention", {"B": 1, "L": tokens, "C": 768, "T": template, "S": streams}
        )
        contenders = ("fused, scores", "fused, no scores", "written out, scores")
        entries = {name: replace(base, contender=name) for name in contenders}
        title = f"{tokens} tokens, forward"
        memory = not options.quick
        yield Comparison(
            "layers", "attention-scores", title, entries, contenders[1], clock_of(options), memory
        )


def complexity(options: Options) -> Iterator[Comparison]:
    """AINet's Fig. 5 again: what is added to a two-stream ViT-B, over search resolution and over
    fused layers."""
    quick = ((128, 12), (192, 12), (256, 12))
    full = tuple((px, 12) for px in (128, 192, 256, 384)) + tuple((256, K) for K in (1, 3, 6))
    backend = _backends(options)[0]
    for px, K in options.shapes or (quick if options.quick else full):
        tokens = (px // 16) ** 2 + (px // 32) ** 2
        base = base_workload(options, "fusion", {"B": 1, "L": tokens, "C": 768, "K": K, "px": px})
        entries = {"Mamba": backend, "fused attention": "fused attention"}
        skipped = {}
        if 3 * 12 * (K * tokens) ** 2 * 4 > _memory_bytes(options.device) / 2:
            skipped["written-out attention"] = "its matrix would fill the memory"
        else:
            entries["written-out attention"] = "written-out attention"
        workloads = {
            label: replace(base, contender=contender) for label, contender in entries.items()
        }
        title = f"{px} px, {K} layer" + "s" * (K > 1)
        yield Comparison(
            "complexity",
            "complexity",
            title,
            workloads,
            "fused attention",
            clock_of(options),
            True,
            False,
            skipped,
        )


def _memory_bytes(device: str) -> float:
    if device == "cuda":
        return torch.cuda.get_device_properties(0).total_memory
    return (
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 8e9
    )


SUITES: dict[str, Callable[[Options], Iterator[Comparison]]] = {
    "scan": scan,
    "conv": conv,
    "block": block,
    "dfm": dfm,
    "ofm": ofm,
    "layers": layers,
    "complexity": complexity,
    "models": models,
}
"""Every suite of comparisons, in the order in which they run; ``startup`` is measured beside
them."""


def comparisons(names: Iterable[str], options: Options) -> list[Comparison]:
    """Return what the suites ``names`` compare under ``options``."""
    return [comparison for name in names for comparison in SUITES[name](options)]
