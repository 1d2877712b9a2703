# amaranth: UnusedElaboratable=no
"""The array as a whole: elements, skew registers, controller, accumulator memory and requantisation.

    core = Core(design)        an Amaranth component; ``xaisim.rtl.verilog`` writes it, ``xaisim.rtl.bench`` runs it

Vectors are packed, lane 0 in the lowest bits. Lanes beyond the edge of the product are ignored.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from amaranth.hdl import Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib.wiring import Component, In, Out

from xaisim.rtl.arithmetic import Requant, limited, shape_of, shift_shape
from xaisim.rtl.controller import Controller, request_layout
from xaisim.rtl.design import TERMS, Design
from xaisim.rtl.elements import HoldingElement, MovingElement, place
from xaisim.rtl.ports import late_requests, ports, requests
from xaisim.rtl.sums import Sums


class _Late(NamedTuple):
    """Lanes of what sums meet behind the array; empty where nothing is."""

    first: list[Any]
    lift: list[Any]


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
            if name in ("left", "top"):
                self._ask(m, name, getattr(control, name))
            elif not (self.design.stationary and name in late_requests(self.design)):
                self._ask(m, name, control.initial)

    def _ask(self, m: Module, name: str, asked: Any) -> None:
        """Wire a request to its ports."""
        self.given[name] = Signal(request_layout(self.design), name=f"{name}_given")
        m.d.sync += self.given[name].eq(asked)
        m.d.comb += [
            getattr(self, f"{name}_fetch").eq(asked.valid),
            getattr(self, f"{name}_index").eq(asked.index),
            getattr(self, f"{name}_base").eq(asked.base),
        ]

    def _lanes(self, m: Module, name: str, count: int, shape: Any) -> list[Value]:
        """Return the lanes of an operand as they come, zero while none was asked for."""
        lanes = []
        for i in range(count):
            lane = Signal(shape, name=f"{name}_{i}")
            with m.If(self.given[name].valid):
                m.d.comb += lane.eq(getattr(self, f"{name}_data").word_select(i, lane.shape().width))
            lanes.append(lane)
        return lanes

    def _skewed(self, m: Module, lanes: list[Value]) -> list[Value]:
        """Return lane i, i cycles later."""
        return [_delayed(m, lane, i)[-1] for i, lane in enumerate(lanes)]

    def _leave(self, m: Module, c: int, total: Value, valid: Value, shift: Value, late: _Late) -> None:
        """Requantise the sum that column ``c`` gives off, with what joins it, into the output register."""
        d, bits = self.design, self.design.leaving_bits
        leaving = limited(total, d.array.stored_sum_bits, saturate=d.saturates)
        if late.lift:
            leaving = limited(leaving << late.lift[c], bits, saturate=False)
        if late.first:
            leaving = limited(leaving + late.first[c], bits, saturate=False)
        requant = Requant(d)
        place(m, f"requant_{c}", requant, self._modules.get("requant"), clocked=False)
        m.d.comb += [requant.value.eq(leaving), requant.shift.eq(shift)]
        m.d.sync += self.out_valid[c].eq(valid)
        m.d.sync += self.out_data.word_select(c, d.outputs.bits).eq(requant.result)

    def _late(self, m: Module, *, skewed: bool) -> _Late:
        """Return what sums meet behind the array: by how much they are lifted, and what then joins them."""
        lanes: dict[str, list[Any]] = {"first": [], "lift": []}
        if self.design.lift:
            bits = self.design.lift.bit_length()
            lanes["lift"] = [self.lift_data.word_select(c, bits) for c in range(self.design.array.cols)]
        if self.design.joins_late:
            lanes["first"] = self._first_sums()
        return _Late(**{name: self._skewed(m, lane) if skewed else lane for name, lane in lanes.items()})

    def _first_sums(self) -> list[Any]:
        """Return the lanes of what sums start from, as they come."""
        bits = self.design.first_bits
        return [self.initial_data.word_select(c, bits).as_signed() for c in range(self.design.array.cols)]

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
        left = self._skewed(m, self._lanes(m, "left", rows, shape_of(d.left)))
        top = self._skewed(m, self._lanes(m, "top", cols, shape_of(d.top)))
        first = _delayed(m, self.given["left"].first, rows - 1)
        begin = [Const(0, signed(d.array.accumulator_bits))] * cols
        if d.initial and not d.joins_late:
            begin = self._held_first_sums(m)
        late, leave = self._late(m, skewed=False), _registered(m, control.leave)
        grid = self._elements(m, MovingElement)
        for r in range(rows):
            for c in range(cols):
                e = grid[r][c]
                m.d.comb += [
                    e.left.eq(grid[r][c - 1].right if c else left[r]),
                    e.first.eq(grid[r][c - 1].first_right if c else first[r]),
                    e.top.eq(grid[r - 1][c].bottom if r else top[c]),
                    e.above.eq(grid[r - 1][c].below if r else 0),
                    e.initial.eq(begin[c]),
                    e.shift.eq(leave.valid),
                ]
                if not d.array.drain:
                    m.d.comb += e.copy.eq(control.copy)
        shift = self.shift_now if d.array.drain else self._shift_of_copies(m)
        for c in range(cols):
            self._leave(m, c, grid[-1][c].below, leave.within & (leave.base + c < leave.cols), shift, late)

    def _held_first_sums(self, m: Module) -> list[Any]:
        """Return what the sums of each column start from, for as long as the fold lasts."""
        given, held = self.given["initial"], []
        for c, come in enumerate(self._first_sums()):
            register = Signal(come.shape(), name=f"first_{c}")
            with m.If(given.valid):
                m.d.sync += register.eq(come)
            held.append(Mux(given.valid, come, register))
        return held

    def _shift_of_copies(self, m: Module) -> Value:
        """Return the shift of the product whose sums are leaving, while another one may have begun."""
        ended, leaving = Signal.like(self.shift_now), Signal.like(self.shift_now)
        with m.If(self.control.fold_end):
            m.d.sync += ended.eq(self.shift_now)
        with m.If(self.control.copy):
            m.d.sync += leaving.eq(ended)
        return leaving

    # Weight and input stationary --------------------------------------------------------------------------------------

    def _holding(self, m: Module) -> None:
        d, control, rows, cols = self.design, self.control, self.design.array.rows, self.design.array.cols
        left = self._skewed(m, self._lanes(m, "left", rows, shape_of(d.left)))
        there = self.given["top"].index < control.rows_now
        columns = self._lanes(m, "top", cols, shape_of(d.top))
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
        if d.lift:
            self._ask_behind(m, tokens[rows - 1])
        late = self._late(m, skewed=True)
        for c in range(cols):
            token = tokens[c + rows]
            within = token.whole | (control.now.col + c < control.cols_now)
            self._leave(m, c, grid[-1][c].total, token.valid & token.last & within, self.shift_now, late)

    def _ask_behind(self, m: Module, token: Any) -> None:
        """Ask for what the sums meet that leave the first column in the next cycle."""
        asked = Signal(request_layout(self.design), name="behind")
        m.d.comb += [asked.valid.eq(token.valid & token.last), asked.index.eq(token.index), asked.base.eq(token.base)]
        for name in late_requests(self.design):
            self._ask(m, name, asked)

    def _sums_from_memory(self, m: Module, tokens: list[Any], totals: list[Value]) -> list[Value]:
        """Return what each column's sums start from: their first value, or what the last row fold left in memory.

        ``tokens[0]`` is a cycle ahead: memory is read into a register. A sum may be written in the cycle in which it
        is asked for again.
        """
        d, array = self.design, self.design.array
        initial = [Const(0, signed(array.accumulator_bits))] * array.cols
        if d.initial and not d.joins_late:
            initial = self._skewed(m, self._first_sums())
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
                memory.write_data.eq(limited(total, array.stored_sum_bits, saturate=d.saturates)),
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
