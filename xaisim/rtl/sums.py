"""The accumulator memory of one column: sums that wait for the next row fold.

It is read into a register; a word that is written in the cycle in which it is asked for comes out new. In the emitted
Verilog it is a module of its own, in a form that synthesis knows and that a memory macro can replace.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, signed
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from xaisim.rtl.design import Design

_VERILOG = """\
module {name}(clk, rst, read, read_index, read_data, write, write_index, write_data);
  input clk, rst, read, write;
  input [{index}:0] read_index, write_index;
  input [{word}:0] write_data;
  output [{word}:0] read_data;
  reg [{word}:0] words [0:{last}];
  reg [{word}:0] held, newest;
  reg forward;
  always @(posedge clk) begin
    if (write) words[write_index] <= write_data;
    if (read) held <= words[read_index];
    if (read) newest <= write_data;
    if (read) forward <= write && write_index == read_index;
  end
  assign read_data = forward ? newest : held;
endmodule
"""


def sums_verilog(design: Design, name: str) -> str:
    """Return the memory as Verilog."""
    index, word = design.extent_bits - 1, design.array.stored_sum_bits - 1
    return _VERILOG.format(name=name, index=index, word=word, last=design.depth - 1)


class Sums(Component):
    """The memory for simulation in Amaranth."""

    def __init__(self, design: Design) -> None:
        self.design = design
        word, index = signed(design.array.stored_sum_bits), design.extent_bits
        super().__init__({
            "read": In(1), "read_index": In(index), "read_data": Out(word),
            "write": In(1), "write_index": In(index), "write_data": In(word),
        })  # fmt: skip

    def elaborate(self, _platform: Any) -> Module:
        m = Module()
        m.submodules.words = memory = Memory(shape=self.read_data.shape(), depth=self.design.depth, init=[])
        write = memory.write_port()
        read = memory.read_port(transparent_for=[write])
        m.d.comb += [
            write.en.eq(self.write),
            write.addr.eq(self.write_index),
            write.data.eq(self.write_data),
            read.en.eq(self.read),
            read.addr.eq(self.read_index),
            self.read_data.eq(read.data),
        ]
        return m
