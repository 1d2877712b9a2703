"""One processing element of each kind, and where all of them take one place in the circuit: in the tree or by name.

MovingElement     output stationary: both operands move, the sum stays
HoldingElement    weight or input stationary: one operand stays, sums move down
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import ClockSignal, Instance, Module, Mux, ResetSignal, Signal, Value, signed
from amaranth.lib.wiring import Component, Flow, In, Out

from xaisim.rtl.arithmetic import limited, shape_of
from xaisim.rtl.design import Design


def place(m: Module, name: str, component: Component, module: str | None, *, clocked: bool = True) -> None:
    """Put a component into a module, or an instance of the Verilog ``module`` that was generated from its like."""
    if module is None:
        setattr(m.submodules, name, component)
        return
    ports: dict[str, Any] = {"i_clk": ClockSignal(), "i_rst": ResetSignal()} if clocked else {}
    for path, member, value in component.signature.flatten(component):
        ports[("i_" if member.flow == Flow.In else "o_") + "__".join(map(str, path))] = Value.cast(value)
    setattr(m.submodules, name, Instance(module, **ports))


class _Element(Component):
    """What both kinds share: how a product joins a sum."""

    def __init__(self, design: Design, ports: dict[str, Any]) -> None:
        self.design = design
        super().__init__(ports)

    def _joined(self, total: Value, product: Value) -> Value:
        array = self.design.array
        return limited(total + product, array.accumulator_bits, saturate=self.design.saturates)


class MovingElement(_Element):
    """``first`` comes with the first operands of a sum; ``shift`` moves sums down, ``copy`` keeps one for leaving."""

    def __init__(self, design: Design) -> None:
        left, top, total = shape_of(design.left), shape_of(design.top), signed(design.array.accumulator_bits)
        ports = {"left": In(left), "top": In(top), "first": In(1), "initial": In(total)}
        ports |= {"right": Out(left), "bottom": Out(top), "first_right": Out(1)}
        ports |= {"shift": In(1), "above": In(total), "below": Out(total)}
        super().__init__(design, ports if design.array.drain else ports | {"copy": In(1)})

    def elaborate(self, _platform: Any) -> Module:
        m = Module()
        total = Signal(signed(self.design.array.accumulator_bits))
        m.d.sync += [self.right.eq(self.left), self.bottom.eq(self.top), self.first_right.eq(self.first)]
        m.d.sync += total.eq(self._joined(Mux(self.first, self.initial, total), self.left * self.top))
        if self.design.array.drain:
            m.d.comb += self.below.eq(total)
            with m.If(self.shift):
                m.d.sync += total.eq(self.above)
        else:
            with m.If(self.copy):
                m.d.sync += self.below.eq(total)
            with m.Elif(self.shift):
                m.d.sync += self.below.eq(self.above)
        return m


class HoldingElement(_Element):
    """Weights pass by on their way down; ``keep`` says that this one is meant for this element.

    Pipelined, it is kept aside until ``swap`` comes with the first operand of its fold. ``keep`` moves one row down
    in two cycles, as weight r enters r cycles after the first and travels r rows more.
    """

    def __init__(self, design: Design) -> None:
        left, top, total = shape_of(design.left), shape_of(design.top), signed(design.array.accumulator_bits)
        ports = {"left": In(left), "right": Out(left), "top": In(top), "bottom": Out(top), "above": In(total)}
        ports |= {"below": Out(total), "total": Out(total), "keep": In(1), "keep_right": Out(1)}
        super().__init__(design, ports | {"swap": In(1), "swap_right": Out(1)} if design.pipelined else ports)

    def elaborate(self, _platform: Any) -> Module:
        m = Module()
        kept = Signal(shape_of(self.design.top))
        m.d.sync += [self.right.eq(self.left), self.bottom.eq(self.top), self.keep_right.eq(self.keep)]
        with m.If(self.keep):
            m.d.sync += kept.eq(self.top)
        if self.design.pipelined:
            weight = Signal(shape_of(self.design.top))
            used = Mux(self.swap, kept, weight)
            m.d.sync += [weight.eq(used), self.swap_right.eq(self.swap)]
        else:
            used = kept
        m.d.comb += self.total.eq(self._joined(self.above, self.left * used))
        m.d.sync += self.below.eq(self.total)
        return m
