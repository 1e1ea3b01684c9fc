"""The published tables: those of every suite, and those inside of documents."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks.suites.complexity import complexity_table
from benchmarks.suites.headline import headline_table, readme_table
from benchmarks.suites.model_tables import (
    forms_table,
    frames_table,
    models_table,
    prompter_table,
    settings_table,
)
from benchmarks.suites.startup import startup_table
from rgbt_fusion.benchmarking.records import Record
from rgbt_fusion.benchmarking.tables import TABLES as LAYER_TABLES
from rgbt_fusion.benchmarking.tables import MakeTable, record_tables, show
from rgbt_fusion.files.table import fill_marked
from rgbt_fusion.files.whole import write_text

__all__ = ["SUMMARIES", "TABLES", "all_tables", "fill_document", "fill_text"]

TABLES: Mapping[str, MakeTable] = LAYER_TABLES | {
    "complexity": complexity_table,
    "models": models_table,
    "models-forms": forms_table,
    "models-settings": settings_table,
    "models-frames": frames_table,
    "models-prompter": prompter_table,
    "startup": startup_table,
}
"""How the rows of each table are shown."""

SUMMARIES: Mapping[str, MakeTable] = {"headline": headline_table, "readme": readme_table}
"""Tables whose figures are read off the rows of all others."""


def all_tables(records: Sequence[Record]) -> str:
    """Return the Markdown of the headline, and of every table that the records have rows for."""
    headline = show(records, headline_table)
    parts = [f"### headline\n\n{headline}"] if headline else []
    tables = record_tables(records, TABLES)
    if tables:
        parts.append(tables)
    return "\n\n".join(parts)


def fill_text(text: str, records: Sequence[Record]) -> str:
    """Return ``text`` with every marked table made anew from ``records``.

    A table stands between ``<!-- benchmark: NAME -->`` and ``<!-- /benchmark -->``. Nothing stands
    there where no record has its rows.

    Args:
        text: a document in Markdown.
        records: what was measured.

    Raises:
        ValueError: a marker names no table.

    Example:
        >>> from benchmarks.suites.tables import fill_text
        >>> print(fill_text("<!-- benchmark: scan -->\\nold\\n<!-- /benchmark -->", []))
        <!-- benchmark: scan -->
        <!-- /benchmark -->
    """

    return fill_marked(text, "benchmark", partial(_shown, records))


def _shown(records: Sequence[Record], name: str) -> str:
    if name in SUMMARIES:
        return show(records, SUMMARIES[name])
    if name in TABLES:
        return show(records, TABLES[name], table=name)
    known = ", ".join((*SUMMARIES, *TABLES))
    raise ValueError(f"a benchmark table must be one of {known}, got {name!r}")


def fill_document(path: Path, records: Sequence[Record]) -> None:
    """Make the marked tables of a document anew.

    Raises:
        ValueError: a marker names no table.
    """
    write_text(path, fill_text(path.read_text(encoding="utf-8"), records))
