"""``rgbt-fusion export``: one step of a tracker for other runtimes."""

from pathlib import Path
from typing import Annotated

import typer

from rgbt_fusion.cli.model_argument import MODEL_HELP


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    destination: Annotated[
        Path, typer.Argument(metavar="DST", help="The file: .onnx, or .pt2 for torch.export.")
    ],
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Weights for a preset, of any kind that convert reads."),
    ] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="The weights that come with the package.")
    ] = False,
    batch: Annotated[int, typer.Option(help="Targets in one step.")] = 1,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8", help="With .onnx: write a second file, linear layers in int8, and its error."
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
) -> None:
    """Export one tracker step of fixed shapes, compared with PyTorch before it is kept."""
    from rgbt_fusion.checks import check_choice
    from rgbt_fusion.cli.model_argument import open_model, refuse_overwriting
    from rgbt_fusion.models.presets import list_models

    check_choice(destination.suffix, (".onnx", ".pt2"), name="the ending of DST")
    if int8 and destination.suffix != ".onnx":
        raise ValueError(f"--int8 must come with a DST that ends in .onnx, got {destination}")
    small = destination.with_suffix(".int8.onnx")
    for path in (destination, small) if int8 else (destination,):
        refuse_overwriting(path, force=force)
    network = open_model(model, checkpoint, pretrained=pretrained)
    if model in list_models() and checkpoint is None and not pretrained:
        typer.echo(
            f"note: {model} has random weights; give --checkpoint FILE for trained ones", err=True
        )
    if destination.suffix == ".pt2":
        from rgbt_fusion.export.program import export_program

        typer.echo(export_program(network, destination, batch=batch))
        return
    from rgbt_fusion.export.onnx_file import export_onnx

    typer.echo(export_onnx(network, destination, batch=batch))
    if int8:
        from rgbt_fusion.export.int8 import export_int8

        typer.echo(export_int8(network, destination, small, batch=batch))
