"""``rgbt-fusion convert``: any readable file of weights as one of this library."""

from pathlib import Path
from typing import Annotated

import typer

from rgbt_fusion.cli.completion import complete_models


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SRC",
            help="File of weights of OSTrack, DropTrack, AINet, a ViT, MAE or this library.",
        ),
    ],
    destination: Annotated[
        Path, typer.Argument(metavar="DST", help="File to write, in the safetensors format.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Preset to fill; by default the one that SRC fits.",
            autocompletion=complete_models,
        ),
    ] = None,
    minimum_share: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Share of the model that SRC must provide, from 0 to 1; by default all of it, "
            "or half where SRC is a ViT or another network.",
        ),
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="Data type of the numbers in DST: float32, float16 or bfloat16.")
    ] = "float32",
    force: Annotated[bool, typer.Option("--force", help="Replace DST where it exists.")] = False,
) -> None:
    """Convert a file of weights without running anything in it.

    The report says what was loaded, resized, missing and not used.
    """
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
