"""``rgbt-fusion export``: one step of a tracker for other runtimes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rgbt_fusion.cli.completion import complete_models
from rgbt_fusion.cli.model_argument import MODEL_HELP

if TYPE_CHECKING:
    from torch import nn


def export(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help=MODEL_HELP, autocompletion=complete_models)
    ],
    destination: Annotated[
        Path,
        typer.Argument(
            metavar="DST", help="File to write: .onnx for ONNX, .pt2 for a torch.export program."
        ),
    ],
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Weights for a preset or your own network, in any format that convert reads.",
        ),
    ] = None,
    pretrained: Annotated[
        bool,
        typer.Option("--pretrained", help="Use the weights that come with the package."),
    ] = False,
    batch: Annotated[int, typer.Option(help="Number of targets in one step.")] = 1,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="Also write an ONNX file with linear layers in int8, and print its error.",
        ),
    ] = False,
    float16: Annotated[
        bool,
        typer.Option("--float16", help="Also write an ONNX file in float16, and print its error."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
) -> None:
    """Export one tracker step of fixed shapes.

    The file is compared with PyTorch before it is kept.
    """
    from rgbt_fusion.checks import check_choice
    from rgbt_fusion.cli.model_argument import open_model, refuse_overwriting

    check_choice(destination.suffix, (".onnx", ".pt2"), name="the ending of DST")
    precisions = [name for name, is_chosen in (("int8", int8), ("float16", float16)) if is_chosen]
    others = [_of_precision(destination, name) for name in precisions]
    if others and destination.suffix != ".onnx":
        raise ValueError(
            f"--{precisions[0]} must come with a DST that ends in .onnx, got {destination}"
        )
    for file in (destination, *others):
        refuse_overwriting(file, force=force)
    network = open_model(model, checkpoint, pretrained=pretrained)
    _note_random_weights(model, checkpoint, pretrained)
    if destination.suffix == ".pt2":
        from rgbt_fusion.export.program import export_program

        typer.echo(export_program(network, destination, batch=batch))
    else:
        from rgbt_fusion.export.onnx_file import template_file

        if hasattr(network, "embed_template"):
            refuse_overwriting(template_file(destination), force=force)
        _export_onnx(network, destination, batch, precisions)


def _of_precision(destination: Path, precision: str) -> Path:
    return destination.with_suffix(f".{precision}.onnx")


def _note_random_weights(model: str, checkpoint: Path | None, pretrained: bool) -> None:
    from rgbt_fusion.models.presets import list_models

    if model in list_models() and checkpoint is None and not pretrained:
        typer.echo(
            f"note: {model} has random weights; give --checkpoint FILE for trained ones", err=True
        )


def _export_onnx(
    network: "nn.Module", destination: Path, batch: int, precisions: list[str]
) -> None:
    from rgbt_fusion.export.onnx_file import export_onnx

    typer.echo(export_onnx(network, destination, batch=batch))
    for precision in precisions:
        other = _of_precision(destination, precision)
        if precision == "int8":
            from rgbt_fusion.export.int8 import export_int8

            typer.echo(export_int8(network, destination, other, batch=batch))
        else:
            from rgbt_fusion.export.float16 import export_float16

            typer.echo(export_float16(network, destination, other, batch=batch))
