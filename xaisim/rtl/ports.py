"""The ports of a generated array: one table for the circuit, its testbench and its README.

ports(design)       [Port("start", output=False, bits=1, text="…"), …]
"""

from __future__ import annotations

from typing import NamedTuple

from xaisim.rtl.design import TERMS, Design

COUNT_BITS = 48
"""Width of the cycle counters."""


class Port(NamedTuple):
    """One port besides clk and rst."""

    name: str
    output: bool
    bits: int
    signed: bool
    text: str


def shift_port(design: Design) -> tuple[int, bool]:
    """Return width and sign of a port that takes any of the design's shifts."""
    least, most = design.shifts
    return max(most.bit_length(), (-least - 1).bit_length() if least < 0 else 0) + (least < 0), least < 0


def requests(design: Design) -> dict[str, str]:
    """Return the vectors that the array asks for, and what lane i of one is, by index and base."""
    i = "base + i"
    left = {"os": f"x[{i}][index]", "ws": f"x[index][{i}]", "is": f"w[{i}][index]"}
    top = {"os": f"w[index][{i}]", "ws": f"w[index][{i}]", "is": f"x[{i}][index]"}
    initial = dict.fromkeys(("os", "ws"), f"what y[index][{i}] starts from")
    initial["is"] = f"what y[{i}][index] starts from"
    if not design.stationary and not design.joins_late:
        initial["os"] = f"what column {i} of y starts from"
    found = {"left": left, "top": top} | ({"initial": initial} if design.initial else {})
    if design.lift:
        y = f"y[{i}][index]" if design.array.dataflow == "is" else f"y[index][{i}]"
        found["lift"] = dict.fromkeys(left, f"bits to shift {y} left, before what it starts from joins")
    return {name: lanes[design.array.form] for name, lanes in found.items()}


def late_requests(design: Design) -> tuple[str, ...]:
    """Return the requests that come when sums leave, of a product that may be done already."""
    return ("initial",) * design.joins_late + ("lift",) * (design.lift > 0)


def ports(design: Design) -> list[Port]:
    """Return every port besides clk and rst (synchronous), in order."""
    array, place = design.array, design.place_bits
    M, K, N = "M (rows of x and y)", "K (columns of x, rows of w)", "N (columns of w and y)"
    meant = {"os": (M, N, K), "ws": (K, N, M), "is": (K, M, N)}[array.form]
    found = [Port("start", False, 1, False, "begin a product; taken in a cycle with ready")]
    for name, extent in zip(("rows", "cols", "stream"), meant, strict=True):
        found.append(Port(name, False, design.extent_bits, False, f"{extent}, with start"))
    if design.shifts[0] != design.shifts[1]:
        text = "bits to shift sums to the right (to the left if negative), with start"
        found.append(Port("shift", False, *shift_port(design), text))
    found += [
        Port("ready", True, 1, False, "idle, or in the last cycle of a product"),
        Port("busy", True, 1, False, "high for as many cycles as systolic_cycles says"),
        Port("done", True, 1, False, "the cycle after a product's last one"),
    ]
    lanes = {"left": array.rows * design.left.bits, "top": array.cols * design.top.bits}
    lanes |= {"initial": array.cols * design.first_bits, "lift": array.cols * design.lift.bit_length()}
    for name, lane in requests(design).items():
        of = ", of the product whose results leave" if name in late_requests(design) else ""
        found += [
            Port(f"{name}_fetch", True, 1, False, f"a vector is wanted in the next cycle{of}"),
            Port(f"{name}_index", True, place, False, "its index"),
            Port(f"{name}_base", True, place, False, "its first lane"),
            Port(f"{name}_data", False, lanes[name], False, f"the vector, a cycle later: lane i is {lane}"),
        ]
    order = "rows of a fold from the last up" if array.dataflow == "os" else "in the order of index"
    found += [
        Port("out_valid", True, array.cols, False, f"column c has a result: {order}"),
        Port("out_data", True, array.cols * design.outputs.bits, False, "the results, column 0 in the lowest bits"),
        Port("phase", True, 3, False, "0 idle, 1 load, 2 stream, 3 wait for weights, 4 skew, 5 drain"),
    ]
    return found + [Port(f"{t}_cycles", True, COUNT_BITS, False, f"{t} cycles of the last product") for t in TERMS]
