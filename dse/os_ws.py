"""Compute cycles alone, layer by layer as if nothing had to be loaded: weight stationary over output stationary.

python dse/os_ws.py        prints the closed forms' ratio for ResNet18 on four arrays; dse/studies.py os_ws adds DRAM
"""

from __future__ import annotations

import math

from xaisim.hardware.array import SystolicArray, systolic_cycles
from xaisim.models.load import load_model


def products() -> list[tuple[str, int, int, int]]:
    """Return (layer, M, K, N) of every product of ResNet18 @224: pixels, products per output, filters."""
    graph = load_model("resnet18", values=False).graph
    found = []
    for node in graph.nodes:
        if node.op in ("conv", "linear"):
            weight = graph.type_of(node.args[1]).shape
            pixels = math.prod(node.type.shape[1:])
            found.append((node.name, pixels, math.prod(weight[1:]), weight[0]))
    return found


def cycles(side: int, dataflow: str, M: int, K: int, N: int, *, drain: bool) -> int:
    """Return the cycles of a product on a square array."""
    array = SystolicArray(
        kind="systolic", rows=side, cols=side, dataflow=dataflow, drain=drain, multiplier_bits=16, accumulator_bits=48
    )
    return int(systolic_cycles(array, M, K, N).total)


def main() -> None:
    """Print the table."""
    print("| array | ws/os, all layers | layers in which ws is ahead | ws/os over these | ws/os where os drains |")
    print("|---|---|---|---|---|")
    for side in (16, 32, 64, 128):
        rows = [
            (
                cycles(side, "ws", *p, drain=False),
                cycles(side, "os", *p, drain=False),
                cycles(side, "os", *p, drain=True),
            )
            for _, *p in products()
        ]
        ahead = [row for row in rows if row[0] < row[1]]
        ws, os_, drained = (sum(column) for column in zip(*rows, strict=True))
        over = f"{sum(r[0] for r in ahead) / sum(r[1] for r in ahead):.2f}" if ahead else "-"
        print(f"| {side} x {side} | {ws / os_:.2f} | {len(ahead)} of {len(rows)} | {over} | {ws / drained:.2f} |")


if __name__ == "__main__":
    main()
