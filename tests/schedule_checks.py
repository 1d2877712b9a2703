"""What a legal schedule keeps true, checked element by element against the operators' own index arithmetic.

    recorded = record(graph, arch); assert_legal(recorded, arch)

Which operand every load and store moves is read from the tiles; nothing else of the lowering is reused.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xaisim.hardware import Architecture
from xaisim.ir.graph import Graph
from xaisim.ir.ops import OPS, VIEWS, Node
from xaisim.mapping.choice import Choice
from xaisim.mapping.plan import plan_kernel
from xaisim.mapping.schedule import Schedule, schedule_of, verify
from xaisim.mapping.stages import Operand, Stage
from xaisim.mapping.tiles import Edge, Kind, Unit
from xaisim.simulate.clock import Trace, run_trip

Array = np.ndarray


@dataclass
class Recorded:
    """A schedule and the rows that load and store each operand of each stage."""

    schedule: Schedule
    loads: list[tuple[int, Operand, Array]] = field(default_factory=list)
    stores: list[tuple[int, Operand, Array]] = field(default_factory=list)


def record(graph: Graph, arch: Architecture, **choices: Any) -> Recorded:
    """Map a kernel and look up whose tile every load and store over the DRAM bus moves."""
    return recorded(schedule_of(plan_kernel(graph, arch, Choice(**choices)), arch))


def recorded(mapped: Schedule) -> Recorded:
    """Look up whose tile every load and store over the DRAM bus moves."""
    found = Recorded(mapped)
    tiles = mapped.tiles
    of_stage = zip(mapped.stages, mapped.placement.operands, strict=True)
    operands = [(stage.index, operand) for stage, own in of_stage for operand in own]
    over_bus = np.array([seat.kind == Unit.DMA for seat in tiles.units])[tiles.unit]
    for kind, rows_of in ((Kind.LOAD, found.loads), (Kind.STORE, found.stores)):
        rows = np.flatnonzero((tiles.kind == kind) & over_bus)
        for stream in np.unique(tiles.stream[rows]).tolist():
            index, operand = operands[stream]
            assert operand is not None
            rows_of.append((index, operand, rows[tiles.stream[rows] == stream]))
    return found


def assert_legal(recorded: Recorded, arch: Architecture, trips: int = 3) -> None:
    """Check all that this file knows of, over several trips of the body."""
    mapped = recorded.schedule
    verify(mapped, arch)
    traces: list[Trace] = []
    for _ in range(trips):
        traces.append(run_trip(mapped.tiles, traces[-1] if traces else None))
    assert_every_output_is_made_and_stored_once(mapped)
    assert_work_is_what_the_operators_need(mapped)
    assert_tiles_have_what_they_read(recorded)
    assert_traffic_is_at_least_compulsory(recorded)
    assert_no_two_live_tiles_share_an_address(mapped, traces, arch)
    if mapped.plan.points == 1:
        assert_loads_wait_for_the_stores_of_what_they_read(recorded, traces)
    assert_resident_tensors_are_safe(mapped, traces)


# Work -----------------------------------------------------------------------------------------------------------------


def coverage(mapped: Schedule, stage: Stage, kind: Kind) -> Array:
    """Count how often rows of a kind touch each output element of a stage, path point by path point."""
    nest, tiles = mapped.nests[stage.index], mapped.tiles
    count = np.zeros((nest.T, nest.K, nest.P, nest.Q), np.int64)
    mine = (tiles.stage == stage.index) & (tiles.kind == kind)
    for (k0, k1, p0, p1, q0, q1), (t0, t1) in zip(tiles.region[mine], tiles.points[mine], strict=True):
        count[t0:t1, k0:k1, p0:p1, q0:q1] += 1
    return count


def assert_every_output_is_made_and_stored_once(mapped: Schedule) -> None:
    for stage in mapped.stages:
        assert (coverage(mapped, stage, Kind.VECTOR) == 1).all(), stage.name
        moved = [o for o in stage.outputs if o.name not in mapped.placement.resident]
        stored = coverage(mapped, stage, Kind.STORE)
        if mapped.plan.points == 1:
            assert (stored == len(moved)).all(), stage.name
        else:  # what does not differ from point to point is stored once
            streams = mapped.placement.streams[stage.index]
            once = sum(s.role == "output" and s.moved and not s.point for s in streams)
            assert (stored.sum(axis=0) == (len(moved) - once) * mapped.nests[stage.index].T + once).all(), stage.name


def assert_work_is_what_the_operators_need(mapped: Schedule) -> None:
    types, tiles = mapped.graph.types(), mapped.tiles
    on_array = np.array([seat.kind is Unit.ARRAY for seat in tiles.units])[tiles.unit]
    for stage in mapped.stages:
        needed = OPS[stage.anchor.op].macs([types[a].shape for a in stage.anchor.args], stage.anchor)
        needed *= mapped.nests[stage.index].T
        mine = tiles.stage == stage.index
        assert tiles.macs[mine].sum() == needed, stage.name
        assert (tiles.macs[mine & ~on_array] == 0).all()
    assert mapped.plan.points > 1 or tiles.macs.sum() == mapped.graph.macs()
    fused = [node.name for stage in mapped.stages for node in stage.nodes]
    assert sorted(fused) == sorted(node.name for node in mapped.graph.nodes if node.op not in VIEWS)


# Operands -------------------------------------------------------------------------------------------------------------


def reads(node: Node, axis: int, first: int, last: int, extent: int) -> set[int]:
    """Return which input rows (axis 0) or columns (axis 1) the outputs [first, last) of an operator look at."""
    if node.op == "upsample":
        return set(range(extent))
    if node.op not in ("conv", "maxpool", "pool_index", "avgpool", "unpool"):
        return set(range(first, last))
    stride, pad = node.attrs["stride"][axis], node.attrs["padding"][axis]
    if node.op == "unpool":
        kernel = node.attrs["kernel"][axis]
        return {p for p in range(extent) if any(first <= p * stride + r - pad < last for r in range(kernel))}
    kernel, dilation = node.attrs["taps"][axis], node.attrs.get("dilation", (1, 1))[axis]
    places = {p * stride + r - pad for p in range(first, last) for r in range(kernel)}
    return {place // dilation for place in places if place % dilation == 0 and 0 <= place // dilation < extent}


def with_taps(mapped: Schedule, stage: Stage) -> Node:
    """Return the anchor with the size of its window under one name."""
    node = stage.anchor
    weight = mapped.graph.types()[node.args[1]].shape[2:] if node.op == "conv" else node.attrs.get("kernel")
    return Node(node.name, node.op, node.args, node.type, {**node.attrs, "taps": weight})


def volume(shape: tuple[int, ...]) -> tuple[int, int, int]:
    return shape if len(shape) == 3 else (int(np.prod(shape)), 1, 1)  # type: ignore[return-value]


def assert_tiles_have_what_they_read(recorded: Recorded) -> None:
    """Follow the data edges: the loads before each computation hold the rows, columns and channels that it reads."""
    mapped, tiles = recorded.schedule, recorded.schedule.tiles
    data = (tiles.edge_kind == Edge.DATA) & (tiles.edge_distance == 0)
    before: dict[int, list[int]] = {}
    for source, target in zip(tiles.edge_from[data].tolist(), tiles.edge_to[data].tolist(), strict=True):
        before.setdefault(target, []).append(source)
    owner = {int(row): operand for _, operand, rows in recorded.loads for row in rows}
    for stage in mapped.stages:
        node = with_taps(mapped, stage)
        moved = [o for s, o, _ in recorded.loads if s == stage.index]
        summed: dict[tuple[int, ...], list[tuple[int, int]]] = {}
        for row in np.flatnonzero(
            (tiles.stage == stage.index) & ((tiles.kind == Kind.COMPUTE) | (tiles.kind == Kind.VECTOR))
        ):
            computes = tiles.kind[row] == Kind.COMPUTE
            held = [(owner[r], tuple(tiles.region[r].tolist())) for r in before.get(int(row), []) if r in owner]
            wanted = [o.name for o in moved if (o.role != "tail") == computes or not stage.on_array]
            assert sorted(o.name for o, _ in held) == sorted(wanted), stage.name
            output = tuple(tiles.region[row].tolist())
            channels = [assert_held(node, operand, region, output, stage.on_array) for operand, region in held]
            if computes:
                assert len({c for c in channels if c is not None}) <= 1, "weights and inputs of different channels"
                summed.setdefault((*output, *tiles.points[row].tolist()), []).extend(tiles.channels[[row]].tolist())
        for parts in summed.values():
            ordered = sorted(parts)
            assert (ordered[0][0], ordered[-1][1]) == (0, mapped.nests[stage.index].C)
            assert all(a[1] == b[0] for a, b in itertools.pairwise(ordered)), stage.name


def assert_held(
    node: Node, operand: Operand, region: tuple[int, ...], output: tuple[int, ...], on_array: bool
) -> tuple[int, int] | None:
    """Check that a loaded tile holds what an output region reads of it; return the channels that are summed."""
    c0, c1, h0, h1, w0, w1 = region
    k0, k1, p0, p1, q0, q1 = output
    if operand.role == "weight":
        assert (c0, c1) == (k0, k1)
        return h0, h1
    if operand.role == "tail":
        assert region == output, node.name
        return None
    if node.op == "linear":
        return c0, c1
    _, height, width = volume(operand.type.shape)
    assert reads(node, 0, p0, p1, height) <= set(range(h0, h1)), node.name
    assert reads(node, 1, q0, q1, width) <= set(range(w0, w1)), node.name
    if not on_array:
        assert (c0, c1) == (k0, k1), node.name
    return c0, c1


def assert_traffic_is_at_least_compulsory(recorded: Recorded) -> None:
    """What a stage reads must cross the bus at least once, and what it makes exactly once."""
    mapped = recorded.schedule
    tiles = mapped.tiles
    for stage_index, operand, rows in recorded.loads:
        stage, nest = mapped.stages[stage_index], mapped.nests[stage_index]
        channels, height, width = volume(operand.type.shape)
        elements = operand.type.size
        if operand.role in ("input", "index") and stage.anchor.op != "linear":
            node = with_taps(mapped, stage)
            elements = channels * len(reads(node, 0, 0, nest.P, height)) * len(reads(node, 1, 0, nest.Q, width))
        assert tiles.read_bytes[rows, 0].sum() >= elements * operand.type.element_bits / 8, stage.name
    for _, operand, rows in recorded.stores:
        assert tiles.write_bytes[rows, 0].sum() >= operand.type.size_bits / 8


# Buffers and DRAM in time ---------------------------------------------------------------------------------------------


def assert_no_two_live_tiles_share_an_address(mapped: Schedule, traces: list[Trace], arch: Architecture) -> None:
    """A tile is live from the start of the row that fills it to the end of the last row that uses it."""
    a = mapped.tiles.allocations
    for index, memory in enumerate(arch.memories):
        mine = np.flatnonzero(a.memory == index)
        if not len(mine):
            continue
        low, high = a.address[mine], a.address[mine] + a.size_bytes[mine]
        assert low.min() >= 0
        assert high.max() <= memory.size
        room = np.array([free[memory.name] for free in mapped.placement.free])
        tile = a.slot[mine] >= 0
        assert (high[tile] <= room[mapped.tiles.stage[a.filled_by[mine[tile]]]]).all()
        starts = np.concatenate([trace.start[a.filled_by[mine]] for trace in traces])
        ends = np.concatenate([last_use(mapped, trace)[mine] for trace in traces])
        assert (starts <= ends).all()
        cuts = np.unique(np.concatenate([low, high]))
        first, last = np.searchsorted(cuts, low), np.searchsorted(cuts, high)
        busy_until = np.zeros(len(cuts), np.int64)
        for i in np.argsort(starts, kind="stable").tolist():
            places = slice(first[i % len(mine)], last[i % len(mine)])
            assert busy_until[places].max() <= starts[i], f"two tiles share {memory.name} at cycle {starts[i]}"
            busy_until[places] = ends[i]


def last_use(mapped: Schedule, trace: Trace) -> Array:
    """Return the cycle in which the last row that uses each allocation has ended."""
    accesses = mapped.tiles.accesses
    last = np.zeros(len(mapped.tiles.allocations.memory), np.int64)
    np.maximum.at(last, accesses.allocation, trace.end[accesses.row])
    return last


def assert_loads_wait_for_the_stores_of_what_they_read(recorded: Recorded, traces: list[Trace]) -> None:
    """Spread the end of every store over the elements it writes, carry that through the views, and look it up."""
    graph, tiles = recorded.schedule.graph, recorded.schedule.tiles
    before: dict[str, Array] = {}
    for trace in traces:
        now: dict[str, Array] = {}
        for _, operand, rows in recorded.stores:
            when = np.full(volume(operand.type.shape), -1)
            for row in rows.tolist():
                k0, k1, p0, p1, q0, q1 = tiles.region[row]
                when[k0:k1, p0:p1, q0:q1] = trace.end[row]
            now[operand.name] = when.reshape(operand.type.shape)
        for name, type in graph.types().items():
            now.setdefault(name, np.full(type.shape, -1))
        for node in graph.nodes:
            if node.op in VIEWS:
                now[node.name] = view(node, [now[a] for a in node.args])
        for stage, operand, rows in recorded.loads:
            carried = operand.name in {o.name for o in recorded.schedule.stages[stage].outputs}
            when = (before if carried else now).get(operand.name)
            if when is None:
                continue
            assert_after(when, tiles.region[rows], trace.start[rows], operand)
        before = now


def assert_after(when: Array, regions: Array, starts: Array, operand: Operand) -> None:
    when = when.reshape(volume(operand.type.shape))
    for (c0, c1, h0, h1, w0, w1), start in zip(regions.tolist(), starts.tolist(), strict=True):
        part = when if operand.role == "weight" else when[c0:c1, h0:h1, w0:w1]
        assert part.max(initial=-1) <= start, f"{operand.name} is loaded before it is stored"


def view(node: Node, parts: list[Array]) -> Array:
    if node.op == "concat":
        return np.concatenate(parts)
    return (
        parts[0].reshape(node.type.shape)
        if node.op == "reshape"
        else parts[0][node.attrs["start"] : node.attrs["stop"]]
    )


def assert_resident_tensors_are_safe(mapped: Schedule, traces: list[Trace]) -> None:
    """What stays on the chip lies apart, is made before it is read, and is not made anew while it is still read."""
    types, tiles, resident = mapped.graph.types(), mapped.tiles, mapped.placement.resident
    for name, kept in resident.items():
        assert kept.size >= -(-types[name].size_bits // 8)
        alive = mapped.placement.free[max(0, kept.first) : kept.last + 1]
        assert all(kept.address >= free[kept.memory] for free in alive)
    vector = tiles.unit == Unit.VECTOR
    masks = {o.name for stage in mapped.stages for o in stage.outputs if o.memory_class == "mask"}
    for name in masks & set(resident):  # maps are read as soon as a part of them is made
        made = np.concatenate([np.flatnonzero(vector & (tiles.stage == s.index)) for s in mapped.stages
                               if any(o.name == name for o in s.outputs)])  # fmt: skip
        used = [np.flatnonzero(vector & (tiles.stage == s.index)) for s in mapped.stages
                if any(o.name == name for o in s.operands)]  # fmt: skip
        for rows in used:
            assert all(trace.end[made].max() <= trace.start[rows].min() for trace in traces)
            assert all(b.start[made].min() >= a.end[rows].max() for a, b in itertools.pairwise(traces))
