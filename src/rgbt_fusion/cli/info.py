"""``rgbt-fusion info``: what is installed and what would run; with a model, what it is made of and
what it costs."""

from typing import TYPE_CHECKING, Annotated

import typer

from rgbt_fusion.cli.model_argument import MODEL_HELP

if TYPE_CHECKING:
    from rich.table import Table

    from rgbt_fusion.benchmarking.model_summary import ModelSummary, StepCost

EXTRAS = {
    "tracking": ("cv2", "matplotlib"),
    "triton": ("triton",),
    "cuda": ("mamba_ssm", "causal_conv1d"),
    "export": ("onnx", "onnxscript", "onnxruntime"),
    "train": ("tensorboard",),
}
"""The packages that each extra brings, by the names they are imported under."""


def info(
    model: Annotated[str | None, typer.Argument(metavar="[MODEL]", help=MODEL_HELP)] = None,
    device: Annotated[
        str | None, typer.Option(help="Where inputs would be, cpu or cuda; by default either.")
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="Their data type: float32, bfloat16, float16 or float64.")
    ] = "float32",
    json: Annotated[
        bool, typer.Option("--json", help="With MODEL: print the figures as JSON.")
    ] = False,
    static: Annotated[
        bool, typer.Option("--static", help="With MODEL: count only, run nothing.")
    ] = False,
) -> None:
    """Say what is installed and which backends run; of a MODEL: its layers, parameters, MACs,
    memory and latency."""
    import torch
    from rich.console import Console

    from rgbt_fusion.checks import check_choice

    if model is not None:
        _describe(model, json, static)
        return
    if json or static:
        raise ValueError("--json and --static must come with MODEL, got none")
    check_choice(dtype, ("float32", "bfloat16", "float16", "float64"), name="--dtype")
    check_choice(device or "cpu", ("cpu", "cuda"), name="--device")
    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise ValueError("--device must be cpu on a machine without a CUDA device, got 'cuda'")
    console = Console(highlight=False)
    console.print(_machine_table())
    for place in (device,) if device else ("cpu", "cuda") if has_gpu else ("cpu",):
        console.print(_backend_table(place, dtype))
    console.print(_extras_table())


def _describe(name: str, json: bool, static: bool) -> None:
    from dataclasses import asdict

    from rich.console import Console

    from rgbt_fusion.benchmarking.model_summary import measure_step, summarise
    from rgbt_fusion.cli.model_argument import open_model

    network = open_model(name)
    summary = summarise(network)
    cost = None if static else measure_step(network)
    if json:
        from json import dumps

        typer.echo(
            dumps(
                {"name": name, **asdict(summary), "step": None if cost is None else asdict(cost)},
                indent=2,
            )
        )
        return
    console = Console(highlight=False)
    console.print(_component_table(summary))
    console.print(_figure_table(name, summary, cost))


def _component_table(summary: "ModelSummary") -> "Table":
    from rich.table import Table

    table = Table("part", title=summary.model, title_justify="left")
    table.add_column("layers", justify="right")
    table.add_column("parameters", justify="right")
    for part in summary.components:
        table.add_row(part.name, str(part.layers), f"{part.parameters:,}")
    table.add_section()
    table.add_row("all", "", f"{summary.parameters:,}", style="bold")
    return table


def _figure_table(name: str, summary: "ModelSummary", cost: "StepCost | None") -> "Table":
    from itertools import groupby

    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    settings, kept = (
        summary.configuration["settings"],
        [str(n) for n, _ in groupby(summary.search_tokens)],
    )
    rows = [
        ("model", name),
        ("crops", f"{settings['template_size']} px template, {settings['search_size']} px search"),
        ("tokens", f"{summary.template_tokens} template, {' > '.join(kept)} search, a stream"),
        (
            "MACs",
            f"{summary.macs / 1e9:.2f} G a step: matrix products, convolutions, attention, scans",
        ),
        ("weights", f"{summary.weight_bytes / 1e6:.1f} MB"),
    ]
    if cost is not None:
        threads = "1 thread" if cost.threads == 1 else f"{cost.threads} threads"
        rows += [
            ("memory", f"{cost.peak_resident_bytes / 1e6:.0f} MB at the peak of a fresh process"),
            (
                "latency",
                f"{cost.cpu_ms.median:.1f} ms of CPU time, {cost.wall_ms.median:.1f} ms by the clock ({threads})",
            ),
        ]
    for title, value in rows:
        table.add_row(f"[bold]{title}[/bold]", value)
    return table


def _machine_table() -> "Table":
    import platform

    import torch
    from rich.table import Table

    from rgbt_fusion import __version__

    table = Table(show_header=False, box=None, pad_edge=False)
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    for name, value in (
        ("rgbt_fusion", __version__),
        ("Python", platform.python_version()),
        ("torch", torch.__version__),
        ("threads", str(torch.get_num_threads())),
        ("CPU", f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"),
        ("GPU", ", ".join(gpus) or "none"),
    ):
        table.add_row(f"[bold]{name}[/bold]", value)
    return table


def _backend_table(device: str, dtype: str) -> "Table":
    import torch
    from rich.markup import escape
    from rich.table import Table

    from rgbt_fusion import backend_report

    table = Table("op", "backend", "", title=f"{dtype} inputs on {device}", title_justify="left")
    for op, report in backend_report(device, getattr(torch, dtype)).items():
        for name, reasons in report["why_not"].items():
            state = "[green]chosen[/green]" if name == report["chosen"] else "[dim]can run[/dim]"
            table.add_row(op, name, escape("; ".join(reasons)) if reasons else state)
            op = ""
        table.add_section()
    return table


def _extras_table() -> "Table":
    from importlib.util import find_spec

    from rich.markup import escape
    from rich.table import Table

    table = Table("extra", "missing", "command", title="optional packages", title_justify="left")
    for extra, modules in EXTRAS.items():
        missing = [module for module in modules if find_spec(module) is None]
        command = f"pip install 'rgbt-fusion[{extra}]'" if missing else ""
        table.add_row(extra, ", ".join(missing) or "[green]nothing[/green]", escape(command))
    return table
