"""The questions that ``rgbt-fusion bench`` answers: each suite lists its contests as data."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import torch

from rgbt_fusion.benchmarking.baselines import COMPILED, CONVOLUTIONS, SCANS, why_missing
from rgbt_fusion.benchmarking.cases import CASES, Case, Setup
from rgbt_fusion.benchmarking.contest import Contest, Options, base_workload, clock_of
from rgbt_fusion.benchmarking.permuted_copies import COPIES
from rgbt_fusion.benchmarking.records import PASSES
from rgbt_fusion.benchmarking.workloads import Workload
from rgbt_fusion.checks import check_choice
from rgbt_fusion.ops.backends import backend_report

__all__ = [
    "MEMORY_LAYOUTS",
    "SCAN_SHAPES",
    "SUITES",
    "able_backends",
    "contests",
    "sizes_of",
]

SCAN_SHAPES = (
    (1, 192, 320, 16),
    (1, 1536, 320, 16),
    (1, 384, 3840, 8),
    (8, 768, 320, 16),
    (1, 1536, 3840, 16),
)
"""Sizes ``(B, D, L, N)`` of a small tracker, the blocks of a ViT-B, a long narrow scan, a training
batch and the OFM."""

VIT_B_SHAPE = SCAN_SHAPES[1]

MEMORY_LAYOUTS = {"token": "token-major", "channel": "(B, D, L)"}
"""How the arguments of an op may lie in memory, and what the tables call it."""

QUADRATIC_BACKWARD = 10**9
"""B D N L^2 above which nobody waits for the reference loop's backward pass, quadratic in L."""

MOST_SEGMENTS = 12


def able_backends(options: Options) -> tuple[str, ...]:
    """Return the backends to measure, the one that "auto" takes first.

    Raises:
        ValueError: a backend of ``options`` is unknown or cannot run.
    """
    report = backend_report(options.device, getattr(torch, options.dtypes[0]))["selective_scan"]
    why_not = report["why_not"]
    able = [name for name, reasons in why_not.items() if not reasons]
    if not options.backends:
        return tuple(name for name in able if name not in ("reference", "mamba-ssm"))
    for name in options.backends:
        check_choice(name, why_not, name="backend")
        if name not in able:
            reasons = "; ".join(why_not[name])
            raise ValueError(f"backend {name} cannot run on {options.device}: {reasons}")
    return options.backends


def sizes_of(shape: Sequence[int], axes: Sequence[str]) -> dict[str, int]:
    """Return a shape by the letters of its axes.

    Raises:
        ValueError: ``shape`` has another number of axes.

    Example:
        >>> from rgbt_fusion.benchmarking.suites import sizes_of
        >>> sizes_of((1, 320, 768), "BLC")
        {'B': 1, 'L': 320, 'C': 768}
    """
    if len(shape) != len(axes):
        given = ",".join(map(str, shape))
        raise ValueError(f"shape must be {','.join(axes)} for this suite, got {given}")
    return dict(zip(axes, shape, strict=True))


def _against(
    base: Workload, ours: Iterable[str], others: Iterable[str]
) -> tuple[dict[str, Workload], dict[str, str]]:
    """Return who takes part, ours first, and why the rest of ``others`` cannot."""
    entries = {name: replace(base, contender=name) for name in ours}
    skipped = {}
    for name in others:
        reason = why_missing(name, base.device) or _hopeless(name, base)
        if reason:
            skipped[name] = reason
        else:
            entries[name] = replace(base, contender=name)
    return entries, skipped


def _hopeless(name: str, workload: Workload) -> str:
    """Say why nobody would wait for a contender; empty where somebody would."""
    if name in COMPILED and workload.backward:
        return "it has no backward pass"
    if name not in ("reference loop", "written in PyTorch") or not workload.backward:
        return ""
    sizes = workload.sizes
    channels = sizes.get("D", 2 * sizes.get("C", 0))
    work = sizes["B"] * channels * sizes.get("N", 16) * sizes["L"] ** 2
    return "its backward pass is quadratic in the length" if work > QUADRATIC_BACKWARD else ""


def _first_of(entries: dict[str, Workload], *preferred: str) -> str | None:
    """Return the first preferred label that takes part."""
    return next((label for label in preferred if label in entries), None)


def scan(options: Options) -> Iterator[Contest]:
    """The selective scan with everything on, against loops and packages.

    Then over data types, threads and orders.
    """
    shapes = options.shapes or (SCAN_SHAPES[:2] if options.quick else SCAN_SHAPES)
    for shape in shapes:
        for layout in options.layouts:
            for backward in options.passes:
                yield _scan_contest(options, shape, layout, backward)
    backend = able_backends(options)[0]
    for shape in shapes:
        for backward in options.passes:
            base = base_workload(options, "scan", sizes_of(shape, "BDLN"), backward=backward)
            ours = replace(base, contender=backend)
            yield from _variants(ours, options, f"{shape}, {PASSES[backward]}")


