"""Does the generated hardware give our bits in our cycles? The circuit in pysim, its Verilog in Icarus."""

from __future__ import annotations

import importlib.util
import os
import shutil
from dataclasses import replace
from functools import cache
from itertools import pairwise
from itertools import product as pairs
from pathlib import Path
from typing import Any, NamedTuple

import naive
import numpy as np
import pytest
from conversions import boundaries, conversions
from hypothesis import given, settings
from hypothesis import strategies as st

if importlib.util.find_spec("amaranth") is None and not os.environ.get("XAISIM_EVERY_ORACLE"):
    pytest.skip("needs amaranth: pip install 'xaisim[rtl]'", allow_module_level=True)

from xaisim.attribution import kernels
from xaisim.experiment import Experiment, prepare
from xaisim.flow import calibrated
from xaisim.hardware.array import SystolicArray, systolic_cycles
from xaisim.ir.accumulate import Accumulator
from xaisim.ir.kernels import correlate
from xaisim.ir.ops import Node
from xaisim.ir.types import FixedPoint, Overflow, Rounding, TensorType
from xaisim.mapping.order import order_of
from xaisim.rtl.bench import Product, Run, simulate
from xaisim.rtl.design import TERMS, Design
from xaisim.rtl.model import expected
from xaisim.rtl.replay import tile_products
from xaisim.rtl.testbench import Icarus
from xaisim.validate import rtl


def array(rows: int, cols: int, dataflow: str, **options: Any) -> SystolicArray:
    data = {"kind": "systolic", "rows": rows, "cols": cols, "dataflow": dataflow, "multiplier_bits": 8}
    return SystolicArray.model_validate({**data, "accumulator_bits": 24, **options})


def design_for(a: SystolicArray, outputs: FixedPoint | None = None, *, unsigned: bool = False, **more: Any) -> Design:
    outputs = outputs or FixedPoint(a.stored_sum_bits, 0)
    return Design(a, FixedPoint(8, 0, not unsigned), FixedPoint(8, 0), outputs, **more)


def drawn(design: Design, M: int, K: int, N: int, seed: int = 0, shift: int = 0) -> Product:
    """Draw operands from all of their range, bounds more often than chance would."""
    generator = np.random.default_rng([seed, M, K, N])

    def some(format: FixedPoint, *shape: int) -> np.ndarray:
        values = generator.integers(format.low, format.high, shape, np.int64, endpoint=True)
        at_bound = generator.random(shape) < 0.2
        return np.where(at_bound, np.where(values < 0, format.low, format.high), values)

    bias = generator.integers(-1000, 1000, N, endpoint=True) if design.initial else None
    lift = generator.integers(0, design.lift, N, endpoint=True) if design.lift else None
    return Product(some(design.inputs, M, K), some(design.weights, K, N), bias, shift, lift)


def assert_equal(design: Design, products: list[Product], runs: list[Run]) -> None:
    """Bits, cycles and each term."""
    for product, run in zip(products, runs, strict=True):
        values, terms = expected(design, product)
        wrong = np.argwhere(run.values != values)
        assert len(wrong) == 0, f"{design.array} {product.sizes}: {len(wrong)} outputs differ, first {wrong[:1]}"
        assert run.cycles == terms.total, f"{design.array} {product.sizes}"
        assert run.terms == {term: getattr(terms, term) for term in TERMS}, f"{design.array} {product.sizes}"


KINDS = {
    "os": {"dataflow": "os"},
    "os drain": {"dataflow": "os", "drain": True},
    "ws": {"dataflow": "ws"},
    "is": {"dataflow": "is"},
    "ws pipelined": {"dataflow": "ws", "folds": "pipelined"},
}
SIZES = [(1, 1), (1, 5), (5, 1), (4, 4), (3, 7), (6, 2)]
SHAPES = [(1, 1, 1), (8, 8, 8), (5, 9, 7), (3, 2, 11), (13, 6, 1), (1, 17, 3), (2, 16, 5), (11, 23, 10)]
"""M, K, N: edges of every kind, one element, fewer pixels than rows, several folds each way."""


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("kind", KINDS)
def test_bits_and_cycles_are_those_of_the_model(kind: str, size: tuple[int, int]) -> None:
    design = design_for(array(*size, **KINDS[kind]))
    products = [drawn(design, *shape) for shape in SHAPES]
    assert_equal(design, products, simulate(design, products))


