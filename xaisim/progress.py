"""A bar on a terminal for whatever takes a while, and silence where nobody looks.

with Progress(quiet=False) as progress:
    progress("points", 3, 200)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

RESULTS = Path("xaisim-results")
"""Where commands put results that nobody has named a place for."""


class Progress:
    """A bar on a terminal, silence elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        console = Console(stderr=True)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Progress:
        if not self._bar.disable:  # a bar that is not shown must not leave an empty line either
            self._bar.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        if not self._bar.disable:
            self._bar.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        if what not in self._tasks:
            for task in self._tasks.values():
                self._bar.update(task, visible=False)
            self._tasks[what] = self._bar.add_task(what, total=total)
        self._bar.update(self._tasks[what], completed=done, total=total)
