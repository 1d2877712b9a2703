"""A product of any size on an array of any size: the emitted Verilog in Icarus, bits and cycles beside the model.

python benchmarks/rtl.py --rows 32 --cols 32 --dataflow os --product 256 256 128      # 10,176 cycles, in minutes
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from xaisim.config import load_data
from xaisim.hardware.array import SystolicArray
from xaisim.ir.types import FixedPoint
from xaisim.rtl.bench import Product
from xaisim.rtl.design import TERMS, Design
from xaisim.rtl.model import expected
from xaisim.rtl.testbench import Icarus


def main() -> None:
    """Print cycles and terms of both, and how many outputs differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--cols", type=int, default=8)
    parser.add_argument("--dataflow", choices=("os", "ws", "is"), default="ws")
    parser.add_argument("--folds", choices=("serialised", "pipelined"), default="serialised")
    parser.add_argument("--product", type=int, nargs=3, metavar=("M", "K", "N"), default=(64, 64, 64))
    given = parser.parse_args()
    data = {name: getattr(given, name) for name in ("rows", "cols", "dataflow", "folds")}
    array = load_data(SystolicArray, {"kind": "systolic", **data, "multiplier_bits": 8, "accumulator_bits": 32})
    M, K, N = given.product
    design = Design(array, FixedPoint(8, 0), FixedPoint(8, 0), FixedPoint(32, 0), depth=max(M, N))
    drawn = np.random.default_rng(0)
    product = Product(drawn.integers(-128, 128, (M, K)), drawn.integers(-128, 128, (K, N)), drawn.integers(-99, 99, N))
    with tempfile.TemporaryDirectory() as folder:
        begin = time.monotonic()
        run = Icarus(design, Path(folder))(product)
        seconds = time.monotonic() - begin
    values, terms = expected(design, product)
    model = {term: getattr(terms, term) for term in TERMS}
    print(f"{array}, {M}x{K} . {K}x{N}, {seconds:.0f} s")
    print(f"RTL    {run.cycles:9,} cycles  {run.terms}")
    print(f"model  {terms.total:9,} cycles  {model}")
    print(f"{int((run.values != values).sum())} of {values.size:,} outputs differ")


if __name__ == "__main__":
    main()