@pytest.mark.parametrize("kind", KINDS)
def test_a_product_may_start_in_the_last_cycle_of_the_one_before_and_nothing_is_lost_between_them(kind: str) -> None:
    design = design_for(array(3, 4, **KINDS[kind]), shifts=(0, 7))
    products = [drawn(design, *shape, shift=shift) for shift, shape in enumerate(SHAPES)]
    runs = simulate(design, products)
    assert [b.start - a.start for a, b in pairwise(runs)] == [run.cycles for run in runs[:-1]]
    assert_equal(design, products, runs)
    rested = simulate(design, products, pause=5)
    for run, other in zip(runs, rested, strict=True):
        assert (run.values == other.values).all()
        assert (run.cycles, run.terms, run.tail) == (other.cycles, other.terms, other.tail)


def test_results_are_out_when_the_product_is_done_except_where_shadow_registers_hold_them() -> None:
    for kind, tail in {"os": 5, "os drain": 0, "ws": 0, "is": 0, "ws pipelined": 0}.items():
        design = design_for(array(4, 4, **KINDS[kind]))
        assert [run.tail for run in simulate(design, [drawn(design, 8, 8, 8)])] == [tail], kind


def test_a_last_pipelined_fold_of_few_pixels_waits_for_weights_that_nobody_needs() -> None:
    """The closed form charges the last fold like every other; the last sum is there rows − max(M, 4) cycles before."""
    design = design_for(array(7, 2, **KINDS["ws pipelined"]))
    for M, early in ((1, 3 + 3), (4, 3), (6, 1), (7, 0), (9, 0)):
        (run,) = simulate(design, [drawn(design, M, 9, 4)])
        assert run.tail == -early, M
        assert run.cycles == systolic_cycles(design.array, M, 9, 4).total == 13 + 4 * max(M, 4, 7) + 7


# Accumulators and requantisation --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("policy", "bits", "psum_bits"), [("wrap", 16, 16), ("saturate", 17, 17), ("saturate", 18, 12)]
)
def test_sums_that_do_not_fit_wrap_or_saturate_in_the_order_of_the_machine(
    kind: str, policy: str, bits: int, psum_bits: int
) -> None:
    a = array(3, 4, **KINDS[kind], accumulator=policy, accumulator_bits=bits, psum_bits=psum_bits)
    design = design_for(a)
    products = [drawn(design, *shape) for shape in SHAPES]
    assert_equal(design, products, simulate(design, products))
    exact = [p.x @ p.w + p.initial for p in products]
    changed = [(expected(design, p)[0] != e).any() for p, e in zip(products, exact, strict=True)]
    assert sum(changed) >= 2, "the sums fit: nothing was tried"


@pytest.mark.parametrize("kind", KINDS)
def test_sums_of_weights_with_a_scale_per_channel_are_lifted_behind_the_array_and_meet_their_bias_there(
    kind: str,
) -> None:
    a = array(3, 4, **KINDS[kind], accumulator="saturate", accumulator_bits=18, psum_bits=16)
    design = design_for(a, FixedPoint(10, 0), shifts=(5, 5), lift=6)
    products = [drawn(design, *shape, shift=5) for shape in SHAPES[1:]]
    assert_equal(design, products, simulate(design, products))
    assert any((expected(design, replace(p, lift=None))[0] != expected(design, p)[0]).any() for p in products)


