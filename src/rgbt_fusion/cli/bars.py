"""The bar that every command shows while it works, where somebody looks at a terminal."""

__all__ = ["Bar"]


class Bar:
    """A bar on the terminal, to be used in a ``with`` statement.

    It shows what is done, what is left, and a text. It is written to the error stream, and only if
    that is a terminal.

    Args:
        total: how many steps there are; None where nobody knows.
        text: what stands behind the bar.
        hidden: show no bar, also not on a terminal.
    """

    def __init__(self, total: float | None = None, text: str = "", *, hidden: bool = False) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
            console=self._console,
            transient=True,
            disable=hidden or not self._console.is_terminal,
        )
        self._task = self._progress.add_task(text, total=total)

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def advance(self, steps: float = 1, text: str | None = None) -> None:
        """Move the bar by some steps; a text takes the place of the last one."""
        self._progress.update(self._task, advance=steps, description=text)

    def show(self, done: float, total: float, text: str | None = None) -> None:
        """Put the bar where ``done`` of ``total`` steps are done."""
        self._progress.update(self._task, completed=done, total=total, description=text)

    def say(self, line: str) -> None:
        """Write a line above the bar."""
        self._console.print(line, markup=False, soft_wrap=True)

    @property
    def steps_per_second(self) -> float | None:
        """How fast the bar moves; None before it has moved."""
        return self._progress.tasks[0].speed