def _scan_contest(options: Options, shape: tuple[int, ...], layout: str, backward: bool) -> Contest:
    base = base_workload(options, "scan", sizes_of(shape, "BDLN"), backward=backward)
    base = replace(base, layout=layout)
    baseline = "chunked PyTorch loop" if backward else "reference loop"
    backends = able_backends(options)
    if layout == "token":
        entries, skipped = _against(base, backends, SCANS)
    else:
        # what the layout changes is shown by ours and one other
        entries, skipped = _against(base, backends[:1], (baseline, "mamba-ssm"))
    # an op takes the same memory however its arguments lie
    memory = layout == "token"
    if options.quick and (backward or shape != VIT_B_SHAPE):
        memory = False
    return Contest(
        suite="scan",
        table="scan",
        title=f"{shape}, {MEMORY_LAYOUTS[layout]}, {PASSES[backward]}",
        entries=entries,
        baseline=baseline,
        clock=clock_of(options),
        memory=memory,
        errors=True,
        skipped=skipped,
    )


def _variants(base: Workload, options: Options, title: str) -> Iterator[Contest]:
    """Yield the contests of one backend with itself.

    They are about other data types, more threads, and an order of segments.
    """
    suite = base.task
    if len(options.dtypes) > 1:
        yield Contest(
            suite=suite,
            table=f"{suite}-dtypes",
            title=title,
            entries={dtype: replace(base, dtype=dtype) for dtype in options.dtypes},
            baseline=options.dtypes[0],
            clock=clock_of(options),
            memory=not options.quick,
            errors=True,
        )
    if len(options.threads) > 1 and options.device == "cpu":
        entries = {_threads(count): replace(base, threads=count) for count in options.threads}
        yield Contest(
            suite=suite,
            table=f"{suite}-threads",
            title=title,
            entries=entries,
            baseline=_threads(options.threads[0]),
            clock="wall",
        )
    segments = _segments(base.sizes["L"])
    if "token" in options.layouts and segments > 1:
        ordered = replace(base, sizes={**base.sizes, "K": segments})
        yield Contest(
            suite=suite,
            table=f"{suite}-order",
            title=title,
            entries={"natural order": base, "random order of segments": ordered},
            baseline="natural order",
            clock=clock_of(options),
        )


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _segments(length: int) -> int:
    """Return into how many equal segments a sequence is cut: as many as possible up to twelve."""
    return next(count for count in range(MOST_SEGMENTS, 0, -1) if length % count == 0)


def conv(options: Options) -> Iterator[Contest]:
    """The causal convolution with SiLU, against PyTorch's and causal-conv1d's.

    Then over data types, threads and orders.
    """
    taps = 4
    scan_shapes = (VIT_B_SHAPE,) if options.quick else SCAN_SHAPES
    shapes = options.shapes or tuple((B, D, L, taps) for B, D, L, _ in scan_shapes)
    backends = able_backends(options)
    for shape in shapes:
        for layout in options.layouts:
            for backward in options.passes:
                base = base_workload(options, "conv", sizes_of(shape, "BDLW"), backward=backward)
                base = replace(base, layout=layout)
                entries, skipped = _against(base, backends, CONVOLUTIONS)
                yield Contest(
                    suite="conv",
                    table="conv",
                    title=f"{shape}, {MEMORY_LAYOUTS[layout]}, {PASSES[backward]}",
                    entries=entries,
                    baseline="torch conv1d",
                    clock=clock_of(options),
                    memory=layout == "token" and not options.quick,
                    errors=True,
                    skipped=skipped,
                )
    if options.quick:
        return
    for shape in shapes:
        for backward in options.passes:
            base = base_workload(options, "conv", sizes_of(shape, "BDLW"), backward=backward)
            ours = replace(base, contender=backends[0])
            yield from _variants(ours, options, f"{shape}, {PASSES[backward]}")


def block(options: Options) -> Iterator[Contest]:
    """A Mamba block of width C and expand 2, against other blocks.

    Then how much of it is convolution and scan.
    """
    full = ((1, 320, 768), (1, 720, 768), (1, 3840, 768))
    shapes = options.shapes or (full[:1] if options.quick else full)
    others = ("written in PyTorch", "mambapy", "mamba-ssm")
    yield from _against_baselines(options, "block", shapes, others, baselines=others[:2])
    backend = able_backends(options)[0]
    for shape in shapes:
        base = base_workload(options, "block", sizes_of(shape, "BLC"))
        entries = {
            "Mamba block": replace(base, contender=backend),
            "its scan and convolution": replace(base, contender="its scan and convolution"),
        }
        yield Contest(
            suite="block",
            table="block-share",
            title=f"{shape}, forward",
            entries=entries,
            baseline="Mamba block",
            clock=clock_of(options),
        )


def dfm(options: Options) -> Iterator[Contest]:
    """DFM on two streams, against itself written in PyTorch and against cross-attention."""
    full = ((1, 320, 768), (1, 720, 768))
    shapes = options.shapes or (full[:1] if options.quick else full)
    others = ("written in PyTorch", "fused attention", "written-out attention")
    yield from _against_baselines(options, "dfm", shapes, others, baselines=others[:2])