@pytest.mark.parametrize("kind", KINDS)
def test_sums_may_start_from_partial_sums_that_an_earlier_product_left(kind: str) -> None:
    """A reduction in two parts equals the whole one, in as many row folds."""
    policy = "wrap" if KINDS[kind]["dataflow"] == "os" else "saturate"
    design = design_for(array(4, 3, **KINDS[kind], accumulator=policy, accumulator_bits=16))
    whole = drawn(design, 6, 16, 5)
    half = Product(whole.x[:, :8], whole.w[:8], whole.initial)
    (first,) = simulate(design, [half])
    (second,) = simulate(design, [Product(whole.x[:, 8:], whole.w[8:], first.values)])
    assert (second.values == expected(design, whole)[0]).all()


@st.composite
def jobs(draw: Any) -> tuple[Design, list[Product]]:
    """Draw a small array with formats, accumulators and modes of every kind, and products for it."""
    size = (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    widths = {"multiplier_bits": draw(st.integers(2, 12)), "accumulator_bits": draw(st.integers(16, 40))}
    policy = draw(st.sampled_from(["wrap", "saturate"]))
    psum_bits = draw(st.integers(8, widths["accumulator_bits"]))
    kind = KINDS[draw(st.sampled_from(sorted(KINDS)))]
    a = array(*size, **kind, **widths, accumulator=policy, psum_bits=psum_bits)
    operands = [FixedPoint(draw(st.integers(2, a.multiplier_bits)), 0, draw(st.booleans())) for _ in range(2)]
    modes = draw(st.sampled_from(Rounding)), draw(st.sampled_from(Overflow))
    outputs = FixedPoint(draw(st.integers(2, 20)), 0, draw(st.booleans()), *modes)
    least = draw(st.integers(-6, 6))
    shifts = (least, draw(st.integers(least, 20)))
    more = {"initial": draw(st.booleans()), "lift": draw(st.sampled_from([0, 0, 1, 5]))}
    design = Design(a, *operands, outputs, shifts, depth=16, extent_bits=5, **more)
    extent = st.integers(1, 14)
    shapes = draw(st.lists(st.tuples(extent, extent, extent, st.integers(*shifts)), min_size=1, max_size=4))
    return design, [drawn(design, M, K, N, shift=shift) for M, K, N, shift in shapes]


@settings(max_examples=25)
@given(job=jobs())
def test_any_small_product_on_any_small_array_equals_python_integers(job: tuple[Design, list[Product]]) -> None:
    """The oracle adds one product after the other in Python integers and requantises in exact rationals."""
    design, products = job
    a = design.array
    runs = simulate(design, products)
    assert_equal(design, products, runs)
    for product, run in zip(products, runs, strict=True):
        _, K, N = product.sizes
        accumulator = Accumulator(a.accumulator, a.accumulator_bits, a.stored_sum_bits, order_of(a, K))
        attrs = {"accumulator": accumulator} | ({} if product.lift is None else {"lift": product.lift.tolist()})
        node = Node("y", "linear", (), TensorType((N,)), attrs)
        weights = [naive.objects(product.w.T)] + ([] if product.initial is None else [naive.objects(product.initial)])
        for row, given_off in zip(product.x, run.values.tolist(), strict=True):
            sums = naive.linear(node, naive.objects(row), *weights)
            assert [naive.requant(total, product.shift, design.outputs) for total in sums] == given_off


def requantised(design: Design, values: np.ndarray, shifts: list[int]) -> np.ndarray:
    """Return what the hardware makes of each value with each shift."""
    from amaranth.sim import Simulator

    from xaisim.rtl.arithmetic import Requant

    circuit, made = Requant(design), []

    async def bench(ctx: Any) -> None:
        for shift in shifts:
            ctx.set(circuit.shift, shift)
            for value in values.tolist():
                ctx.set(circuit.value, value)
                made.append(ctx.get(circuit.result))

    simulator = Simulator(circuit)
    simulator.add_testbench(bench)
    simulator.run()
    return np.array(made).reshape(len(shifts), len(values))


@pytest.mark.parametrize(("rounding", "overflow"), list(pairs(Rounding, Overflow)))
def test_requant_in_hardware_equals_the_kernel_in_every_mode(rounding: Rounding, overflow: Overflow) -> None:
    shifts = [-3, -1, 0, 1, 2, 5, 9]
    for bits, signed in ((3, True), (4, False), (8, True)):
        to = FixedPoint(bits, 0, signed, rounding, overflow)
        design = design_for(array(1, 1, "os", psum_bits=11), to, shifts=(-3, 9))
        values = np.unique(np.clip(np.r_[-1024:1024:37, -40:41, 1023, -1023], -1024, 1023))
        expect = [[naive.requant(v, shift, to) for v in values.tolist()] for shift in shifts]
        assert requantised(design, values, shifts).tolist() == expect


def test_requant_in_hardware_equals_exact_rationals_on_wide_sums_and_long_shifts() -> None:
    some = [c for c in conversions() if c.source.signed and c.source.bits >= 16 and -64 <= c.dropped <= 128][::23]
    assert len(some) > 20
    for c in some:
        design = design_for(array(1, 1, "os", accumulator_bits=c.source.bits), replace(c.to, frac=0))
        design = replace(design, shifts=(c.dropped, c.dropped))
        values = boundaries(c)
        values = values[:: max(1, values.size // 40)]
        expect = [naive.requant(v, c.dropped, design.outputs) for v in values.tolist()]
        assert requantised(design, values, [c.dropped]).tolist() == [expect], c


# The simulator's schedule ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", rtl.KINDS)
def test_the_tiles_of_a_schedule_add_up_to_its_convolution(kind: str) -> None:
    """That each of them is what the array computes, in as many cycles as its row, is held by the section."""
    schedule = rtl.tiled_schedule(
        rtl.array_of(kind, 6, 5, multiplier_bits=16, accumulator_bits=48, accumulator="proven")
    )
    conv = schedule.stages[0].anchor
    generator = np.random.default_rng(0)
    (K, P, Q), weights = conv.type.shape, schedule.graph.constants[conv.args[1]].type.shape
    x = generator.integers(-99, 99, schedule.graph.inputs[conv.args[0]].shape)
    w, bias = generator.integers(-99, 99, weights), generator.integers(-999, 999, K)
    tiles = tile_products(schedule, conv, x, w, bias)
    sums = np.zeros((K, P, Q), np.int64)
    for tile in tiles:
        k0, k1, p0, p1, q0, q1 = schedule.tiles.region[tile.row].tolist()
        sums[k0:k1, p0:p1, q0:q1] = tile.sums.T.reshape(k1 - k0, p1 - p0, q1 - q0)
    assert (sums == correlate(x[None], w, (1, 1), (0, 0), (P, Q), 1 << 40)[0] + bias.reshape(-1, 1, 1)).all()
    assert len(np.unique(schedule.tiles.channels[[tile.row for tile in tiles]], axis=0)) > 1


def test_one_wrong_bit_or_cycle_fails_the_section(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtl, "KINDS", {"os": rtl.KINDS["os"]})
    monkeypatch.setattr(rtl, "SIZES", ((3, 2),))
    for wrong in (lambda run: run._replace(values=run.values ^ 4), lambda run: run._replace(cycles=run.cycles + 1)):
        monkeypatch.setattr(rtl, "simulate", lambda *given, wrong=wrong: [wrong(run) for run in simulate(*given)])
        assert rtl.section().exact is False


# A trained network ----------------------------------------------------------------------------------------------------


class Layer(NamedTuple):
    """A convolution of a trained network as a matrix product, and what the fixed-point device made of it."""

    product: Product
    inputs: FixedPoint
    outputs: FixedPoint
    made: np.ndarray

    def design(self, a: SystolicArray) -> Design:
        lift = 0 if self.product.lift is None else int(self.product.lift.max())
        return Design(a, self.inputs, FixedPoint(8, 0), self.outputs, shifts=(0, 20), lift=lift)

    def pixels(self, count: int) -> Layer:
        """Return the first pixels alone."""
        return self._replace(product=replace(self.product, x=self.product.x[:count]), made=self.made[:count])


@cache
def layer(numerics: str) -> Layer:
    """48 pixels of conv2, 32 filters of 3x3 over 32 channels, with its requantisation to 8 unsigned bits."""
    prepared = prepare(Experiment(model="cifar_cnn", method="saliency", numerics=numerics, arch="edge_systolic_16_ws"))
    device, made = prepared.device(calibrated(prepared)[0]), {}
    device.observe = lambda name, value: made.update({name: value.copy()})
    device.launch(kernels.forward(prepared.model.graph), {"input": prepared.sample.x})
    graph = device.program[0].graph
    nodes = {node.name: node for node in graph.nodes}
    conv, requant = nodes["conv2.exact"], nodes["conv2"]
    w, b = (graph.constants[name].value for name in conv.args[1:])
    assert w.shape[-4:] == (32, 32, 3, 3)
    assert (conv.attrs["padding"], conv.attrs["stride"]) == ((1, 1, 1, 1), (1, 1))
    padded = np.pad(made[conv.args[0]][0], ((0, 0), (1, 1), (1, 1)))
    places = list(pairs(range(4), range(10, 22)))  # the upper edge of the picture
    x = np.array([padded[:, p : p + 3, q : q + 3].reshape(-1) for p, q in places])
    to, lift = requant.attrs["to"], conv.attrs.get("lift")
    product = Product(x, w.reshape(32, -1).T, b.reshape(-1), requant.attrs["from_frac"] - to.frac)
    if lift is not None:
        product = replace(product, lift=np.array(lift))
    outputs = np.array([made["conv2"][0][:, p, q] for p, q in places])
    assert len(np.unique(outputs)) > 10
    return Layer(product, graph.types()[conv.args[0]].format, to, outputs)


@pytest.mark.parametrize(
    ("kind", "numerics"),
    [("os", "fixed8"), ("ws pipelined", "fixed8"), ("ws pipelined", "fixed8:per_channel=true")],
)
def test_a_trained_layer_gives_the_bits_of_the_fixed_point_device(kind: str, numerics: str) -> None:
    part = layer(numerics).pixels(8)
    assert (part.product.lift is not None and part.product.lift.max() > 0) == ("per_channel" in numerics)
    design = part.design(array(8, 8, **KINDS[kind], accumulator_bits=32))
    (run,) = simulate(design, [part.product])
    assert (run.values == part.made).all()
    assert run.cycles == systolic_cycles(design.array, *part.product.sizes).total


# The emitted Verilog --------------------------------------------------------------------------------------------------


@pytest.fixture
def icarus(tmp_path: Path) -> Path:
    """A folder to compile in; with ``XAISIM_EVERY_ORACLE`` set, as in CI, the compiler must be there."""
    if shutil.which("iverilog") is None:
        reason = "needs Icarus Verilog: apt-get install iverilog"
        if os.environ.get("XAISIM_EVERY_ORACLE"):
            pytest.fail(f"XAISIM_EVERY_ORACLE is set, and this test {reason}")
        pytest.skip(reason)
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
def test_the_emitted_verilog_gives_the_same_bits_and_cycles(kind: str, icarus: Path) -> None:
    a = array(5, 3, **KINDS[kind], accumulator="saturate", accumulator_bits=18, psum_bits=16)
    outputs = FixedPoint(9, 0, False, Rounding.RND_CONV, Overflow.SAT)
    lift = 3 if kind in ("ws", "is") else 0
    design = design_for(a, outputs, unsigned=True, shifts=(-2, 9), depth=16, lift=lift)
    products = [drawn(design, *shape, shift=shift) for shift, shape in enumerate(SHAPES, start=-2)]
    verilog = Icarus(design, icarus)
    assert_equal(design, products, [verilog(product) for product in products])


@pytest.mark.parametrize(("kind", "numerics"), [("os drain", "fixed8:per_channel=true"), ("ws", "fixed8")])
def test_the_emitted_verilog_computes_a_trained_layer(kind: str, numerics: str, icarus: Path) -> None:
    trained = layer(numerics).pixels(24)
    design = trained.design(array(8, 16, **KINDS[kind], accumulator_bits=32))
    run = Icarus(design, icarus)(trained.product)
    assert (run.values == trained.made).all()
    assert run.cycles == systolic_cycles(design.array, *trained.product.sizes).total
