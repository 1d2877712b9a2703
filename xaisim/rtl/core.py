# amaranth: UnusedElaboratable=no
"""The array as a whole: elements, skew registers, controller, accumulator memory and requantisation.

    core = Core(design)        an Amaranth component; ``xaisim.rtl.verilog`` writes it, ``xaisim.rtl.bench`` runs it

Vectors are packed, lane 0 in the lowest bits. Lanes beyond the edge of the product are ignored.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib.wiring import Component, In, Out

from xaisim.rtl.arithmetic import Requant, limited, shape_of, shift_shape
from xaisim.rtl.controller import Controller, Phase, request_layout
from xaisim.rtl.design import TERMS, Design
from xaisim.rtl.elements import HoldingElement, MovingElement, place
from xaisim.rtl.ports import ports, requests
from xaisim.rtl.sums import Sums


class Core(Component):
    """A product at a time: ``start`` with its extents, operands as they are asked for, results as they leave.

    ``modules`` names the Verilog modules that stand for its parts, which then only lend their ports; without it all
    is one tree, which can be simulated.
    """

    def __init__(self, design: Design, modules: dict[str, str] | None = None) -> None:
        self.design, self._modules = design, modules or {}
        members: dict[str, Any] = {}
        for port in ports(design):
            shape = signed(port.bits) if port.signed else unsigned(port.bits)
            members[port.name] = Out(shape) if port.output else In(shape)
        super().__init__(members)

    def elaborate(self, _platform: Any) -> Module:
        m = Module()
        self._control(m)
        self.shift_now = Signal(shift_shape(self.design))
        if hasattr(self, "shift"):
            with m.If(self.control.accept):
                m.d.sync += self.shift_now.eq(self.shift)
        (self._holding if self.design.stationary else self._moving)(m)
        return m

    def _control(self, m: Module) -> None:
        """Wire the controller to the ports; keep what was asked for the cycle in which it is there."""
        self.control = control = Controller(self.design)
        place(m, "control", control, self._modules.get("control"))
        for name in ("start", "rows", "cols", "stream"):
            m.d.comb += getattr(control, name).eq(getattr(self, name))
        for name in ("ready", "busy", "done", *(f"{term}_cycles" for term in TERMS)):
            m.d.comb += getattr(self, name).eq(getattr(control, name))
        m.d.comb += self.phase.eq(control.now.phase)
        self.given: dict[str, Any] = {}
        for name in requests(self.design):
            asked = getattr(control, name)
            self.given[name] = Signal(request_layout(self.design), name=f"{name}_given")
            m.d.sync += self.given[name].eq(asked)
            m.d.comb += [
                getattr(self, f"{name}_fetch").eq(asked.valid),
                getattr(self, f"{name}_index").eq(asked.index),
                getattr(self, f"{name}_base").eq(asked.base),
            ]

    def _lanes(self, m: Module, name: str, count: int, extent: Value, shape: Any) -> list[Value]:
        """Return the lanes of an operand as they come; those outside of the product are zero."""
        given, data = self.given[name], getattr(self, f"{name}_data")
        lanes = []
        for i in range(count):
            lane = Signal(shape, name=f"{name}_{i}")
            with m.If(given.valid & (given.base + i < extent)):
                m.d.comb += lane.eq(data.word_select(i, lane.shape().width))
            lanes.append(lane)
        return lanes

    def _skewed(self, m: Module, lanes: list[Value]) -> list[Value]:
        """Return lane i, i cycles later."""
        return [_delayed(m, lane, i)[-1] for i, lane in enumerate(lanes)]

    def _leave(self, m: Module, c: int, total: Value, valid: Value, shift: Value) -> None:
        """Requantise the sum that column ``c`` gives off, into the output register."""
        d = self.design
        stored = limited(total, d.array.stored_sum_bits, saturate=d.array.accumulator == "saturate")
        requant = Requant(d)
        place(m, f"requant_{c}", requant, self._modules.get("requant"), clocked=False)
        m.d.comb += [requant.value.eq(stored), requant.shift.eq(shift)]
        m.d.sync += [
            self.out_valid[c].eq(valid),
            self.out_data.word_select(c, d.outputs.bits).eq(requant.result),
        ]

    def _elements(self, m: Module, kind: Any) -> list[list[Any]]:
        rows, cols = self.design.array.rows, self.design.array.cols
        grid = [[kind(self.design) for _ in range(cols)] for _ in range(rows)]
        for r, row in enumerate(grid):
            for c, element in enumerate(row):
                place(m, f"element_{r}_{c}", element, self._modules.get("element"))
        return grid

    # Output stationary ------------------------------------------------------------------------------------------------

    def _moving(self, m: Module) -> None:
        d, control, rows, cols = self.design, self.control, self.design.array.rows, self.design.array.cols
        total = signed(d.array.accumulator_bits)
        left = self._skewed(m, self._lanes(m, "left", rows, control.rows_now, shape_of(d.left)))
        top = self._skewed(m, self._lanes(m, "top", cols, control.cols_now, shape_of(d.top)))
        first = _delayed(m, self.given["left"].first, rows - 1)
        initial = self._held_initial(m) if d.initial else [Const(0, total)] * cols
        shift, copy, valid, by = (self._drain if d.array.drain else self._copies)(m)
        grid = self._elements(m, MovingElement)
        for r in range(rows):
            for c in range(cols):
                e = grid[r][c]
                m.d.comb += [
                    e.left.eq(grid[r][c - 1].right if c else left[r]),
                    e.first.eq(grid[r][c - 1].first_right if c else first[r]),
                    e.top.eq(grid[r - 1][c].bottom if r else top[c]),
                    e.above.eq(grid[r - 1][c].below if r else 0),
                    e.initial.eq(initial[c]),
                    e.shift.eq(shift),
                ]
                if not d.array.drain:
                    m.d.comb += e.copy.eq(copy)
        for c in range(cols):
            self._leave(m, c, grid[-1][c].below, valid[c], by)

    def _held_initial(self, m: Module) -> list[Value]:
        """Return what the sums of each column start from, for as long as the fold lasts."""
        given, held = self.given["initial"], []
        for c in range(self.design.array.cols):
            bits = self.design.array.accumulator_bits
            register, come = Signal(signed(bits), name=f"initial_{c}"), self.initial_data.word_select(c, bits)
            with m.If(given.valid):
                m.d.sync += register.eq(come)
            held.append(Mux(given.valid, come.as_signed(), register))
        return held

    def _drain(self, m: Module) -> tuple[Value, Value, list[Value], Value]:
        """Shift the sums out, the lowest row first; the next fold waits."""
        control, rows = self.control, self.design.array.rows
        shifts, row = Signal(), Signal(range(2 * rows))
        m.d.comb += [shifts.eq(control.now.phase == Phase.DRAIN), row.eq(rows - 1 - control.now.step)]
        within = shifts & (control.now.row + row < control.rows_now)
        columns = [within & (control.now.col + c < control.cols_now) for c in range(self.design.array.cols)]
        return shifts, Const(0), columns, self.shift_now

    def _copies(self, m: Module) -> tuple[Value, Value, list[Value], Value]:
        """Copy all sums in the cycle after a fold, then shift the copies out while the next one streams."""
        control, rows, cols = self.control, self.design.array.rows, self.design.array.cols
        copy, to_go = Signal(), Signal(range(rows + 1))
        kept_rows, kept_cols, kept_shift = Signal(range(rows + 1)), Signal(range(cols + 1)), Signal.like(self.shift_now)
        out_rows, out_cols, out_shift = Signal.like(kept_rows), Signal.like(kept_cols), Signal.like(self.shift_now)
        m.d.sync += copy.eq(control.fold_end)
        with m.If(control.fold_end):
            m.d.sync += [
                kept_rows.eq(_at_most(control.rows_now - control.now.row, rows)),
                kept_cols.eq(_at_most(control.cols_now - control.now.col, cols)),
                kept_shift.eq(self.shift_now),
            ]
        with m.If(copy):
            m.d.sync += [to_go.eq(rows), out_rows.eq(kept_rows), out_cols.eq(kept_cols), out_shift.eq(kept_shift)]
        with m.Elif(to_go != 0):
            m.d.sync += to_go.eq(to_go - 1)
        within = (to_go != 0) & (to_go <= out_rows)
        return to_go != 0, copy, [within & (c < out_cols) for c in range(cols)], out_shift

    # Weight and input stationary --------------------------------------------------------------------------------------

    def _holding(self, m: Module) -> None:
        d, control, rows, cols = self.design, self.control, self.design.array.rows, self.design.array.cols
        left = self._skewed(m, self._lanes(m, "left", rows, control.rows_now, shape_of(d.left)))
        there = self.given["top"].index < control.rows_now
        columns = self._lanes(m, "top", cols, control.cols_now, shape_of(d.top))
        top = self._skewed(m, [Mux(there, lane, 0) for lane in columns])
        keep = _delayed(m, self.given["top"].first, 2 * rows - 2)
        swap = _delayed(m, self.given["left"].first, rows - 1)
        m.d.comb += control.landed.eq(keep[-1])
        tokens = [control.token, *_delayed(m, _registered(m, control.token), d.skew)]
        grid = self._elements(m, HoldingElement)
        above = self._sums_from_memory(m, tokens, [grid[-1][c].total for c in range(cols)])
        for r in range(rows):
            for c in range(cols):
                e = grid[r][c]
                m.d.comb += [
                    e.left.eq(grid[r][c - 1].right if c else left[r]),
                    e.keep.eq(grid[r][c - 1].keep_right if c else keep[2 * r]),
                    e.top.eq(grid[r - 1][c].bottom if r else top[c]),
                    e.above.eq(grid[r - 1][c].below if r else above[c]),
                ]
                if d.pipelined:
                    m.d.comb += e.swap.eq(grid[r][c - 1].swap_right if c else swap[r])
        for c in range(cols):
            token = tokens[c + rows]
            within = token.whole | (control.now.col + c < control.cols_now)
            self._leave(m, c, grid[-1][c].total, token.valid & token.last & within, self.shift_now)

    def _sums_from_memory(self, m: Module, tokens: list[Any], totals: list[Value]) -> list[Value]:
        """Return what each column's sums start from: their first value, or what the last row fold left in memory.

        ``tokens[0]`` is a cycle ahead: memory is read into a register. A sum may be written in the cycle in which it
        is asked for again.
        """
        d, array = self.design, self.design.array
        initial = [Const(0, signed(array.accumulator_bits))] * array.cols
        if d.initial:
            bits = array.accumulator_bits
            initial = self._skewed(m, [self.initial_data.word_select(c, bits).as_signed() for c in range(array.cols)])
        above = []
        for c, total in enumerate(totals):
            memory = Sums(d)
            place(m, f"sums_{c}", memory, self._modules.get("sums"))
            asked, used, made = tokens[c], tokens[c + 1], tokens[c + array.rows]
            m.d.comb += [
                memory.read.eq(asked.valid),
                memory.read_index.eq(asked.index),
                memory.write.eq(made.valid & ~made.last),
                memory.write_index.eq(made.index),
                memory.write_data.eq(limited(total, array.stored_sum_bits, saturate=array.accumulator == "saturate")),
            ]
            above.append(Mux(used.first, initial[c], memory.read_data))
        return above


def _registered(m: Module, value: Any) -> Any:
    register = Signal(value.shape())
    m.d.sync += register.eq(value)
    return register


def _delayed(m: Module, value: Any, cycles: int) -> list[Any]:
    """Return the value now, a cycle later, and so on."""
    values = [value]
    for _ in range(cycles):
        values.append(_registered(m, values[-1]))
    return values


def _at_most(value: Value, most: int) -> Value:
    return Mux(value > most, most, value)
