"""The controller: which fold, which phase, which cycle of it, and what the array needs next.

    serialised    load (ws, is) · stream · skew · drain (os, if asked), for every fold
    pipelined     load until the first weights have landed · stream, with a wait for weights, for every fold · skew

Row folds follow each other innermost, so that sums over K need memory for one column of folds only. Requests go out a
cycle ahead of their use: they address memories with a registered output.
"""

from __future__ import annotations

import enum
from typing import Any, NamedTuple

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import Component, In, Out

from xaisim.rtl.design import LEAST_SLOT, TERMS, Design
from xaisim.rtl.ports import COUNT_BITS


class Phase(enum.IntEnum):
    """What the array is busy with. WAIT, for the weights of the next fold, counts as load."""

    IDLE = 0
    LOAD = 1
    STREAM = 2
    WAIT = 3
    SKEW = 4
    DRAIN = 5


_PHASES = {"load": (Phase.LOAD, Phase.WAIT), "stream": (Phase.STREAM,), "skew": (Phase.SKEW,), "drain": (Phase.DRAIN,)}


def state_layout(design: Design) -> StructLayout:
    """Return phase, cycle in it, and where the fold begins."""
    bits = design.place_bits
    return StructLayout({"phase": Phase, "step": bits, "row": bits, "col": bits})


def request_layout(design: Design) -> StructLayout:
    """Return what addresses a vector: its index in the direction of time, and its first lane."""
    bits = design.place_bits
    return StructLayout({"valid": 1, "first": 1, "index": bits, "base": bits})


def token_layout(design: Design) -> StructLayout:
    """Return what travels with streamed operands over the columns, of ws and is: the sum's place, and its fold's."""
    where = {"index": design.extent_bits} | ({"base": design.place_bits} if design.lift else {})
    return StructLayout({"valid": 1, "first": 1, "last": 1, "whole": 1} | where)


def fold_layout(design: Design) -> StructLayout:
    """Return where a fold begins, and the extents of its product."""
    bits, extent = design.place_bits, design.extent_bits
    return StructLayout({"row": bits, "col": bits, "rows": extent, "cols": extent})


def leave_layout(design: Design) -> StructLayout:
    """Return what is said of a row of sums that leaves: the how manyth from below, and which of its lanes count."""
    up, bits = (design.array.rows).bit_length(), design.place_bits
    return StructLayout({"valid": 1, "within": 1, "up": up, "base": bits, "cols": design.extent_bits})


class _Fold(NamedTuple):
    exists: Value
    row: Value
    col: Value


