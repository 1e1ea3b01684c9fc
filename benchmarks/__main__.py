"""The command line of a checkout: ``python -m benchmarks COMMAND``.

As in the package, no command imports torch before it runs.
"""

import sys
from collections.abc import Sequence
from typing import NoReturn

from benchmarks.alignment.command import alignment
from benchmarks.card.command import card
from benchmarks.study.command import study
from benchmarks.suites.command import complexity, models, startup, tables
from benchmarks.tracking.command import failing, settings
from rgbt_fusion.cli import new_app, run_app

__all__ = ["COMMANDS", "app", "main"]

COMMANDS = {
    "models": models,
    "complexity": complexity,
    "startup": startup,
    "tables": tables,
    "study": study,
    "alignment": alignment,
    "card": card,
    "settings": settings,
    "failing": failing,
}
"""Every command, in the order in which the help shows them."""


def _root() -> None:
    """Benchmarks of this project: whole trackers, complexity, start-up, and the study.

    Ops, blocks and layers are measured by `rgbt-fusion bench`.
    """


app = new_app("benchmarks", COMMANDS, _root)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave the process, as :func:`rgbt_fusion.cli.main` does.

    Args:
        arguments: what the user typed behind ``python -m benchmarks``; by default those of this
            process.
    """
    run_app(app, "python -m benchmarks", sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    main()
