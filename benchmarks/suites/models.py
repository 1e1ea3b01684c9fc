"""The questions about whole trackers: each against the plain OSTrack of its size.

They are asked of every tracker, of other forms and settings, and of the parts of the prompter.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from benchmarks.suites.trackers import TRACKERS
from rgbt_fusion.benchmarking.contest import Contest, Options, base_workload, clock_of
from rgbt_fusion.benchmarking.suites import sizes_of
from rgbt_fusion.benchmarking.workloads import Workload

__all__ = ["models"]

OSTRACK = "OSTrack"
"""The measure."""

NAIVE = ("two streams", "AINet, released widths", "AINet, compact", "teacher", "student")
"""Trackers that are also timed as they are usually written."""

FEW = (OSTRACK, "AINet, released widths", "student, elimination")
"""Trackers in every setting: the measure, the slowest one, the fastest of both modalities."""

QUICK = (
    OSTRACK,
    "two streams",
    "AINet, released widths",
    "AINet, compact",
    "student, elimination",
)

PROMPTERS = tuple(name for name in TRACKERS if name.startswith("teacher"))
FULL = tuple(name for name in TRACKERS if name == "teacher" or name not in PROMPTERS)
FRAME = {"H": 480, "W": 640}


def models(options: Options) -> Iterator[Contest]:
    """Whole trackers: against OSTrack, in other forms and settings, in frames per second."""
    for shape in options.shapes or ((1,),):
        yield from _of_batch(options, sizes_of(shape, ("B",))["B"])
    if not options.shapes:
        yield from _settings(options)


def _of_batch(options: Options, batch: int) -> Iterator[Contest]:
    base = base_workload(options, "model", {"B": batch})
    behind = f", batch {batch}" if batch > 1 else ""
    for name in QUICK if options.quick else FULL:
        yield _against_ostrack(options, base, name, f"{name}{behind}")
    if not options.quick:
        for name in FEW[:2]:
            yield _forms(options, base, name, f"{name}{behind}")
        yield Contest(
            suite="models",
            table="models-prompter",
            title=f"prompter{behind}",
            entries={name: _runs(base, options, name) for name in ("two streams", *PROMPTERS)},
            baseline="two streams",
            clock=clock_of(options),
        )
    for name in FEW:
        yield _frames(options, base, name, f"{name}{behind}")


def _runs(base: Workload, options: Options, name: str, form: str = "") -> Workload:
    """Return the workload of a tracker in a form; no form is eager."""
    size = "vits_256" if options.quick else "vitb_256"
    contender = f"{name}: {size}"
    if form:
        contender += f", {form}"
    return replace(base, contender=contender)


def _against_ostrack(options: Options, base: Workload, name: str, title: str) -> Contest:
    entries = {name: _runs(base, options, name)}
    if name == OSTRACK:
        entries["explicit attention"] = _runs(base, options, name, "explicit attention")
    else:
        if name in NAIVE and not options.quick:
            entries["written naively"] = _runs(base, options, name, "written naively")
        entries[OSTRACK] = _runs(base, options, OSTRACK)
    return Contest(
        suite="models",
        table="models",
        title=title,
        entries=entries,
        baseline=OSTRACK,
        clock=clock_of(options),
        memory=not options.quick and name in (OSTRACK, *NAIVE),
    )


def _forms(options: Options, base: Workload, name: str, title: str) -> Contest:
    entries = {"eager": _runs(base, options, name)}
    skipped = {}
    for form in ("ONNX Runtime", "int8", "ONNX Runtime, int8"):
        reason = _why_not(form, options.device, base.dtype)
        if reason:
            skipped[form] = reason
        elif name == OSTRACK or form == "ONNX Runtime":
            entries[form] = _runs(base, options, name, form)
    if name == OSTRACK or options.device != "cpu":
        # the last: exporting throws away what has been compiled
        entries["compiled"] = _runs(base, options, name, "compiled")
    return Contest(
        suite="models",
        table="models-forms",
        title=title,
        entries=entries,
        baseline="eager",
        clock=clock_of(options),
        errors=True,
        skipped=skipped,
    )


def _why_not(form: str, device: str, dtype: str) -> str:
    """Say why a form cannot run; empty if it can."""
    if device != "cpu":
        return "runs on cpu only"
    if dtype != "float32":
        return "starts from float32 only"
    if form.startswith("ONNX Runtime"):
        from rgbt_fusion.export.onnx_file import need_onnx

        try:
            need_onnx()
        except (ModuleNotFoundError, ValueError) as error:
            return str(error)
    return ""


def _frames(options: Options, base: Workload, name: str, title: str) -> Contest:
    tracker = replace(_runs(base, options, name), task="track", sizes=base.sizes | FRAME)
    return Contest(
        suite="models",
        table="models-frames",
        title=title,
        entries={"network": _runs(base, options, name, "template kept"), "tracker": tracker},
        baseline="network",
        clock=clock_of(options),
    )


def _settings(options: Options) -> Iterator[Contest]:
    """Yield the contests of other batches, thread counts and data types."""
    base = base_workload(options, "model", {"B": 1})
    batches = (1,) if options.quick else (1, 8)
    threads = options.threads if options.device == "cpu" else options.threads[:1]
    for batch in batches:
        for count in threads:
            if batch == 1 and count == threads[0]:
                continue  # that is the setting of all other contests
            changed = replace(base, sizes={"B": batch}, threads=count)
            plural = "s" if count > 1 else ""
            title = f"batch {batch}, {count} thread{plural}, {options.dtypes[0]}"
            yield _setting(options, changed, title)
    if options.quick:
        return
    for dtype in options.dtypes[1:]:
        if dtype != "float16" or options.device == "cuda":
            title = f"batch 1, {base.threads} thread, {dtype}"
            yield _setting(options, replace(base, dtype=dtype), title)


def _setting(options: Options, base: Workload, title: str) -> Contest:
    names: Sequence[str] = QUICK[-1:] if options.quick else FEW[1:]
    return Contest(
        suite="models",
        table="models-settings",
        title=title,
        entries={name: _runs(base, options, name) for name in (*names, OSTRACK)},
        baseline=OSTRACK,
        clock=clock_of(options) if base.threads == 1 else "wall",
    )