class Controller(Component):
    """Sequences the folds of a product. ``start`` is taken when ``ready``, which is true in its last cycle already."""

    def __init__(self, design: Design) -> None:
        self.design = design
        bits, request = design.extent_bits, request_layout(design)
        ports: dict[str, Any] = {"start": In(1), "rows": In(bits), "cols": In(bits), "stream": In(bits)}
        ports |= {"landed": In(1), "ready": Out(1), "accept": Out(1), "busy": Out(1), "done": Out(1)}
        ports |= {"now": Out(state_layout(design)), "fold_end": Out(1)}
        ports |= {"copy": Out(1), "leave": Out(leave_layout(design))}
        ports |= {"left": Out(request), "top": Out(request), "initial": Out(request)}
        ports |= {"rows_now": Out(bits), "cols_now": Out(bits), "token": Out(token_layout(design))}
        ports |= {f"{term}_cycles": Out(COUNT_BITS) for term in TERMS}
        super().__init__(ports)

    def elaborate(self, _platform: Any) -> Module:
        m = Module()
        self.after, self.finishing = Signal.like(self.now), Signal()
        self.stream_now = Signal(self.design.extent_bits)
        m.d.comb += [self.after.eq(self.now), self.after.step.eq(self.now.step + 1)]
        with m.Switch(self.now.phase):
            with m.Case(Phase.IDLE):
                m.d.comb += self.after.eq(0)
            if self.design.pipelined:
                self._pipelined(m)
            else:
                self._serialised(m)
        m.d.comb += [
            self.busy.eq(self.now.phase != Phase.IDLE),
            self.ready.eq(~self.busy | self.finishing),
            self.accept.eq(self.start & self.ready),
        ]
        with m.If(self.accept):
            m.d.comb += [self.after.eq(0), self.after.phase.eq(self._begin)]
            m.d.sync += [self.rows_now.eq(self.rows), self.cols_now.eq(self.cols), self.stream_now.eq(self.stream)]
        m.d.sync += [self.now.eq(self.after), self.done.eq(self.finishing)]
        self._request(m)
        self._count(m)
        return m

    @property
    def _begin(self) -> Phase:
        return Phase.LOAD if self.design.stationary else Phase.STREAM

    def _enter(self, m: Module, phase: Phase) -> None:
        m.d.comb += [self.after.phase.eq(phase), self.after.step.eq(0)]

    def _finish(self, m: Module) -> None:
        m.d.comb += [self.finishing.eq(1), self.after.eq(0)]

    def _following(self, state: Any) -> _Fold:
        """Return the fold that comes after the one of a state."""
        row, col = state.row + self.design.array.rows, state.col + self.design.array.cols
        more_rows, more_cols = row < self.rows_now, col < self.cols_now
        return _Fold(more_rows | more_cols, Mux(more_rows, row, 0), Mux(more_rows, state.col, col))

    def _serialised(self, m: Module) -> None:
        d, rows = self.design, self.design.array.rows
        all_phases = [
            (Phase.LOAD, rows * d.stationary),
            (Phase.STREAM, self.stream_now),
            (Phase.SKEW, d.skew),
            (Phase.DRAIN, rows * d.array.drain),
        ]
        phases = [(phase, cycles) for phase, cycles in all_phases if not isinstance(cycles, int) or cycles]
        for i, (phase, cycles) in enumerate(phases):
            with m.Case(phase), m.If(self.now.step == cycles - 1):
                if i + 1 < len(phases):
                    self._enter(m, phases[i + 1][0])
                else:
                    m.d.comb += self.fold_end.eq(1)
                    self._next_fold(m, Phase.IDLE)

    def _pipelined(self, m: Module) -> None:
        """A fold has a slot: its stream, at least ``LEAST_SLOT`` cycles, and as long as the next weights come in."""
        rows = self.design.array.rows
        last = Phase.SKEW if self.design.skew else Phase.IDLE
        slot = Mux(self.stream_now > LEAST_SLOT, self.stream_now, LEAST_SLOT)
        with m.Case(Phase.LOAD), m.If(self.landed):
            self._enter(m, Phase.STREAM)
        with m.Case(Phase.STREAM), m.If(self.now.step == slot - 1):
            with m.If(self.now.step < rows - 1):
                m.d.comb += self.after.phase.eq(Phase.WAIT)
            with m.Else():
                self._next_fold(m, last)
        with m.Case(Phase.WAIT), m.If(self.now.step == rows - 1):
            self._next_fold(m, last)
        with m.Case(Phase.SKEW), m.If(self.now.step == self.design.skew - 1):
            self._finish(m)

    def _next_fold(self, m: Module, otherwise: Phase) -> None:
        """Begin the next fold; if there is none, go to another phase, or finish."""
        fold = self._following(self.now)
        with m.If(fold.exists):
            m.d.comb += [self.after.row.eq(fold.row), self.after.col.eq(fold.col)]
            self._enter(m, Phase.STREAM if self.design.pipelined else self._begin)
        with m.Else():
            if otherwise == Phase.IDLE:
                self._finish(m)
            else:
                self._enter(m, otherwise)

    def _request(self, m: Module) -> None:
        """Ask for the operands of the next cycle."""
        d, after = self.design, self.after
        first = after.step == 0
        streams = after.phase == Phase.STREAM
        if d.pipelined:
            streams = streams & (after.step < self.stream_now)
        m.d.comb += self._asked(self.left, streams, first, after.step, after.row)
        if not d.stationary:
            m.d.comb += self._asked(self.top, streams, first, after.step, after.col)
            if not d.joins_late:
                m.d.comb += self._asked(self.initial, streams & first, first, 0, after.col)
            self._leave(m)
            return
        if not d.joins_late:
            m.d.comb += self._asked(self.initial, streams & (after.row == 0), first, after.step, after.col)
        loads, coming = after.phase == Phase.LOAD, _Fold(Value.cast(1), after.row, after.col)
        if d.pipelined:
            fold = self._following(after)
            coming = _Fold(loads | fold.exists, Mux(loads, 0, fold.row), Mux(loads, 0, fold.col))
            loads = (loads | (after.phase == Phase.STREAM) | (after.phase == Phase.WAIT)) & (after.step < d.array.rows)
        m.d.comb += self._asked(self.top, loads & coming.exists, first, coming.row + after.step, coming.col)
        fold_after = after.row + d.array.rows
        m.d.comb += [
            self.token.valid.eq(streams),
            self.token.index.eq(after.step),
            self.token.first.eq(after.row == 0),
            self.token.last.eq(fold_after >= self.rows_now),
            self.token.whole.eq(after.col + d.array.cols < self.cols_now),
        ]
        if d.lift:
            m.d.comb += self.token.base.eq(after.col)

    def _leave(self, m: Module) -> None:
        """Say which row of sums leaves in the next cycle, output stationary: the lowest of a fold first."""
        leave, rows = self.leave, self.design.array.rows
        fold = Signal(fold_layout(self.design))
        if self.design.array.drain:
            m.d.comb += [fold.row.eq(self.after.row), fold.col.eq(self.after.col)]
            m.d.comb += [fold.rows.eq(self.rows_now), fold.cols.eq(self.cols_now)]
            m.d.comb += [leave.valid.eq(self.after.phase == Phase.DRAIN), leave.up.eq(self.after.step)]
        else:
            ended, leaving, up = Signal.like(fold), Signal.like(fold), Signal(range(rows + 1), init=rows)
            with m.If(self.fold_end):
                m.d.sync += [ended.row.eq(self.now.row), ended.col.eq(self.now.col)]
                m.d.sync += [ended.rows.eq(self.rows_now), ended.cols.eq(self.cols_now)]
            m.d.sync += [self.copy.eq(self.fold_end), leaving.eq(fold), up.eq(Mux(leave.valid, leave.up + 1, rows))]
            m.d.comb += [fold.eq(Mux(self.copy, ended, leaving)), leave.up.eq(Mux(self.copy, 0, up))]
            m.d.comb += leave.valid.eq(leave.up != rows)
        row = fold.row + rows - 1 - leave.up
        m.d.comb += [
            leave.within.eq(leave.valid & (row < fold.rows)),
            leave.cols.eq(fold.cols),
            leave.base.eq(fold.col),
        ]
        if self.design.joins_late or self.design.lift:
            m.d.comb += self._asked(self.initial, leave.within, self.copy, row, fold.col)

    @staticmethod
    def _asked(request: Any, valid: Value, first: Value, index: Any, base: Value) -> list[Any]:
        return [
            request.valid.eq(valid),
            request.first.eq(first & valid),
            request.index.eq(index),
            request.base.eq(base),
        ]

    def _count(self, m: Module) -> None:
        """Count the cycles of each term; what the outputs show is the product that ended last."""
        for term in TERMS:
            phases = _PHASES[term]
            running, hit = Signal(COUNT_BITS, name=f"{term}_running"), Signal(name=f"{term}_hit")
            m.d.comb += hit.eq(sum((self.now.phase == phase for phase in phases[1:]), self.now.phase == phases[0]))
            m.d.sync += running.eq(Mux(self.accept, 0, running + hit))
            with m.If(self.finishing):
                m.d.sync += getattr(self, f"{term}_cycles").eq(running + hit)
