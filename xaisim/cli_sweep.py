"""The commands of a sweep: run (the default), front, export, query.

xaisim sweep SPACE.yaml -o STORE.sqlite          fills the store and shows the Pareto front
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xaisim.config import UserError, did_you_mean, shipped_names
from xaisim.progress import Progress

if TYPE_CHECKING:
    from xaisim.sweep.rules import Objective
    from xaisim.sweep.run import Swept
    from xaisim.sweep.store import Row

_STORE = click.Path(path_type=Path)


class _Group(click.Group):
    """``sweep SPACE`` is ``sweep run SPACE``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            near = did_you_mean(args[0], self.commands)
            if near and args[0].isalpha() and args[0] not in shipped_names("dse"):
                raise click.UsageError(f"no space and no command {args[0]!r}{near}", ctx)
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Group, short_help="Explore a design space and show its Pareto front.", no_args_is_help=True)
def sweep() -> None:
    """Fill a store with the points of a design space, and show what is best.

    \b
    xaisim sweep SPACE.yaml -o STORE.sqlite      fill it; the command given again goes on where it was
    xaisim sweep front STORE.sqlite              the Pareto front, and the command for each of its points
    xaisim sweep export STORE.sqlite -o FILE     all points as .csv or .parquet
    xaisim sweep query STORE.sqlite "SELECT …"   whatever SQL can ask
    """


@sweep.command(short_help="Fill a store (the default).")
@click.argument("space", metavar="SPACE")
@click.option("-o", "--output", metavar="STORE", type=_STORE, required=True, help="The store, an SQLite file.")
@click.option("--workers", metavar="N", type=click.IntRange(min=1), default=1, help="Processes here.  [default: 1]")
@click.option("--cluster", metavar="ADDRESS", help="A Dask scheduler whose workers do it, e.g. tcp://host:8786.")
@click.option("--points", metavar="N", type=click.IntRange(min=1), help="How many, instead of the space file's.")
@click.option("--from", "warm", metavar="STORE", type=_STORE, help="Begin with the front of an earlier store.")
@click.option("--any-code", is_flag=True, help="Go on with a store that another state of xaisim filled.")
@click.option("--retry-failed", is_flag=True, help="Do failed points again.")
@click.option("--json", "as_json", is_flag=True, help="Print front and counts as JSON and nothing else.")
def run(space: str, output: Path, as_json: bool, **settings: Any) -> None:
    """Fill STORE with the points of SPACE, a YAML file or a name from dse/, and show the Pareto front.

    Everything finished is kept: a sweep that was stopped, by whatever, goes on when the command is given again, and
    several may fill one store at once. Exits with 0, with 1 if every point failed, or with 2 after an error.
    """
    from xaisim.sweep.run import sweep as run_sweep
    from xaisim.sweep.space import load_space, space_text

    checked, text = load_space(space), space_text(space)
    try:
        with Progress(quiet=as_json) as progress:
            found = run_sweep(checked, output, text=text, progress=progress, **settings)
    except KeyboardInterrupt:
        click.echo(f"stopped; what is finished stands in {output}, and the same command goes on", err=True)
        raise click.exceptions.Exit(130) from None
    if as_json:
        click.echo(json.dumps(_summary(found), indent=1))
    else:
        click.echo(_counts(found))
        _show_front(found.front, checked.goals, found.rows)
    if found.rows and found.count("failed") == len(found.rows):
        raise click.exceptions.Exit(1)


@sweep.command(short_help="Show the Pareto front of a store.")
@click.argument("store", type=_STORE)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON and nothing else.")
def front(store: Path, as_json: bool) -> None:
    """Show the Pareto front of STORE as a table, and the command that makes each of its points again."""
    from xaisim.sweep.front import front as front_of
    from xaisim.sweep.table import points_of

    rows, objectives = points_of(store)
    best = front_of(rows, objectives)
    if as_json:
        click.echo(json.dumps([_row(row) for row in best], indent=1))
    else:
        _show_front(best, objectives, rows)


@sweep.command(short_help="Write all points as CSV or Parquet.")
@click.argument("store", type=_STORE)
@click.option("-o", "--output", metavar="FILE", type=_STORE, required=True, help="A .csv or .parquet file.")
@click.option("--hypervolume", is_flag=True, help="A column with the hypervolume after each point.")
@click.option("--force", is_flag=True, help="Replace an existing FILE.")
def export(store: Path, output: Path, hypervolume: bool, force: bool) -> None:
    """Write every point of STORE with its inputs and outputs, a row each, into FILE."""
    from xaisim.sweep.table import export as write

    if output.exists() and not force:
        raise UserError(f"{output}: exists already; choose another name or use --force")
    click.echo(f"{write(store, output, hypervolume=hypervolume)} points written to {output}")


@sweep.command(short_help="Ask a store in SQL.")
@click.argument("store", type=_STORE)
@click.argument("sql")
@click.option("--json", "as_json", is_flag=True, help="Print rows as JSON.")
def query(store: Path, sql: str, as_json: bool) -> None:
    """Print what an SQL statement reads from STORE, tab by tab. Nothing can be changed.

    \b
    xaisim sweep query s.sqlite "SELECT inputs ->> '$.method', min(outputs ->> 'latency_ms') FROM points GROUP BY 1"
    """
    from xaisim.sweep.store import Store

    with Store.read(store) as opened:
        columns, rows = opened.query(sql)
    if as_json:
        twice = next((name for name in columns if columns.count(name) > 1), None)
        if twice is not None:
            raise UserError(f"two columns are called {twice!r}; tell them apart with AS")
        click.echo(json.dumps([dict(zip(columns, row, strict=True)) for row in rows], indent=1, default=repr))
    else:
        click.echo("\n".join("\t".join(map(str, row)) for row in [columns, *rows]))


def _counts(found: Swept) -> str:
    computed = f"{found.computed} computed in {found.seconds:.1f} s"
    volume = "" if not found.hypervolume else f"; hypervolume {_over_time(found.hypervolume)}"
    broken = f", {found.count('failed')} failed, {found.count('pruned')} pruned"
    return f"{len(found.rows)} points: {found.count('done')} done{broken}; {computed}{volume}"


def _over_time(volumes: list[float]) -> str:
    """Say how much is dominated after a tenth of the points, half of them and all."""
    places = sorted({max(1, len(volumes) // 10), max(1, len(volumes) // 2), len(volumes)})
    return ", ".join(f"{volumes[place - 1]:.4f} after {place}" for place in places)


def _show_front(rows: Sequence[Row], objectives: Sequence[Objective], all_rows: Sequence[Row]) -> None:
    from rich.console import Console

    from xaisim.sweep.table import front_table, no_front

    if not rows:
        click.echo(no_front(all_rows, objectives))
        return
    table = front_table(rows, objectives)
    width = Console(width=1000).measure(table).maximum
    Console(highlight=False, width=width).print(table)
    for number, row in enumerate(rows, start=1):
        click.echo(f"{number:3d}  {row.command}")


def _row(row: Any) -> dict[str, Any]:
    return {"hash": row.hash, "inputs": row.inputs, "outputs": row.outputs, "command": row.command}


def _summary(found: Swept) -> dict[str, Any]:
    counts = {status: found.count(status) for status in ("done", "failed", "pruned")}
    return {
        "points": len(found.rows), **counts, "computed": found.computed, "seconds": round(found.seconds, 3),
        "hypervolume": found.hypervolume, "front": [_row(row) for row in found.front],
    }  # fmt: skip
