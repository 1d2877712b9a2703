"""Run ready design spaces and print what they say: dse/NAME.yaml is the space, dse/NAME.sql the question.

python dse/studies.py [NAME …] [--workers 2]         stores and CSV files go to results/
"""

from __future__ import annotations

import argparse
from pathlib import Path

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


def main() -> None:
    """Run the studies that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], metavar="NAME")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    results = Path("results")
    results.mkdir(exist_ok=True)
    for name in options.names or NAMES:
        space, store = HERE / f"{name}.yaml", results / f"{name}.sqlite"
        found = sweep(load_space(space), store, text=space_text(space), workers=options.workers)
        export(store, store.with_suffix(".csv"))
        print(f"\n## {name}: {len(found.rows)} points, {found.computed} computed in {found.seconds:.0f} s\n")
        print(table(store, (HERE / f"{name}.sql").read_text()), flush=True)


if __name__ == "__main__":
    main()
