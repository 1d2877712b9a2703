"""Do accumulators that wrap or saturate do so bit by bit, product by product, in the order of the machine?"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import naive
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from random_graphs import architectures, networks
from ruamel.yaml import YAML
from test_bits import assert_bits_equal, numerics, seen_ranges
from test_every_key import architecture

from xaisim.attribution import METHODS, kernels
from xaisim.config import UserError, find_named, load_data
from xaisim.experiment import Experiment
from xaisim.flow import explain, profile
from xaisim.hardware.architecture import Architecture
from xaisim.hardware.array import SystolicArray, UnrolledArray
from xaisim.ir.accumulate import Accumulator, Order
from xaisim.ir.graph import Graph
from xaisim.ir.ops import OPS, Node
from xaisim.ir.types import FixedPoint, TensorType
from xaisim.mapping.order import arrange, order_of
from xaisim.mapping.schedule import map_kernel
from xaisim.models import load_model
from xaisim.numerics.devices import DryDevice, FixedDevice
from xaisim.numerics.formats import Formats, Numerics
from xaisim.report.page import page_html
from xaisim.report.report import Report
from xaisim.show import report_text

# The kernel against sums of Python integers ---------------------------------------------------------------------------


@st.composite
def orders(draw: Any) -> Order:
    """Draw reduction tiles with adder trees, with folds, or with neither."""
    channels = draw(st.one_of(st.none(), st.integers(1, 5)))
    kind = draw(st.sampled_from(["plain", "tree", "fold"]))
    if kind == "tree":
        return Order(channels, tree=draw(st.tuples(*(st.integers(1, 4),) * 3)))
    return Order(channels, fold=draw(st.integers(1, 7)) if kind == "fold" else None)


@st.composite
def accumulators(draw: Any, policies: tuple[str, ...] = ("wrap", "saturate")) -> Accumulator:
    bits = draw(st.integers(16, 64))
    psum_bits = draw(st.one_of(st.just(bits), st.integers(8, bits)))
    return Accumulator(draw(st.sampled_from(policies)), bits, psum_bits, draw(orders()))  # type: ignore[arg-type]


def drawn_integers(draw: Any, shape: tuple[int, ...], bits: int, signed: bool = True) -> np.ndarray:
    """Draw integers of a format, its bounds more often than chance would."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    generator = np.random.default_rng(draw(st.integers(0, 2**16)))
    values = generator.integers(low, high, shape, endpoint=True)
    extreme = generator.random(shape) < draw(st.sampled_from([0.0, 0.3, 1.0]))
    return np.where(extreme, np.where(values > (low + high) // 2, high, low), values)


@st.composite
def sums(draw: Any) -> tuple[Node, list[np.ndarray]]:
    """Draw a convolution or linear layer with integer operands, a bias or none, and the right bound."""
    batch, C, K = draw(st.integers(1, 3)), draw(st.integers(1, 6)), draw(st.integers(1, 5))
    bits = draw(st.sampled_from([4, 8, 16, 32]))
    attrs: dict[str, Any] = {"transposed": draw(st.booleans())}
    if draw(st.booleans()):
        window = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
        size = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
        dilation = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
        stride = (1, 1) if dilation != (1, 1) else draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
        padding = tuple(draw(st.integers(-1, 2)) for _ in range(4))
        attrs |= {"stride": stride, "padding": padding, "dilation": dilation}
        x_shape, w_shape, op = (C, *size), (K, C, *window), "conv"
        if attrs["transposed"]:
            w_shape = (C, K, *window)
    else:
        x_shape, w_shape, op = (C,), (C, K) if attrs["transposed"] else (K, C), "linear"
    try:
        shape = OPS[op].shape([x_shape, w_shape], attrs)
    except ValueError:
        assume(False)
    x = drawn_integers(draw, (batch, *x_shape), bits, signed=draw(st.booleans()))
    w = drawn_integers(draw, (1, *w_shape), bits)
    operands = [x, w]
    if draw(st.booleans()):
        operands.append(drawn_integers(draw, (1, K), 16))
    if draw(st.booleans()) and bits < 32:
        attrs["lift"] = tuple(draw(st.integers(0, 5)) for _ in range(K))
    bound = int(np.abs(w).astype(object).sum()) * int(np.abs(x).max()) + 2**15
    accumulator = draw(accumulators())
    attrs |= {"bound": bound, "accumulator": accumulator}
    node = Node(
        "y", op, ("x", "w", "b")[: len(operands)], TensorType(shape, FixedPoint(accumulator.psum_bits, 0)), attrs
    )
    return node, operands


def naive_sums(node: Node, operands: list[np.ndarray]) -> np.ndarray:
    weights = [naive.objects(a[0]) for a in operands[1:]]
    definition = {"conv": naive.conv, "linear": naive.linear}[node.op]
    return np.stack([definition(node, naive.objects(x), *weights) for x in operands[0]])


@given(case=sums())
def test_sums_equal_python_integers_added_one_by_one(case: tuple[Node, list[np.ndarray]]) -> None:
    node, operands = case
    if "lift" in node.attrs:
        assume(node.attrs["accumulator"].psum_bits < 56)
    got = OPS[node.op].evaluate(node, *operands)
    assert got.dtype == np.int64
    assert (got == naive_sums(node, operands)).all()


@given(case=sums(), policy=st.sampled_from(["wrap", "saturate"]))
def test_an_accumulator_that_holds_the_bound_changes_nothing(case: tuple[Node, list[np.ndarray]], policy: Any) -> None:
    node, operands = case
    assume(node.attrs["bound"] < 1 << 63)
    width = node.attrs["bound"].bit_length() + 1
    order = node.attrs["accumulator"].order
    wide = replace(node, attrs={**node.attrs, "accumulator": Accumulator(policy, width, width, order)})
    proven = replace(node, attrs={name: value for name, value in node.attrs.items() if name != "accumulator"})
    assert (OPS[node.op].evaluate(wide, *operands) == OPS[node.op].evaluate(proven, *operands)).all()


@given(case=sums(), bits=st.integers(8, 64))
def test_wrapping_is_the_exact_sum_modulo_the_stored_width(case: tuple[Node, list[np.ndarray]], bits: int) -> None:
    node, operands = case
    wrapping = Accumulator("wrap", 64, bits, node.attrs["accumulator"].order)
    attrs = {name: value for name, value in node.attrs.items() if name not in ("accumulator", "lift")}
    got = OPS[node.op].evaluate(replace(node, attrs={**attrs, "accumulator": wrapping}), *operands)
    exact = naive_sums(replace(node, attrs=attrs), operands)
    assert all((int(a) - int(b)) % 2**bits == 0 for a, b in zip(got.reshape(-1), exact.reshape(-1), strict=True))
    assert np.abs(got.astype(object)).max() <= 2 ** (bits - 1)


def one_sum(products: list[int], accumulator: Accumulator, bias: int = 0) -> int:
    """Return the sum of products, each a weight on an input of 1, in input channels 0, 1, 2, …"""
    attrs = {"bound": sum(map(abs, products)) + abs(bias), "accumulator": accumulator}
    node = Node("y", "linear", ("x", "w", "b"), TensorType((1,), FixedPoint(64, 0)), attrs)
    x, w = np.ones((1, len(products)), np.int64), np.array([[products]])
    return int(OPS["linear"].evaluate(node, x, w, np.array([[bias]]))[0, 0])


def test_what_saturates_depends_on_the_order_the_tree_and_the_memory() -> None:
    """30 000 + 10 000 − 20 000 leaves 16 bits on the way and ends inside them."""

    def made(products: list[int], order: Order = Order(), psum_bits: int = 16, bias: int = 0) -> int:  # noqa: B008
        return one_sum(products, Accumulator("saturate", 16, psum_bits, order), bias)

    up_down, down_up = [30_000, 10_000, -20_000], [30_000, -20_000, 10_000]
    assert made(up_down) == 32_767 - 20_000
    assert made(down_up) == 20_000
    assert made(up_down, Order(tree=(3, 1, 1))) == 20_000, "the tree adds exactly"
    assert made(up_down, Order(tree=(2, 1, 1))) == 32_767 - 20_000, "the first two leave the range together"
    assert made(up_down[1:], bias=30_000) == 32_767 - 20_000, "the bias is there first"
    assert made([300, -300, 5], psum_bits=8) == 5, "only what goes to memory is narrowed"
    assert made([300, -300, 5], Order(channels=1), psum_bits=8) == -128 + 5, "here every partial sum goes there"
    assert made([300, -300, 5], Order(fold=2), psum_bits=8) == 5
    assert made([300, 0, -300], Order(fold=2), psum_bits=8) == -128


# The order of the machine ---------------------------------------------------------------------------------------------

_WIDTHS = {"multiplier_bits": 16, "accumulator_bits": 24, "accumulator": "saturate"}


def systolic(dataflow: str) -> SystolicArray:
    return load_data(SystolicArray, {"kind": "systolic", "rows": 4, "cols": 2, "dataflow": dataflow, **_WIDTHS})


def listed(order: Order, channels: int, rows: int, columns: int) -> list[tuple[str, bool]]:
    """Return the groups as text, c r s per product, and whether the sum then goes to memory."""
    names = [f"{c}{r}{s}" for c in range(channels) for r in range(rows) for s in range(columns)]
    return [("+".join(names[i] for i in group), stored) for group, stored in order.groups(channels, rows, columns)]


def test_an_output_stationary_array_keeps_the_sum_until_the_reduction_tile_ends() -> None:
    assert listed(order_of(systolic("os"), 2), 3, 1, 2) == [
        ("000", False), ("001", False), ("100", False), ("101", True), ("200", False), ("201", True),
    ]  # fmt: skip


@pytest.mark.parametrize("dataflow", ["ws", "is"])
def test_a_stationary_operand_sends_the_sum_to_memory_after_each_fold_of_the_rows(dataflow: str) -> None:
    """Four rows: a tile of 3 channels and 2 taps has 6 products in folds of 4 and 2, the last channel's 2 are one."""
    stored = [False, False, False, True, False, True, False, True]
    names = ["000", "001", "100", "101", "200", "201", "300", "301"]
    assert listed(order_of(systolic(dataflow), 3), 4, 1, 2) == list(zip(names, stored, strict=True))


def test_an_unrolled_array_adds_a_tree_at_a_time() -> None:
    spatial = {"K": 4, "C": 2, "S": 2}
    array = load_data(UnrolledArray, {"kind": "unrolled", "spatial": spatial, "pipeline_cycles": 3, **_WIDTHS})
    assert listed(order_of(array, 3), 3, 1, 3) == [
        ("000+001+100+101", False), ("002+102", False), ("200+201", False), ("202", True),
    ]  # fmt: skip
    assert listed(order_of(array, 2), 3, 1, 1) == [("000+100", True), ("200", True)]


@given(arch=architectures(), graph=networks(layers=3, side=6, channels=4))
def test_a_sum_goes_to_memory_as_often_as_the_schedule_writes_it(arch: Architecture, graph: Graph) -> None:
    """The order's trips to memory against the bytes that the array's tiles write, counted apart."""
    array = arch.array.model_copy(update={"accumulator": "saturate", "accumulator_bits": 16})
    arch = arch.model_copy(update={"array": array})
    device = FixedDevice(Formats(Numerics(uniform="q12.6")), 16, policy="saturate", arrange=lambda g: arrange(g, arch))
    try:
        device.launch(kernels.gradient(graph, 0), {"input": np.ones((1, *graph.inputs["input"].shape))})
        schedule = map_kernel(device.program[0].graph, arch)
    except UserError:
        assume(False)
    tiles, compute = schedule.tiles, schedule.tiles.kind == 1
    psum = [memory.name for memory in arch.memories].index(arch.memory_for("psum").name)
    seen = 0
    for stage, nest in zip(schedule.stages, schedule.nests, strict=True):
        accumulator = stage.anchor.attrs.get("accumulator")
        if accumulator is None or (nest.rows.dilation, nest.columns.dilation) != (1, 1):
            continue
        seen += 1
        stored = sum(to_memory for _, to_memory in accumulator.order.groups(nest.C, nest.R, nest.S))
        written = tiles.write_bytes[(tiles.stage == stage.index) & compute, psum].sum()
        assert written == nest.K * nest.P * nest.Q * stored * 16 / 8
        groups = list(
            itertools.chain.from_iterable(group for group, _ in accumulator.order.groups(nest.C, nest.R, nest.S))
        )
        assert sorted(groups) == list(range(nest.C * nest.R * nest.S))
    assume(seen)


@given(
    graph=networks(layers=3, side=6, channels=4),
    arch=architectures(least=512),
    n=numerics(),
    widths=st.tuples(st.integers(16, 20), st.integers(8, 16)),
    policy=st.sampled_from(["wrap", "saturate"]),
)
def test_forward_and_backward_equal_the_naive_reference_with_every_policy(
    graph: Graph, arch: Architecture, n: Numerics, widths: tuple[int, int], policy: Any
) -> None:
    x = np.random.default_rng(7).normal(size=(2, *graph.inputs["input"].shape))
    kernel = kernels.gradient(graph, 1)
    made: dict[str, np.ndarray] = {}
    array = arch.array.model_copy(update={"accumulator_bits": widths[0], "psum_bits": widths[1], "accumulator": policy})
    arch = arch.model_copy(update={"array": array})
    device = FixedDevice(
        Formats(n, seen_ranges(kernel, {"input": x}).largest),
        widths[0],
        policy=policy,
        psum_bits=widths[1],
        arrange=lambda g: arrange(g, arch),
        observe=lambda name, value: made.update({name: value.copy()}),
    )
    try:
        device.launch(kernel, {"input": x})
    except UserError:
        assume(False)
    fixed = device.program[0].graph
    assume(any("accumulator" in node.attrs for node in fixed.nodes))
    assert_bits_equal(fixed, {"input": device.enter(x, fixed.inputs["input"].format)}, made)


# The whole run --------------------------------------------------------------------------------------------------------


def explained(tmp_path: Any, changes: dict[str, Any], **settings: Any) -> Report:
    path = tmp_path / "arch.yaml"
    path.write_text(architecture("pynq_z2", changes).model_dump_json(exclude_none=True))  # JSON is YAML
    experiment = {"model": "cifar_cnn", "method": "saliency", "numerics": "fixed8", "arch": str(path), **settings}
    return explain(load_data(Experiment, experiment))


def test_a_narrow_accumulator_is_refused_wraps_or_saturates_in_the_order_of_the_machine(tmp_path: Any) -> None:
    bits = {"array.accumulator_bits": 16}
    with pytest.raises(UserError, match="the accumulator of 16 bits cannot hold a sum of up to 2"):
        explained(tmp_path, bits)
    wrapped = explained(tmp_path, {**bits, "array.accumulator": "wrap"})
    by_tree, one_by_one = (
        explained(tmp_path, {**bits, "array.accumulator": "saturate", "array.spatial": spatial})
        for spatial in ({"K": 16, "C": 8}, {"K": 16, "P": 8})
    )
    maps = [report.attribution for report in (wrapped, by_tree, one_by_one)]
    assert all((a != b).any() for a, b in itertools.combinations(maps, 2))
    for report, policy in ((wrapped, "wrap"), (by_tree, "saturate"), (one_by_one, "saturate")):
        assert report.accumulators is not None
        assert (report.accumulators.policy, report.accumulators.bits) == (policy, 16)
        assert report.accumulators.overflowed > 0


def test_the_report_counts_fewer_overflows_the_wider_the_accumulator_and_none_once_it_is_proven(tmp_path: Any) -> None:
    counts = []
    for bits in (16, 17, 18, 40):
        report = explained(tmp_path, {"array.accumulator_bits": bits, "array.accumulator": "saturate"})
        assert report.accumulators is not None
        assert report.accumulators.sums > 100_000
        counts.append(report.accumulators.overflowed)
    assert counts[0] > 0
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 0
    proven = explained(tmp_path, {"array.accumulator_bits": 40})
    assert proven.accumulators is None
    assert (report.attribution == proven.attribution).all()
    assert report.cycles.total >= proven.cycles.total  # saturating sums keep the simplest mapping, and their bits


def test_a_trained_resnet_is_explained_with_saturating_accumulators(tmp_path: Any) -> None:
    changes = {"array.accumulator_bits": 24, "array.accumulator": "saturate"}
    report = explained(tmp_path, changes, model="resnet18_tiny")
    assert report.accumulators is not None
    assert report.accumulators.overflowed < report.accumulators.sums / 1000
    assert report.fidelity is not None
    narrow = explained(tmp_path, {**changes, "array.accumulator_bits": 16}, model="resnet18_tiny")
    assert narrow.accumulators is not None
    assert narrow.accumulators.overflowed > report.accumulators.overflowed
    count = f"{narrow.accumulators.overflowed:,}"
    assert f"accumulators 16 bits, saturate; {count} of " in report_text(narrow)
    assert f">{count}<" in page_html(narrow)
    assert Report.model_validate_json(narrow.to_json()).accumulators == narrow.accumulators
    assert narrow.fidelity is not None
    assert narrow.fidelity.sqnr_db < report.fidelity.sqnr_db


@pytest.mark.parametrize("policy", ["wrap", "saturate"])
def test_a_profile_equals_an_explanation_in_cycles_and_joules_with_every_policy(policy: str, tmp_path: Any) -> None:
    changes = {"array.accumulator_bits": 18, "array.psum_bits": 16, "array.accumulator": policy}
    full = explained(tmp_path, changes)
    dry = profile(full_experiment(tmp_path))
    assert dry.cycles == full.cycles
    assert dry.energy_uj.total == full.energy_uj.total
    assert dry.traffic_bytes == full.traffic_bytes


def full_experiment(tmp_path: Any) -> Experiment:
    data = {"model": "cifar_cnn", "method": "saliency", "numerics": "fixed8", "arch": str(tmp_path / "arch.yaml")}
    return load_data(Experiment, data)


def test_narrower_stored_sums_take_less_memory_and_energy(tmp_path: Any) -> None:
    wide, narrow = (explained(tmp_path, {"array.psum_bits": bits}) for bits in (48, 32))
    assert narrow.traffic_bytes["partial_sums"].write < wide.traffic_bytes["partial_sums"].write
    assert narrow.energy_uj.total < wide.energy_uj.total
    assert (narrow.attribution == wide.attribution).all(), "proven at either width"
    with pytest.raises(UserError) as error:
        explained(tmp_path, {"array.psum_bits": 16})
    assert "the partial-sum memory of 16 bits cannot hold a sum of up to 2^" in str(error.value)
    assert "(narrower formats or a wider psum_bits would do)" in str(error.value)


def test_the_dry_device_records_the_operators_of_saturating_sums() -> None:
    model = load_model("cifar_cnn")
    x = np.zeros((1, *model.input_shape))
    programs = []
    for kind in (DryDevice, FixedDevice):
        device = kind(Formats(Numerics(uniform="q8.4")), 16, policy="saturate")
        METHODS["saliency"].run(device, model.graph, x, 3)
        programs.append([(n.name, n.op, n.type.shape) for n in device.program[0].graph.nodes])
    assert programs[0] == programs[1]


WRONG = {
    (
        "accumulator",
        "saturated",
    ): "array.accumulator: must be one of proven, wrap, saturate (got 'saturated'); did you mean 'saturate'?",
    ("accumulator_bits", 12): "array.accumulator_bits: must be greater than or equal to 16 (got 12)",
    ("accumulator_bits", 65): "array.accumulator_bits: must be less than or equal to 64 (got 65)",
    ("psum_bits", 56): "array.psum_bits: a stored sum may not be wider than accumulator_bits 48 (got 56)",
    ("psum_bits", 4): "array.psum_bits: must be greater than or equal to 8 (got 4)",
}


@pytest.mark.parametrize(("change", "message"), WRONG.items(), ids=[f"{k}-{v}" for k, v in WRONG])
@pytest.mark.parametrize("preset", ["pynq_z2", "edge_systolic_16_ws"])
def test_a_wrong_accumulator_is_told_in_one_line(preset: str, change: tuple[str, Any], message: str) -> None:
    data: Any = YAML(typ="safe").load(find_named("arch_configs", preset).read_text())
    data["array"][change[0]] = change[1]
    with pytest.raises(UserError) as error:
        load_data(Architecture, data, "arch")
    assert str(error.value).splitlines() == [f"arch: {message}"]
