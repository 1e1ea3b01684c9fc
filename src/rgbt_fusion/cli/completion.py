"""The names that a shell completes; each function takes what is typed so far."""

from collections.abc import Iterable

__all__ = ["complete_benchmarks", "complete_layouts", "complete_models", "complete_recipes"]


def complete_models(incomplete: str) -> list[str]:
    """Return the presets that begin so."""
    from rgbt_fusion.models.presets import list_models

    return _beginning(list_models(), incomplete)


def complete_recipes(incomplete: str) -> list[str]:
    """Return the recipes that begin so; their names are read without torch."""
    from importlib import resources

    files = (resources.files("rgbt_fusion") / "recipes").iterdir()
    names = [file.name for file in files if file.name.endswith(".toml")]
    return _beginning((name.removesuffix(".toml") for name in sorted(names)), incomplete)


def complete_benchmarks(incomplete: str) -> list[str]:
    """Return the benchmarks that begin so."""
    from rgbt_fusion.evaluation.protocols import PROTOCOLS

    return _beginning(PROTOCOLS, incomplete)


def complete_layouts(incomplete: str) -> list[str]:
    """Return the layouts of datasets that begin so."""
    from rgbt_fusion.data.layouts import LAYOUTS

    return _beginning(LAYOUTS, incomplete)


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
