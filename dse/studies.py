"""Run ready design spaces and print what they say: dse/NAME.yaml is the space, dse/NAME.sql the question.

python dse/studies.py [NAME …] [--workers 2]         stores and CSV files go to results/
"""

from __future__ import annotations

from pathlib import Path

import click

from xaisim.config import UserError, choose
from xaisim.sweep.run import sweep
from xaisim.sweep.space import load_space, space_text
from xaisim.sweep.store import Store
from xaisim.sweep.table import export

HERE = Path(__file__).resolve().parent
NAMES = ("array_buffer_bandwidth", "bits_method_fidelity", "boards", "points_in_flight", "os_ws")


def table(store: Path, question: str) -> str:
    """Return what a question's rows are as Markdown."""
    with Store.read(store) as opened:
        columns, rows = opened.query(question)
    lines = [columns, ["---"] * len(columns), *([str(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def study(name: str, results: Path, workers: int) -> None:
    """Fill a space's store and print the answer to its question."""
    space, store = HERE / f"{name}.yaml", results / f"{name}.sqlite"
    found = sweep(load_space(space), store, text=space_text(space), workers=workers)
    export(store, store.with_suffix(".csv"))
    click.echo(f"\n## {name}: {len(found.rows)} points, {found.computed} computed in {found.seconds:.0f} s\n")
    click.echo(table(store, (HERE / f"{name}.sql").read_text()))


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--workers", type=click.IntRange(min=1), default=1, help="Processes.  [default: 1]")
def main(names: tuple[str, ...], workers: int) -> None:
    """Run the design spaces that are named, or all of them."""
    results = Path("results")
    try:
        chosen = [choose("study", name, NAMES) for name in names] or NAMES
        results.mkdir(exist_ok=True)
        for name in chosen:
            study(name, results, workers)
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        raise click.exceptions.Exit(2) from None


if __name__ == "__main__":
    main()
