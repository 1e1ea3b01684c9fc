"""The questions about whole trackers: each against the plain OSTrack of its size, in every form and
setting."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from rgbt_fusion.benchmarking.comparison import Comparison, Options, base_workload, clock_of
from rgbt_fusion.benchmarking.trackers import TRACKERS
from rgbt_fusion.benchmarking.workloads import Workload

__all__ = ["models"]

BASELINE = "OSTrack"
NAIVE = ("two streams", "AINet, released widths", "AINet, compact", "teacher", "student")
"""Trackers that are also timed as they are usually written."""

FEW = (BASELINE, "AINet, released widths", "student, elimination")
"""Trackers that are measured in every setting: the measure, the slowest one, the fastest of both
modalities."""

QUICK = (
    BASELINE,
    "two streams",
    "AINet, released widths",
    "AINet, compact",
    "student, elimination",
)

PROMPTERS = tuple(name for name in TRACKERS if name.startswith("teacher"))
FRAME = {"H": 480, "W": 640}


def models(options: Options) -> Iterator[Comparison]:
    """Whole trackers: against OSTrack, in other forms and settings, in frames a second; the parts
    of the prompter."""
    for shape in options.shapes or ((1,),):
        if len(shape) != 1:
            raise ValueError(
                f"shape must be B, the batch, for this suite, got {','.join(map(str, shape))}"
            )
        yield from _of_batch(options, shape[0])
    if not options.shapes:
        yield from _settings(options)


def _of_batch(options: Options, batch: int) -> Iterator[Comparison]:
    base = base_workload(options, "model", {"B": batch})
    behind = f", batch {batch}" if batch > 1 else ""
    for name in (
        QUICK
        if options.quick
        else [name for name in TRACKERS if name not in PROMPTERS or name == "teacher"]
    ):
        yield _against_ostrack(options, base, name, behind)
    for name in () if options.quick else FEW[:2]:
        yield _forms(options, base, name, behind)
    if not options.quick:
        entries = {name: _runs(base, options, name) for name in ("two streams", *PROMPTERS)}
        title = f"prompter{behind}"
        yield Comparison(
            "models", "models-prompter", title, entries, "two streams", clock_of(options)
        )
    for name in FEW:
        yield _frames(options, base, name, behind)


def _runs(base: Workload, options: Options, name: str, form: str = "") -> Workload:
    size = "vits_256" if options.quick else "vitb_256"
    return replace(base, contender=f"{name}: {size}" + (f", {form}" if form else ""))


def _against_ostrack(options: Options, base: Workload, name: str, behind: str) -> Comparison:
    entries = {name: _runs(base, options, name)}
    if name == BASELINE:
        entries["explicit attention"] = _runs(base, options, name, "explicit attention")
    elif name in NAIVE and not options.quick:
        entries["written naively"] = _runs(base, options, name, "written naively")
    entries.setdefault(BASELINE, _runs(base, options, BASELINE))
    title, memory = f"{name}{behind}", not options.quick and name in (BASELINE, *NAIVE)
    return Comparison("models", "models", title, entries, BASELINE, clock_of(options), memory)


def _forms(options: Options, base: Workload, name: str, behind: str) -> Comparison:
    forms, skipped = {"eager": ""}, {}
    for form in ("ONNX Runtime", "int8", "ONNX Runtime, int8"):
        if options.device != "cpu":
            skipped[form] = "runs on cpu only"
        elif reason := _why_not(form, base.dtype):
            skipped[form] = reason
        elif name == BASELINE or form == "ONNX Runtime":
            forms[form] = form
    if name == BASELINE or options.device != "cpu":
        forms["compiled"] = "compiled"  # the last: exporting throws away what has been compiled
    entries = {label: _runs(base, options, name, form) for label, form in forms.items()}
    return Comparison(
        "models",
        "models-forms",
        f"{name}{behind}",
        entries,
        "eager",
        clock_of(options),
        errors=True,
        skipped=skipped,
    )


def _why_not(form: str, dtype: str) -> str:
    if dtype != "float32":
        return "starts from float32 only"
    if form.startswith("ONNX Runtime"):
        from rgbt_fusion.export.onnx_file import need_onnx

        try:
            need_onnx()
        except (ModuleNotFoundError, ValueError) as error:
            return str(error)
    return ""


def _frames(options: Options, base: Workload, name: str, behind: str) -> Comparison:
    network = _runs(base, options, name, "template kept")
    tracker = replace(_runs(base, options, name), task="track", sizes=base.sizes | FRAME)
    entries = {"network": network, "tracker": tracker}
    return Comparison(
        "models", "models-frames", f"{name}{behind}", entries, "network", clock_of(options)
    )


def _settings(options: Options) -> Iterator[Comparison]:
    """Yield the comparisons of other batches, thread counts and data types."""
    base = base_workload(options, "model", {"B": 1})
    batches = (1,) if options.quick else (1, 8)
    threads = options.threads if options.device == "cpu" else options.threads[:1]
    for batch in batches:
        for count in threads:
            if (batch, count) != (1, threads[0]):
                title = f"batch {batch}, {count} thread{'s' * (count > 1)}, {options.dtypes[0]}"
                changed = replace(base, sizes={"B": batch}, threads=count)
                yield _setting(options, changed, title)
    for dtype in options.dtypes[1:] if not options.quick else ():
        if dtype != "float16" or options.device == "cuda":
            yield _setting(
                options, replace(base, dtype=dtype), f"batch 1, {base.threads} thread, {dtype}"
            )


def _setting(options: Options, base: Workload, title: str) -> Comparison:
    names: Sequence[str] = QUICK[-1:] if options.quick else FEW[1:]
    entries = {name: _runs(base, options, name) for name in (*names, BASELINE)}
    clock = clock_of(options) if base.threads == 1 else "wall"
    return Comparison("models", "models-settings", title, entries, BASELINE, clock)
