"""Are the fast plan's bits the definitions', on every kind of kernel, for any shape, format and extreme value?"""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import naive
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from random_graphs import networks

from xaisim.attribution import kernels, path_kernels
from xaisim.attribution.gradient import DECONVNET, GUIDED, RULES
from xaisim.attribution.methods import METHODS
from xaisim.config import UserError
from xaisim.ir import machine, memory, packing
from xaisim.ir.graph import Graph, GraphBuilder, evaluate
from xaisim.ir.plan import Plan
from xaisim.ir.types import Bits, FixedPoint, Overflow, Rounding, TensorType
from xaisim.models import load_model
from xaisim.numerics.devices import FixedDevice, FloatDevice
from xaisim.numerics.formats import Formats, Numerics, Ranges

Array = np.ndarray
ON_ALL_KERNELS = pytest.mark.usefixtures("on_kernels")
SAME_FIXTURE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def able() -> list[str]:
    """Kernels that this machine can run."""
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XAISIM_KERNELS", "?")
            machine.selected.cache_clear()
            machine.selected()
    except UserError as error:
        return str(error).partition("choices: ")[2].split(", ")
    finally:
        machine.selected.cache_clear()
    raise AssertionError("an unknown name was taken")


@pytest.fixture(params=able())
def on_kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run on each kind of kernels in turn."""
    monkeypatch.setenv("XAISIM_KERNELS", request.param)
    machine.selected.cache_clear()
    assert machine.selected().name == request.param
    yield request.param
    machine.selected.cache_clear()


# --- one sum and its tail ---------------------------------------------------------------------------------------------


def drawn(draw: Any, shape: tuple[int, ...], format: FixedPoint) -> Array:
    """Draw integers of a format: any, or only its ends."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = generator.integers(format.low, format.high, shape, endpoint=True)
    ends = np.where(generator.random(shape) < 0.5, format.low, format.high)
    kind = draw(st.sampled_from(["any", "low", "high", "ends", "some", "zero"]))
    constant = {"low": format.low, "high": format.high, "zero": 0}
    if kind in constant:
        return np.full(shape, constant[kind])
    return {"any": values, "ends": ends, "some": np.where(generator.random(shape) < 0.1, ends, values // 16)}[kind]


@st.composite
def sums(draw: Any, *, most_filters: int, most_channels: int, side: int) -> tuple[Graph, dict[str, Array]]:
    """Draw a convolution with whatever may follow it before it is stored, and its inputs."""
    channels, filters = draw(st.integers(1, most_channels)), draw(st.integers(1, most_filters))
    height, width = draw(st.integers(1, side)), draw(st.integers(1, side))
    taps = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    padding = tuple(draw(st.integers(-1 if height > 2 and width > 2 else 0, 5)) for _ in range(4))
    turned = draw(st.booleans())
    stride = (1, 1) if turned else (draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    dilation = (draw(st.integers(1, 3)), draw(st.integers(1, 3))) if turned else (1, 1)
    x = FixedPoint(draw(st.integers(2, 16)), 3, signed=draw(st.booleans()))
    w = FixedPoint(draw(st.sampled_from([2, 8, 8, 15, 16])), 5, signed=draw(st.integers(0, 4)) > 0)
    samples = draw(st.integers(1, 3))
    b = GraphBuilder()
    b.input("x", TensorType((channels, height, width), x))
    shape = (channels, filters, *taps) if turned else (filters, channels, *taps)
    weights = drawn(draw, shape, w)
    b.constant("w", weights, TensorType(shape, w))
    args, bias = ["x", "w"], 0
    if draw(st.booleans()):
        values = drawn(draw, (filters,), FixedPoint(30, 8))
        bias = int(np.abs(values).max())
        args.append(b.constant("b", values, TensorType((filters,), FixedPoint(31, 8))))
    lift = tuple(draw(st.integers(0, 7)) for _ in range(filters)) if draw(st.booleans()) else None
    bound = channels * taps[0] * taps[1] * 2 ** (x.bits + w.bits - 1)
    attrs = {"lift": lift} if lift else {}
    try:
        b.add("sum", "conv", *args, stride=stride, dilation=dilation, padding=padding, transposed=turned, bound=bound,
              bits=((bound << 7) + bias).bit_length() + 1, **attrs)  # fmt: skip
    except ValueError:
        assume(False)
    feeds = {"x": drawn(draw, (samples, channels, height, width), x)}
    return _tailed(draw, b, feeds, samples), feeds


def _tailed(draw: Any, b: GraphBuilder, feeds: dict[str, Array], samples: int) -> Graph:
    """Add what may follow a sum, and build."""
    shape, current = b.types["sum"].shape, "sum"
    from_frac, outputs = 8, []
    if draw(st.booleans()):
        other = FixedPoint(draw(st.integers(2, 16)), draw(st.integers(0, 8)), signed=draw(st.booleans()))
        b.input("other", TensorType(shape, other))
        feeds["other"] = drawn(draw, (samples, *shape), other)
        pair = [("sum", 0), ("other", 8 - other.frac)]
        pair = pair[::-1] if draw(st.booleans()) else pair
        current = b.add("added", "add", *(n for n, _ in pair), shifts=tuple(s for _, s in pair), bits=60)
    if draw(st.booleans()):
        outputs.append(b.add("mask", "positive", current))
        if draw(st.integers(0, 4)) == 0:
            return b.build(*outputs)
    signed = draw(st.booleans())
    rounding, overflow = draw(st.sampled_from(Rounding)), draw(st.sampled_from(Overflow))
    if draw(st.booleans()):
        rounding, overflow = Rounding.RND, Overflow.SAT
    to = FixedPoint(draw(st.integers(2, 20)), draw(st.integers(-20, 12)), signed, rounding, overflow)
    current = b.add("stored", "requant", current, from_frac=from_frac, to=to)
    for kind in draw(st.lists(st.sampled_from(["relu", "gate"]), unique=True, max_size=2)):
        if kind == "gate":
            b.input("gate", TensorType(shape, Bits(1)))
            feeds["gate"] = np.random.default_rng(0).integers(0, 2, (samples, *shape))
            current = b.add("gated", "gate", current, "gate")
        else:
            current = b.add("cut", "relu", current)
    return b.build(*outputs, current)


def assert_same(graph: Graph, feeds: dict[str, Array], expected: dict[str, Array]) -> None:
    for threads in (1, 3):
        made = Plan(graph).run(feeds, threads=threads)
        for name in graph.outputs:
            np.testing.assert_array_equal(made[name], expected[name].astype(np.int64), name, strict=True)


@ON_ALL_KERNELS
@SAME_FIXTURE
@given(case=sums(most_filters=6, most_channels=5, side=4))
def test_a_sum_and_its_tail_equal_loops_over_python_integers(case: tuple[Graph, dict[str, Array]]) -> None:
    graph, feeds = case
    assert_same(graph, feeds, naive.run(graph, feeds))


@ON_ALL_KERNELS
@SAME_FIXTURE
@given(case=sums(most_filters=150, most_channels=40, side=12))
def test_blocks_of_any_number_of_filters_equal_the_definition(case: tuple[Graph, dict[str, Array]]) -> None:
    graph, feeds = case
    assert_same(graph, feeds, evaluate(graph, feeds))


@ON_ALL_KERNELS
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("filters", [16, 32, 64, 112])
def test_the_largest_sums_that_there_can_be_are_exact(filters: int, bits: int, signed: bool) -> None:
    x, w = FixedPoint(bits, 0, signed), FixedPoint(bits, 0)
    channels = 2048 if bits == 16 else 40000
    b = GraphBuilder()
    b.input("x", TensorType((channels,), x))
    b.constant("w", np.full((filters, channels), w.low), TensorType((filters, channels), w))
    b.add("sum", "linear", "x", "w", bound=channels * 2 ** (2 * bits), bits=62)
    b.add("stored", "requant", "sum", from_frac=0, to=FixedPoint(16, -(channels * 2 ** (2 * bits)).bit_length() + 16))
    graph = b.build("stored")
    feeds = {"x": np.stack([np.full(channels, x.low), np.full(channels, x.high), np.arange(channels) % 2 * x.high])}
    exact = feeds["x"].astype(object).sum(axis=1) * w.low
    expected = np.array([[naive.requant(int(v), 0, graph.nodes[-1].attrs["to"])] * filters for v in exact])
    assert_same(graph, feeds, {"stored": expected})


@ON_ALL_KERNELS
@SAME_FIXTURE
@given(seed=st.integers(0, 2**32 - 1), channels=st.integers(1, 9), taps=st.integers(1, 4), filters=st.integers(1, 70))
def test_no_segment_can_leave_32_bits_and_together_they_are_all_products(
    seed: int, channels: int, taps: int, filters: int
) -> None:
    """Σ|w|·reach keeps room for the 16 bits that the segment before left; every weight meets its input once."""
    generator = np.random.default_rng(seed)
    w = generator.integers(-(2**15), 2**15, (filters, channels, taps, taps))
    w[generator.random(w.shape) < 0.3] = -(2**15)
    window = packing.Window((taps, taps), (1, 1), (1, 1), (3, 3))
    packed = packing.pack(w, window, fours=False, peak=2**15)
    low = generator.integers(-(2**15), 2**15, channels)
    high = np.minimum(low + generator.integers(0, 2**16, channels), 2**15 - 1)
    if not packed.blocks:
        return
    division = packed.any_input or packed.division(low, high)
    assert division.covers(low, high) or packed.any_input is division
    centre = division.centre.astype(int) if division.centre.size else np.zeros(channels, int)
    reach = np.maximum(division.high - centre, centre - division.low)
    assert reach.max() <= 2**15
    pitch = packed.extent[1] * channels * 2
    found = np.zeros((len(packed.blocks) * 64 + 64, channels, taps, taps))
    for part, row, following in zip(packed.blocks, division.table[:-1], division.table[1:], strict=True):
        step = 0
        for first, end in division.segments[row[5] : following[5]]:
            total = np.zeros(part.weights.shape[1])
            for offset in range(first, end, 4):
                for e in range(2):
                    here = part.weights[step, :, e].astype(np.int64)
                    r, position = divmod(offset, pitch)
                    s, c = divmod(position // 2 + e, channels)
                    if s < taps:
                        found[part.filter : part.filter + len(here), c, r, s] += here
                        total += np.abs(here) * reach[c]
                    else:
                        assert not here.any()
                step += 1
            assert total.max() + 2**16 * row[6] <= 2**31
        assert step == len(part.weights)
    np.testing.assert_array_equal(found[:filters], w)


def small(op: str, shape: tuple[int, ...], *args: str, inputs: dict[str, TensorType], **attrs: Any) -> GraphBuilder:
    """Return a builder with one operator, ``sum``."""
    b = GraphBuilder()
    for name, type in inputs.items():
        b.input(name, type)
    b.add("sum", op, *args, **attrs)
    assert b.types["sum"].shape == shape
    return b


@ON_ALL_KERNELS
def test_sums_as_wide_as_the_vector_unit_are_exact() -> None:
    q16 = FixedPoint(16, 0)
    b = small(
        "add", (2, 3, 8), "x", "y", inputs=dict.fromkeys("xy", TensorType((2, 3, 8), q16)), shifts=(47, 47), bits=64
    )
    b.add("stored", "requant", "sum", from_frac=47, to=FixedPoint(16, -13))
    feeds = {name: np.full((1, 2, 3, 8), value) for name, value in (("x", 32767), ("y", 32766))}
    graph = b.build("stored")
    assert_same(graph, feeds, naive.run(graph, feeds))


@ON_ALL_KERNELS
@pytest.mark.parametrize("side", [16, 18])
def test_pools_of_more_places_than_a_byte_names_are_exact(side: int) -> None:
    x = TensorType((3, side + 4, side + 4), FixedPoint(16, 4))
    pool = {"kernel": (side, side), "stride": (2, 2), "padding": (0, 0, 0, 0)}
    b = small("pool_index", (3, 3, 3), "x", inputs={"x": x, "g": TensorType((3, 3, 3), FixedPoint(16, 2))}, **pool)
    b.add("back", "unpool", "g", "sum", shape=x.shape, bits=24, bound=2**20, **pool)
    b.add("stored", "requant", "back", from_frac=2, to=FixedPoint(16, 0))
    generator = np.random.default_rng(3)
    feeds = {n: generator.integers(-(2**15), 2**15, (2, *t.shape)) for n, t in b.inputs.items()}
    graph = b.build("stored")
    assert_same(graph, feeds, naive.run(graph, feeds))


@ON_ALL_KERNELS
def test_a_mask_of_one_sample_stays_one_where_many_gates_follow() -> None:
    type = TensorType((16, 2, 2), FixedPoint(16, 4))
    b = small("add", type.shape, "x", "y", inputs={"x": type, "y": type, "m": TensorType(type.shape, Bits(1))}, bits=17)
    b.add("mask", "positive", "sum")
    b.add("stored", "requant", "sum", from_frac=4, to=FixedPoint(16, 3))
    b.add("gated", "gate", "stored", "m")
    generator = np.random.default_rng(3)
    feeds = {n: generator.integers(-(2**15), 2**15, (1, *type.shape)) for n in "xy"}
    feeds["m"] = generator.integers(0, 2, (5, *type.shape))
    graph = b.build("mask", "gated")
    assert_same(graph, feeds, evaluate(graph, feeds))


def test_weights_shared_by_kernels_of_other_widths_are_packed_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAISIM_KERNELS", "portable")
    machine.selected.cache_clear()
    w = np.random.default_rng(0).integers(-(2**15), 2**15, (8, 64))
    packs: dict[Any, Any] = {}
    try:
        for bits in (4, 16):
            b = GraphBuilder()
            b.input("x", TensorType((64,), FixedPoint(bits, 0)))
            b.constant("w", w, TensorType(w.shape, FixedPoint(16, 0)))
            b.add("sum", "linear", "x", "w", bound=2**40, bits=41)
            b.add("stored", "requant", "sum", from_frac=0, to=FixedPoint(16, -10))
            graph = b.build("stored")
            feeds = {"x": np.random.default_rng(1).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (8, 64))}
            made = Plan(graph, packs).run(feeds)["stored"]
            np.testing.assert_array_equal(made, evaluate(graph, feeds)["stored"])
    finally:
        machine.selected.cache_clear()


def test_a_buffer_is_taken_again_only_when_no_array_refers_to_it() -> None:
    shape = (1000, 100)
    first = memory.scratch(shape, np.int16)
    part = first[10:20].reshape(-1)[::2]
    address = first.ctypes.data
    del first
    assert memory.scratch(shape, np.int16).ctypes.data != address
    del part
    assert memory.scratch(shape, np.int16).ctypes.data == address


# --- whole networks ---------------------------------------------------------------------------------------------------

WIDTHS = st.builds(
    Numerics,
    weights=st.sampled_from([4, 8, 16, 20]),
    activations=st.sampled_from([4, 8, 11, 16, 18]),
    gradients=st.sampled_from([5, 8, 16, 24]),
    per_channel=st.booleans(),
)


@ON_ALL_KERNELS
@SAME_FIXTURE
@given(graph=networks(), n=WIDTHS, rules=st.sampled_from([RULES, DECONVNET, GUIDED]), seed=st.integers(0, 2**32 - 1))
def test_forward_and_backward_of_random_networks_equal_the_definitions(
    graph: Graph, n: Numerics, rules: Any, seed: int
) -> None:
    x = np.random.default_rng(seed).normal(size=(3, *graph.inputs["input"].shape))
    kernel = kernels.gradient(graph, 1, rules)
    ranges = Ranges()
    FloatDevice(observe=ranges.see).launch(kernel, {"input": x})
    device = FixedDevice(Formats(n, ranges.largest), 64)
    fixed = device.compile(kernel.graph, {"input": x})
    feeds = {"input": device.enter(x, fixed.inputs["input"].format)}
    seen: dict[str, Array] = {}
    expected: dict[str, Array] = {}
    outputs = evaluate(fixed, feeds, observe=lambda name, value: expected.update({name: value}))
    made = Plan(fixed).run(feeds, observe=lambda name, value: seen.update({name: value.copy()}))
    assert set(made) == set(outputs)
    for name in {**seen, **made}:
        value = seen.get(name, made.get(name))
        wanted = expected.get(name, outputs.get(name))
        np.testing.assert_array_equal(value, np.broadcast_to(wanted, value.shape), name)
    stored = {node.name for node in fixed.nodes if node.op in ("positive", "pool_index", "maxpool")}
    assert stored <= set(seen)


@pytest.mark.parametrize("name", ["cifar_cnn", "resnet18_tiny", "inception_v3_tiny"])
def test_nothing_of_a_shipped_network_falls_back_to_definitions_but_the_path_itself(name: str) -> None:
    """At 16 bits every layer runs in maps; only the interpolation and the running sum, which are wider, do not."""
    graph = load_model(name).graph
    x = np.random.default_rng(0).normal(size=(1, *graph.inputs["input"].shape))
    kernel = path_kernels.path_gradient(graph, 0)
    feeds = {"path.x": x, "path.baseline": 0 * x, "path.alpha": np.ones(1), "path.weight": np.ones(1)}
    ranges = Ranges()
    FloatDevice(observe=ranges.see).launch(kernel, feeds)
    fixed = FixedDevice(Formats(Numerics(), ranges.largest), 48).compile(kernel.graph, feeds)
    by_definition = {n.name for step in Plan(fixed).steps if step.definition for n in step.nodes}
    layers = {n.layer for n in fixed.nodes if n.name in by_definition and n.op != "reshape"}
    assert layers <= {"path"}
    assert {"path.step", "path.total"} <= by_definition


# --- devices ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["saliency", "integrated_gradients"])
def test_any_batch_and_number_of_threads_gives_the_bits_of_the_naive_device(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = load_model("cifar_cnn").graph
    x = np.random.default_rng(1).normal(size=(1, 3, 32, 32))
    ranges = Ranges()
    options = {"n_steps": 7} if method == "integrated_gradients" else {}
    METHODS[method].run(FloatDevice(observe=ranges.see), graph, x, 2, **options)
    formats = Formats(Numerics(), ranges.largest)
    expected = METHODS[method].run(FixedDevice(formats, 48, naive=True), graph, x, 2, **options).values
    assert len(np.unique(expected)) > 100
    for threads in (1, 2, 5):
        monkeypatch.setattr("xaisim.numerics.devices.thread_count", lambda n=threads: n)
        for batch in (None, 1, 3):
            device = FixedDevice(formats, 48, batch_size=batch)
            made = METHODS[method].run(device, graph, x, 2, **options).values
            np.testing.assert_array_equal(made, expected)


def test_memory_does_not_grow_with_the_number_of_path_points() -> None:
    graph = load_model("resnet18_tiny").graph
    x = np.random.default_rng(1).normal(size=(1, 3, 64, 64))
    ranges = Ranges()
    METHODS["integrated_gradients"].run(FloatDevice(observe=ranges.see), graph, x, 2, n_steps=4)
    device = FixedDevice(Formats(Numerics(), ranges.largest), 48)

    def peak(n_steps: int) -> int:
        tracemalloc.start()
        METHODS["integrated_gradients"].run(device, graph, x, 2, n_steps=n_steps)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(80)  # what is packed once
    one_map = 8 * x.size
    assert peak(1280) < peak(80) + 300 * one_map  # room for a thread's buffers, not for 1200 maps


def test_weights_are_packed_once_for_all_pictures_and_kernels_of_a_device() -> None:
    graph = load_model("cifar_cnn").graph
    x = np.random.default_rng(1).normal(size=(1, 3, 32, 32))
    ranges = Ranges()
    for target in range(3):
        METHODS["saliency"].run(FloatDevice(observe=ranges.see), graph, x, target)
    device = FixedDevice(Formats(Numerics(), ranges.largest), 48)
    counts = []
    for target in (0, 0, 1, 2):
        METHODS["saliency"].run(device, graph, x, target)
        counts.append(len(device._packs))
    assert counts[0] > 5
    assert counts[1:] == counts[:1] * 3


def test_kernels_that_do_not_exist_here_are_refused_with_the_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAISIM_KERNELS", "avx1024")
    machine.selected.cache_clear()
    try:
        with pytest.raises(UserError, match=r"XAISIM_KERNELS .*'avx1024'; choices: .*portable"):
            machine.selected()
    finally:
        machine.selected.cache_clear()
