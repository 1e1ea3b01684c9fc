"""``rgbt-fusion convert``: any readable file of weights as one of this library."""

from pathlib import Path
from typing import Annotated

import typer


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SRC", help="Weights of OSTrack, DropTrack, AINet, a ViT, MAE or this library."
        ),
    ],
    destination: Annotated[
        Path, typer.Argument(metavar="DST", help="The file to write (safetensors).")
    ],
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The preset to fill; by default the one that SRC fits."),
    ] = None,
    minimum_share: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="How much of the model SRC must provide, 0 to 1, instead of the usual.",
        ),
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="Of the numbers in DST: float32, float16 or bfloat16.")
    ] = "float32",
    force: Annotated[bool, typer.Option("--force", help="Replace DST where it exists.")] = False,
) -> None:
    """Convert a checkpoint, safely: nothing in it is run. Says what was loaded, resized, missing
    and of no use."""
    import torch

    from rgbt_fusion.checks import check_choice
    from rgbt_fusion.cli.model_argument import refuse_overwriting
    from rgbt_fusion.models.presets import list_models
    from rgbt_fusion.weights.checkpoints import convert_checkpoint

    check_choice(dtype, ("float32", "float16", "bfloat16"), name="--dtype")
    if model is not None:
        check_choice(model, list_models(), name="--model")
    refuse_overwriting(destination, force=force)
    report = convert_checkpoint(
        source, destination, name=model, dtype=getattr(torch, dtype), minimum_share=minimum_share
    )
    typer.echo(report)
    typer.echo(f"wrote {destination}", err=True)
