"""A store as a table: its front on the terminal, all of it as CSV or Parquet.

rows, objectives = points_of(Path("store.sqlite")); front(rows, objectives)
export(Path("store.sqlite"), Path("points.csv"))
"""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xaisim.config import UserError
from xaisim.sweep.front import hypervolumes
from xaisim.sweep.rules import Objective
from xaisim.sweep.store import Row, Store

if TYPE_CHECKING:
    from rich.table import Table

_FORMATS = (".csv", ".parquet")


def points_of(path: Path) -> tuple[list[Row], list[Objective]]:
    """Return the finished points of a store and its objectives; raises :class:`UserError`."""
    with Store.read(path) as store:
        return list(store.finished().values()), store.objectives()


def no_front(rows: Sequence[Row], objectives: Sequence[Objective]) -> str:
    """Return why there is no front: what the points lack, or why most of them did not come through."""
    done = [row for row in rows if row.status == "done"]
    lacking = [goal.name for goal in objectives if not any(row.outputs.get(goal.name) is not None for row in done)]
    if done and lacking:
        return f"no front: no point has {lacking[0]}"
    reasons = Counter(row.error for row in rows if row.error)
    if not reasons:
        return "no front: no point is there"
    (reason, count), *_ = reasons.most_common(1)
    return f"no front: no point is done; {count} of {len(rows)}: {reason}"


def front_table(rows: Sequence[Row], objectives: Sequence[Objective]) -> Table:
    """Return the front as a table: what was varied, then the objectives."""
    from rich.table import Table

    keys = list(dict.fromkeys(key for row in rows for key in row.inputs))
    table = Table(box=None, pad_edge=False, header_style="")
    for name in ("#", *keys, *(f"{goal.name} ({goal.direction})" for goal in objectives)):
        table.add_column(name, justify="right", no_wrap=True)
    for number, row in enumerate(rows, start=1):
        inputs = [_text(row.inputs.get(key, "-")) for key in keys]
        table.add_row(str(number), *inputs, *(f"{row.outputs[goal.name]:.6g}" for goal in objectives))
    return table


def export(path: Path, output: Path, *, hypervolume: bool = False) -> int:
    """Write every finished point into a .csv or .parquet file and return how many; raises :class:`UserError`.

    The file appears complete or not at all.
    """
    if output.suffix not in _FORMATS:
        raise UserError(f"{output}: must end in {' or '.join(_FORMATS)}")
    rows, objectives = points_of(path)
    columns = _columns(rows)
    if hypervolume:
        columns["hypervolume"] = list(hypervolumes(rows, objectives))
    partial = output.with_name(output.name + ".part")
    try:
        (_write_csv if output.suffix == ".csv" else _write_parquet)(columns, partial)
        os.replace(partial, output)
    except OSError as error:
        raise UserError(f"{output}: cannot be written: {error.strerror or error}") from None
    finally:
        partial.unlink(missing_ok=True)
    return len(rows)


def _columns(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Return the columns of all rows; what a row has not is None."""
    columns: dict[str, list[Any]] = {
        name: [getattr(row, name) for row in rows] for name in ("hash", "status", "rung", "error")
    }
    for part in ("inputs", "outputs"):
        for key in dict.fromkeys(key for row in rows for key in getattr(row, part)):
            values = [getattr(row, part).get(key) for row in rows]
            kinds = {type(value) for value in values if value is not None}
            plain = kinds <= {int, float} or kinds in ({str}, {bool})
            columns[key] = values if plain else [None if value is None else _text(value) for value in values]
    columns["command"] = [row.command for row in rows]
    return columns


def _write_csv(columns: dict[str, list[Any]], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _write_parquet(columns: dict[str, list[Any]], path: Path) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UserError("Parquet needs pyarrow: pip install 'xaisim[parquet]'; or export to .csv") from None
    # A column of whole and broken numbers is one of broken ones.
    made = {
        key: [float(v) if isinstance(v, int) else v for v in values]
        if any(isinstance(v, float) for v in values)
        else values
        for key, values in columns.items()
    }
    pq.write_table(pa.table(made), path)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
