"""``rgbt-fusion info``: what is installed and what would run."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

EXTRAS = {
    "tracking": ("cv2", "matplotlib"),
    "triton": ("triton",),
    "cuda": ("mamba_ssm", "causal_conv1d"),
    "export": ("onnx", "onnxscript", "onnxruntime"),
    "train": ("tensorboard",),
}
"""The packages that each extra brings, by the names they are imported under."""


def info(
    device: Annotated[str | None, typer.Option(help="Where inputs would be, cpu or cuda; by default either.")] = None,
    dtype: Annotated[str, typer.Option(help="Their data type: float32, bfloat16, float16 or float64.")] = "float32",
) -> None:
    """Say which version this is, what the machine has, which backends run, and how to get what is missing."""
    import torch
    from rich.console import Console

    from rgbt_fusion.checks import check_choice

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
