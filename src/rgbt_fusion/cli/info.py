"""``rgbt-fusion info``: what is installed and what would run, or what a model costs."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rgbt_fusion.cli.completion import complete_models
from rgbt_fusion.cli.model_argument import MODEL_HELP

if TYPE_CHECKING:
    from rich.table import Table as Drawn

    from rgbt_fusion.cli.step_cost import StepCost
    from rgbt_fusion.models.summary import ModelSummary

EXTRAS = {
    "tracking": ("cv2", "matplotlib"),
    "triton": ("triton",),
    "cuda": ("mamba_ssm", "causal_conv1d"),
    "export": ("onnx", "onnxscript", "onnxruntime"),
    "train": ("tensorboard",),
    "vot": ("vot",),
}
"""The packages that each extra brings, by the names they are imported under."""


def info(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help=MODEL_HELP, autocompletion=complete_models)
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="Device of the inputs, cpu or cuda; by default all of this machine."),
    ] = None,
    dtype: Annotated[
        str,
        typer.Option(help="Data type of the inputs: float32, bfloat16, float16 or float64."),
    ] = "float32",
    json: Annotated[
        bool, typer.Option("--json", help="Print the figures of MODEL as JSON.")
    ] = False,
    static: Annotated[
        bool, typer.Option("--static", help="Only count the parts of MODEL; run nothing.")
    ] = False,
) -> None:
    """Show what is installed and which backends run, or describe MODEL.

    Of a model it shows layers, parameters, multiply-accumulates, memory and latency.
    """
    if model is not None:
        _describe(model, json, static)
        return
    if json or static:
        raise ValueError("--json and --static must come with MODEL, got none")
    _show_installation(device, dtype)


def _show_installation(device: str | None, dtype: str) -> None:
    import torch
    from rich.console import Console

    from rgbt_fusion.checks import check_choice

    check_choice(dtype, ("float32", "bfloat16", "float16", "float64"), name="--dtype")
    check_choice(device or "cpu", ("cpu", "cuda"), name="--device")
    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise ValueError("--device must be cpu on a machine without a CUDA device, got 'cuda'")
    devices = ["cpu", "cuda"] if has_gpu else ["cpu"]
    if device is not None:
        devices = [device]
    console = Console(highlight=False)
    console.print(_machine_table())
    for one in devices:
        console.print(_backend_table(one, dtype))
    console.print(_extras_table())


def _describe(name: str, json: bool, static: bool) -> None:
    from rich.console import Console

    from rgbt_fusion.cli.model_argument import open_model
    from rgbt_fusion.cli.step_cost import measure_step
    from rgbt_fusion.models.summary import summarise

    network = open_model(name)
    summary = summarise(network)
    cost = None if static else measure_step(network, name=name)
    if json:
        typer.echo(_as_json(name, summary, cost))
        return
    console = Console(highlight=False)
    console.print(_component_table(summary))
    console.print(_figure_table(name, summary, cost))


def _as_json(name: str, summary: "ModelSummary", cost: "StepCost | None") -> str:
    from dataclasses import asdict
    from json import dumps

    step = None if cost is None else asdict(cost)
    return dumps({"name": name, **asdict(summary), "step": step}, indent=2)


def _component_table(summary: "ModelSummary") -> "Drawn":
    from rich.table import Table as Drawn

    table = Drawn("part", title=summary.model, title_justify="left")
    table.add_column("layers", justify="right")
    table.add_column("parameters", justify="right")
    for part in summary.components:
        table.add_row(part.name, str(part.layers), f"{part.parameters:,}")
    table.add_section()
    table.add_row("all", "", f"{summary.parameters:,}", style="bold")
    return table


def _figure_table(name: str, summary: "ModelSummary", cost: "StepCost | None") -> "Drawn":
    figures = {
        "model": name,
        "crops": f"{summary.template_size} px template, {summary.search_size} px search",
        "tokens": _tokens(summary),
        "MACs": f"{summary.macs / 1e9:.2f} G a step: "
        "matrix products, convolutions, attention, scans",
        "weights": f"{summary.weight_bytes / 1e6:.1f} MB",
    }
    if summary.tracking_settings:
        figures["tracking"] = _settings_in_words(summary.tracking_settings)
    if cost is not None:
        threads = "1 thread" if cost.threads == 1 else f"{cost.threads} threads"
        cpu = f"{cost.cpu_ms.median:.1f} ms of CPU time"
        wall = f"{cost.wall_ms.median:.1f} ms by the clock"
        memory = cost.peak_resident_bytes / 1e6
        figures["memory"] = f"{memory:.0f} MB at the peak of a fresh process"
        figures["latency"] = f"{cpu}, {wall} ({threads})"
    return _plain_table(figures)


def _settings_in_words(settings: dict[str, Any]) -> str:
    """Return settings as a list: nested ones by their own names."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= {f"{name} {inner}": one for inner, one in value.items()}
        else:
            flat[name] = value
    return ", ".join(f"{name} {value}" for name, value in flat.items())


def _tokens(summary: "ModelSummary") -> str:
    if summary.template_tokens is None:
        return "not known: the network is no TrackingNetwork"
    return f"{summary.template_tokens} template, {_kept_tokens(summary)} search, a stream"


def _kept_tokens(summary: "ModelSummary") -> str:
    """Return the search tokens wherever their number changes."""
    from itertools import groupby

    return " > ".join(str(count) for count, _ in groupby(summary.search_tokens))


def _machine_table() -> "Drawn":
    import platform

    import torch

    from rgbt_fusion import __version__

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return _plain_table(
        {
            "rgbt_fusion": __version__,
            "Python": platform.python_version(),
            "torch": torch.__version__,
            "threads": str(torch.get_num_threads()),
            "CPU": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
            "GPU": ", ".join(gpus) or "none",
        }
    )


def _plain_table(values: dict[str, str]) -> "Drawn":
    from rich.table import Table as Drawn

    table = Drawn(show_header=False, box=None, pad_edge=False)
    for name, value in values.items():
        table.add_row(f"[bold]{name}[/bold]", value)
    return table


def _backend_table(device: str, dtype: str) -> "Drawn":
    import torch
    from rich.markup import escape
    from rich.table import Table as Drawn

    from rgbt_fusion import backend_report

    table = Drawn("op", "backend", "", title=f"{dtype} inputs on {device}", title_justify="left")
    for op, report in backend_report(device, getattr(torch, dtype)).items():
        shown_op = op
        for name, reasons in report["why_not"].items():
            state = "[green]chosen[/green]" if name == report["chosen"] else "[dim]can run[/dim]"
            table.add_row(shown_op, name, escape("; ".join(reasons)) if reasons else state)
            shown_op = ""
        table.add_section()
    return table


def _extras_table() -> "Drawn":
    from importlib.util import find_spec

    from rich.markup import escape
    from rich.table import Table as Drawn

    table = Drawn("extra", "missing", "command", title="optional packages", title_justify="left")
    for extra, modules in EXTRAS.items():
        missing = [module for module in modules if find_spec(module) is None]
        command = f"pip install 'rgbt-fusion[{extra}]'" if missing else ""
        table.add_row(extra, ", ".join(missing) or "[green]nothing[/green]", escape(command))
    return table
