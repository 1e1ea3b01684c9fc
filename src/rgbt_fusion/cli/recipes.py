"""``rgbt-fusion recipes``: the trainings that come with the package."""

from typing import Annotated

import typer

from rgbt_fusion.cli.completion import complete_recipes
from rgbt_fusion.cli.terminal_tables import print_whole


def recipes(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Recipe to print; if omitted, all are listed.",
            autocompletion=complete_recipes,
        ),
    ] = None,
) -> None:
    """List the recipes of the package, or print one of them.

    A printed recipe is a TOML file for `train` and `distill`: change what you want to change.
    """
    from rgbt_fusion.training import DistillConfig, config_from_table, list_recipes, read_table
    from rgbt_fusion.training.config import recipe_text

    if name is not None:
        typer.echo(recipe_text(name).rstrip("\n"))
        return
    from rich.table import Table as Drawn

    table = Drawn("recipe", "model", "data", box=None, pad_edge=False)
    for column in ("steps", "batch"):
        table.add_column(column, justify="right")
    for recipe in list_recipes():
        # a recipe may hold settings of a distillation, too
        config = config_from_table(DistillConfig, read_table(recipe))
        table.add_row(
            recipe,
            config.model,
            config.data.layout,
            str(config.steps),
            str(config.batch_size),
        )
    print_whole(table)
