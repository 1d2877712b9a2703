"""A Verilog testbench around a design, the operands it reads, and Icarus Verilog to run it.

    write_vectors(folder, design, product)      left.hex, top.hex, initial.hex; returns the testbench's arguments
    Icarus(design, folder)(product)             compiled once, run once per product

Memories answer a request in the next cycle, as block RAM does. Results and cycles are printed, a line each.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from xaisim.rtl.bench import Product, Run, Vectors, collected, signed_value
from xaisim.rtl.design import TERMS, Design
from xaisim.rtl.ports import ports, requests
from xaisim.rtl.verilog import TOP, verilog

WORDS = 1 << 16
"""Vectors that each memory of the testbench holds."""

_TEXT = """\
// Runs one product: vvp {top} +folder=. {usage}
// where left, top and initial are the vectors of one fold.
`timescale 1ns / 1ps
module testbench;
  reg clk = 0, rst = 1;
{declared}
  integer cycles = 0, ended = 0;
  reg [8*256:1] folder;

  {top} array(.clk(clk), .rst(rst), {connected});

  always #1 clk = ~clk;

  always @(posedge clk) begin
{answers}
  end

  always @(negedge clk) begin
    if (|out_valid) $display("out %b %b", out_valid, out_data);
    if (busy) cycles = cycles + 1;
    if (done) $display("done %0d{formats}", cycles, {counters});
    if (done || ended > 0) ended = ended + 1;
    if (ended > {rows} + 2) $finish;
  end

  initial begin
    start = 0;
    if (!$value$plusargs("folder=%s", folder)) folder = ".";
{arguments}
    repeat (2) @(negedge clk);
    rst = 0;
    start = 1;
    @(negedge clk) start = 0;
  end
endmodule
"""


def testbench(design: Design) -> str:
    """Return the Verilog of a testbench that plays one product."""
    every, names = ports(design), list(requests(design))
    given = [p.name for p in every if p.name in ("rows", "cols", "stream", "shift")] + [f"{n}_fold" for n in names]
    declared = [f"  {'wire' if p.output else 'reg'} [{p.bits - 1}:0] {p.name};" for p in every]
    declared += [f"  reg [31:0] {n}_fold;\n  reg [{_width(design, n) - 1}:0] {n}_words [0:{WORDS - 1}];" for n in names]
    lanes = {name: design.array.rows if name == "left" else design.array.cols for name in names}
    answer = "    if ({0}_fetch) {0}_data <= {0}_words[{0}_base / {1} * {0}_fold + {0}_index];"
    arguments = [
        f'    if (!$value$plusargs("{n}=%d", {n})) begin $display("missing +{n}="); $finish; end' for n in given
    ]
    arguments += [f'    $readmemh({{folder, "/{n}.hex"}}, {n}_words);' for n in names]
    return _TEXT.format(
        top=TOP,
        usage=" ".join(f"+{name}=.." for name in given),
        declared="\n".join(declared),
        connected=", ".join(f".{p.name}({p.name})" for p in every),
        answers="\n".join(answer.format(name, count) for name, count in lanes.items()),
        formats=" %0d" * len(TERMS),
        counters=", ".join(f"{term}_cycles" for term in TERMS),
        rows=design.array.rows,
        arguments="\n".join(arguments),
    )


def _width(design: Design, name: str) -> int:
    return next(port.bits for port in ports(design) if port.name == f"{name}_data")


def write_vectors(folder: Path, design: Design, product: Product, seed: int = 0) -> list[str]:
    """Write what the testbench's memories hold for a product; return its arguments."""
    vectors = Vectors(design, product, seed)
    arguments = [f"+{name}={extent}" for name, extent in vectors.extents._asdict().items()]
    if any(port.name == "shift" for port in ports(design)):
        arguments.append(f"+shift={product.shift}")
    for name in requests(design):
        folds: list[list[int]] = getattr(vectors, name)
        digits = -(-_width(design, name) // 4)
        words = [f"{vector:0{digits}x}" for fold in folds for vector in fold]
        assert len(words) <= WORDS, f"{len(words)} vectors of {name}: the testbench holds {WORDS}"
        (folder / f"{name}.hex").write_text("\n".join(words) + "\n", encoding="ascii")
        arguments.append(f"+{name}_fold={len(folds[0])}")
    return arguments


class Icarus:
    """A design in Icarus Verilog: the emitted text, compiled in ``folder``."""

    def __init__(self, design: Design, folder: Path) -> None:
        self.design, self.folder = design, folder
        (folder / "array.v").write_text(verilog(design), encoding="utf-8")
        (folder / "testbench.v").write_text(testbench(design), encoding="utf-8")
        self._run(["iverilog", "-g2005", "-o", "testbench", "array.v", "testbench.v"])

    def __call__(self, product: Product) -> Run:
        """Run one product."""
        arguments = write_vectors(self.folder, self.design, product)
        lines = [line.split() for line in self._run(["vvp", "-n", "testbench", *arguments]).splitlines()]
        (done,) = [[int(number) for number in line[1:]] for line in lines if line[0] == "done"]
        outputs = self.design.outputs
        columns: list[list[int]] = [[] for _ in range(self.design.array.cols)]
        for line in lines:
            if line[0] == "out":
                valid, data = line[1][::-1], line[2][::-1]  # the lowest bit first; unknown where nothing is valid
                for c, column in enumerate(columns):
                    if valid[c] != "0":
                        bits = data[c * outputs.bits : (c + 1) * outputs.bits]
                        column.append(signed_value(int(bits[::-1], 2), outputs))
        return Run(collected(self.design, product, columns), done[0], dict(zip(TERMS, done[1:], strict=True)))

    def _run(self, command: list[str]) -> str:
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode or done.stderr:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr or done.stdout}")
        return done.stdout
