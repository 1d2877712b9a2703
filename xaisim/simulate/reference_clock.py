"""The same clock as readable SimPy processes: one per unit, events for tiles. Slow, and the one to extend first.

trace = run_reference(tiles, trips=3)[-1]            equals the compiled clock cycle for cycle
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import simpy

from xaisim.mapping.tiles import Edge, TileGraph
from xaisim.simulate.clock import Trace, edge_causes


def run_reference(tiles: TileGraph, trips: int = 1, *, begin: int = 0) -> list[Trace]:
    """Return the trace of every trip; the first one begins at cycle ``begin``."""
    env = simpy.Environment(initial_time=begin)
    rows = tiles.rows
    ready = [[env.event() for _ in range(rows)] for _ in range(trips)]
    held = [int(edge) for edge in np.flatnonzero(tiles.edge_kind > Edge.BUFFER)]
    let_go = [{edge: env.event() for edge in held} for _ in range(trips)]
    traces = [_blank_trace(tiles) for _ in ready]
    causes = edge_causes(tiles)
    waits: list[list[int]] = [[] for _ in range(rows)]
    holds: list[list[int]] = [[] for _ in range(rows)]
    for edge, row in enumerate(tiles.edge_to):
        waits[row].append(edge)
        if edge in let_go[0]:
            holds[tiles.edge_from[edge]].append(edge)

    def hold(trip: int, edge: int) -> Generator[simpy.Event, None, None]:
        """Keep a bus or a port for its time, then let the next row have it."""
        yield env.timeout(int(tiles.edge_hold[edge]))
        let_go[trip][edge].succeed(env.now)

    def finish(trip: int, row: int, latency: int) -> Generator[simpy.Event, None, None]:
        """The result is there some cycles after the unit has gone on."""
        yield env.timeout(latency)
        traces[trip].end[row] = env.now
        ready[trip][row].succeed(env.now)

    def unit(number: int) -> Generator[simpy.Event, None, None]:
        """Take the unit's rows in program order, trip after trip."""
        mine = np.flatnonzero(tiles.unit == number)
        for trip in range(trips):
            for row in mine:
                free = env.now
                edges = [e for e in waits[row] if tiles.edge_distance[e] <= trip]
                at = [trip - tiles.edge_distance[e] for e in edges]
                gates = [let_go[t].get(e, ready[t][tiles.edge_from[e]]) for e, t in zip(edges, at, strict=True)]
                yield env.all_of(gates)
                if env.now > free:
                    last = next(e for e, gate in zip(edges, gates, strict=True) if gate.value == env.now)
                    traces[trip].stall[row], traces[trip].cause[row] = env.now - free, causes[last]
                traces[trip].start[row] = env.now
                for edge in holds[row]:
                    env.process(hold(trip, edge))
                yield env.timeout(int(tiles.occupy_cycles[row]))
                env.process(finish(trip, int(row), int(tiles.latency_cycles[row])))
            traces[trip].unit_free[number] = env.now

    for number in range(len(tiles.units)):
        env.process(unit(number))
    env.run()
    return traces


def _blank_trace(tiles: TileGraph) -> Trace:
    start, end, stall, cause = np.zeros((4, tiles.rows), np.int64)
    return Trace(start, end, stall, cause, np.zeros(len(tiles.units), np.int64))