def _against_baselines(
    options: Options,
    suite: str,
    shapes: Iterable[tuple[int, ...]],
    others: Sequence[str],
    *,
    baselines: Sequence[str],
) -> Iterator[Contest]:
    """Yield the contests of our backends with others, over tokens ``(B, L, C)``.

    Speeds are relative to the first of ``baselines`` that takes part.
    """
    backends = able_backends(options)
    for shape in shapes:
        for backward in options.passes:
            base = base_workload(options, suite, sizes_of(shape, "BLC"), backward=backward)
            entries, skipped = _against(base, backends, others)
            yield Contest(
                suite=suite,
                table=suite,
                title=f"{shape}, {PASSES[backward]}",
                entries=entries,
                baseline=_first_of(entries, *baselines),
                clock=clock_of(options),
                memory=not options.quick,
                skipped=skipped,
            )


def ofm(options: Options) -> Iterator[Contest]:
    """OFM over K layers: three directions in one call, against three scans of permuted copies.

    The whole layer is compared with self-attention, too.
    """
    backend = able_backends(options)[0]
    passes = options.passes[:1] if options.quick else options.passes
    for shape in options.shapes or ((1, 320, 768, 12),):
        sizes = sizes_of(shape, "BLCK")
        for backward in passes:
            title = f"{shape}, {PASSES[backward]}"
            yield _directions_contest(options, sizes, title, backend, backward)
            base = base_workload(options, "ofm", sizes, backward=backward)
            entries = {"one call": replace(base, contender=backend)}
            others = [*COPIES] if options.quick else [*COPIES, "fused attention"]
            for name in others:
                entries[name] = replace(base, contender=name)
            yield Contest(
                suite="ofm",
                table="ofm",
                title=title,
                entries=entries,
                baseline="copies as released",
                clock=clock_of(options),
                memory=not options.quick,
            )


def _directions_contest(
    options: Options, sizes: dict[str, int], title: str, backend: str, backward: bool
) -> Contest:
    """Return the contest of only the convolution and the scan inside the OFM."""
    inner = {
        "B": sizes["B"],
        "L": sizes["L"],
        "K": sizes["K"],
        "D": 2 * sizes["C"],
        "N": 16,
        "W": 4,
    }
    base = base_workload(options, "directions", inner, backward=backward)
    entries = {"one call": replace(base, contender=backend)}
    for name, copies in COPIES.items():
        entries[name] = replace(base, contender=name, layout=copies.layout)
    return Contest(
        suite="ofm",
        table="ofm-scan",
        title=title,
        entries=entries,
        baseline="copies as released",
        clock=clock_of(options),
        memory=True,
    )


def layers(options: Options) -> Iterator[Contest]:
    """Every layer at the sizes of a ViT-B tracker: parameters, arithmetic, time and memory.

    A layer is timed beside its counterpart. Then what the scores of an attention cost.
    """
    for case in CASES:
        for setup in case.full[:1] if options.quick else case.full:
            yield _layer_contest(options, case, setup)
    for tokens, template, streams in ((640, 64, 2), (720, 144, 1)):
        sizes = {"B": 1, "L": tokens, "C": 768, "T": template, "S": streams}
        base = base_workload(options, "attention", sizes)
        contenders = ("fused, scores", "fused, no scores", "written out, scores")
        yield Contest(
            suite="layers",
            table="attention-scores",
            title=f"{tokens} tokens, forward",
            entries={name: replace(base, contender=name) for name in contenders},
            baseline="fused, no scores",
            clock=clock_of(options),
            memory=not options.quick,
        )


def _layer_contest(options: Options, case: Case, setup: Setup) -> Contest:
    name = f"{case.name}: {setup.size}"
    base = replace(base_workload(options, "layer", {}), contender=name)
    entries = {PASSES[backward]: replace(base, backward=backward) for backward in options.passes}
    baseline = PASSES[options.passes[0]]
    counterpart = next((other for other in CASES if other.name == case.compared_with), None)
    if counterpart and setup.size in [same.size for same in counterpart.full]:
        contender = f"{counterpart.name}: {setup.size}"
        entries[counterpart.name] = replace(entries[baseline], contender=contender)
        baseline = counterpart.name
    return Contest(
        suite="layers",
        table="layers",
        title=name,
        entries=entries,
        baseline=baseline,
        clock=clock_of(options),
        memory=not options.quick,
    )


SUITES: dict[str, Callable[[Options], Iterator[Contest]]] = {
    "scan": scan,
    "conv": conv,
    "block": block,
    "dfm": dfm,
    "ofm": ofm,
    "layers": layers,
}
"""Every suite of ops, blocks and layers, in the order in which they run."""


def contests(names: Iterable[str], options: Options) -> list[Contest]:
    """Return what the suites ``names`` compare under ``options``."""
    return [contest for name in names for contest in SUITES[name](options)]
