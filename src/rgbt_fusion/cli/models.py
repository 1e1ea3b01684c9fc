"""``rgbt-fusion models``: the presets, what they cost, and where their weights come from."""

from typing import TYPE_CHECKING, Annotated

import typer

from rgbt_fusion.cli.completion import complete_models
from rgbt_fusion.cli.terminal_tables import print_whole

if TYPE_CHECKING:
    from rgbt_fusion.models.preset_figures import Figures


def models(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="WORD",
            help="Show only presets whose names hold all of these words: ainet 256.",
            autocompletion=complete_models,
        ),
    ] = None,
    most_parameters: Annotated[
        float | None,
        typer.Option(metavar="MILLIONS", help="Show only presets of at most so many parameters."),
    ] = None,
    most_gmacs: Annotated[
        float | None,
        typer.Option(
            metavar="G", help="Show only presets of at most so many GMACs (10^9) per step."
        ),
    ] = None,
    weights: Annotated[
        bool,
        typer.Option("--weights", help="Show only presets that trained weights exist for."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """List the presets with parameters, multiply-accumulates, and where weights come from.

    GMACs are those of one step at batch 1, the template included. `rgbt-fusion info NAME` says more
    of one preset.
    """
    from rgbt_fusion.checks import check_finite_number
    from rgbt_fusion.models.preset_figures import preset_figures
    from rgbt_fusion.models.presets import MODELS
    from rgbt_fusion.weights.pretrained import weights_of

    for value, name in ((most_parameters, "--most-parameters"), (most_gmacs, "--most-gmacs")):
        if value is not None:
            check_finite_number(value, name=name, low=0.0)
    chosen: dict[str, tuple[Figures, str]] = {}
    for name in MODELS:
        if not all(word.lower() in name for word in words or ()):
            continue
        source = weights_of(name)
        if weights and not source:
            continue
        figures = preset_figures(name)
        if most_parameters is not None and figures.parameters > most_parameters * 1e6:
            continue
        if most_gmacs is not None and figures.macs > most_gmacs * 1e9:
            continue
        chosen[name] = (figures, source)
    if not chosen:
        raise ValueError(f"{_hint(words or [])}no preset is left; without filters all are listed")
    if json:
        _print_json(chosen)
    else:
        _print_table(chosen)


def _hint(words: list[str]) -> str:
    """Return what to say of words that no preset holds."""
    from rgbt_fusion.checks import did_you_mean
    from rgbt_fusion.models.presets import MODELS

    parts = {part for name in MODELS for part in name.split("_")}
    for word in words:
        if not any(word.lower() in name for name in MODELS):
            near = did_you_mean(word, [*parts, *MODELS])
            return f"WORD must be part of a preset's name, got {word!r}{near or ';'} "
    return ""


def _print_json(chosen: "dict[str, tuple[Figures, str]]") -> None:
    from dataclasses import asdict
    from json import dumps

    from rgbt_fusion.models.presets import MODELS

    rows = []
    for name, (figures, source) in chosen.items():
        preset = MODELS[name]
        rows.append(
            {
                "name": name,
                "network": preset.network.__name__,
                "parameters": figures.parameters,
                "macs": figures.macs,
                "weights": source,
                "settings": asdict(preset.settings),
                "options": preset.options,
            }
        )
    typer.echo(dumps(rows, indent=1))


def _print_table(chosen: "dict[str, tuple[Figures, str]]") -> None:
    from rich.table import Table as Drawn

    from rgbt_fusion.models.presets import MODELS

    table = Drawn("preset", "network", box=None, pad_edge=False)
    for column in ("crops (px)", "parameters", "GMACs"):
        table.add_column(column, justify="right")
    table.add_column("weights")
    for name, (figures, source) in chosen.items():
        settings = MODELS[name].settings
        table.add_row(
            name,
            MODELS[name].network.__name__,
            f"{settings.template_size} / {settings.search_size}",
            f"{figures.parameters / 1e6:.1f} M",
            f"{figures.macs / 1e9:.2f}",
            source or "none: rgbt-fusion train",
        )
    print_whole(table)
