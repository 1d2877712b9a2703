"""Does the diff find the tensor that parts two runs, and are its figures those of the two runs?"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import plotly.graph_objects
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from xaisim.api import diff, experiment_of
from xaisim.attribution.methods import METHODS
from xaisim.cli import main
from xaisim.compare import Runs, load_runs
from xaisim.ir.graph import Array, Graph, evaluate
from xaisim.ir.ops import OPS
from xaisim.numerics import twin
from xaisim.numerics.devices import FixedDevice
from xaisim.numerics.mixed import MixedDevice
from xaisim.numerics.twin import Kind, TwinDevice, TwinTensor
from xaisim.report.diff import Diff, DiffRow, first_difference, rows_of
from xaisim.report.diff_figure import axes_of, diff_figure, diff_info, draw_diff
from xaisim.report.diff_page import DIFF_FILES
from xaisim.report.diff_text import lines_of

BASE = "q16.11"  # one format: nothing to calibrate
CNN = {"model": "cifar_cnn", "method": "saliency"}
ATTRIBUTIONS = [name for name in METHODS if name != "forward"]


DECIDE_BY_VALUES = ("idg", "idgi")
"""Methods whose host weighs what it read back: of two runs side by side the second takes the first one's weights."""


def settings(method: str) -> dict[str, object]:
    return {"model": "cifar_cnn", "method": method, **METHODS[method].few(3)}


@cache
def against_float(method: str) -> Diff:
    return diff("float", BASE, **settings(method))


def runs(method: str = "saliency", a: str = "float", b: str = BASE) -> Runs:
    return load_runs(experiment_of(**settings(method)), a, b)


def row(found: Diff, name: str) -> DiffRow:
    return next(r for r in found.rows if r.name == name)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


# ---------------------------------------------------------------------------------------------------------------------
# The first difference


@pytest.mark.parametrize("mode", ["trn", "trn_zero"])
@pytest.mark.parametrize("tensor", ["relu1", "relu3", "logits", "d_flatten", "d_conv3", "d_conv1", "d_input"])
def test_a_changed_rounding_mode_is_found_at_its_tensor(tensor: str, mode: str) -> None:
    found = diff(BASE, f"{BASE}:overrides.{tensor}={mode}", **CNN)
    assert found.first is not None
    assert (found.first.name, found.first.kernel) == (tensor, "gradient of class 0")
    names = [r.name for r in found.rows]
    before = found.rows[: names.index(tensor)]
    assert before
    assert not any(r.differing for r in before)
    changed = row(found, tensor)
    assert changed.enters_by == "arithmetic"
    assert changed.largest_error_lsb == 1  # two modes round to neighbours
    assert found.first.a != found.first.b
    assert abs(found.first.a - found.first.b) == changed.largest_error == 2.0**-11


@pytest.mark.parametrize("tensor", ["layer1.0.relu1", "layer3.0.conv2", "d_layer4.0.add", "d_layer2.0.conv1"])
def test_a_changed_rounding_mode_is_found_in_a_residual_network(tensor: str) -> None:
    found = diff("q16.10", f"q16.10:overrides.{tensor}=trn", model="resnet18_tiny", method="saliency")
    assert found.first is not None
    assert found.first.name == tensor


def test_a_changed_mode_on_a_path_is_found_with_its_trip() -> None:
    found = diff(BASE, f"{BASE}:overrides.d_conv1=trn", **settings("integrated_gradients"))
    assert found.first is not None
    assert (found.first.name, found.first.kernel, found.first.trip) == ("d_conv1", "path gradient of class 0", 0)
    assert row(found, "d_conv1").elements == 3 * 32 * 32 * 32


def test_other_weights_are_found_before_the_layer_that_reads_them() -> None:
    found = diff(BASE, f"{BASE}:overrides.conv3.w=q8.6", **CNN)
    assert found.first is not None
    assert found.first.name == "conv3.w"
    assert row(found, "conv3.w").kind is Kind.CONSTANT
    assert row(found, "relu3").enters_by == "constants"


def test_a_sum_that_kernels_get_wrong_is_found_before_it_is_rounded() -> None:
    class Wrong(FixedDevice):
        def run(self, name, graph, arrays, trips):  # type: ignore[no-untyped-def]
            def shifted(node):  # type: ignore[no-untyped-def]
                return (
                    replace(node, attrs={**node.attrs, "padding": (0, 1, 2, 1)}) if node.name == "conv3.exact" else node
                )

            wrong = Graph(graph.inputs, graph.constants, tuple(map(shifted, graph.nodes)), graph.outputs)
            return super().run(name, wrong, arrays, trips)

    prepared = runs(a=f"{BASE}:naive")
    right = prepared.device("a")
    assert isinstance(right, FixedDevice)
    device = TwinDevice(right, Wrong(right.formats, right.accumulator_bits, naive=True))
    prepared.run(device, 0)
    first = first_difference(device.tallies)
    assert first is not None
    assert first.name == "conv3.exact"
    rows = {r.name: r for r in rows_of(device.tallies, "b")}
    assert rows["conv3.exact"].enters_by == "arithmetic"
    assert rows["relu3"].enters_by is None


@pytest.mark.parametrize("spec", ["float", BASE, "fixed16:rounding=trn", "fixed8:calibration=min_error"])
def test_a_run_does_not_differ_from_itself(spec: str) -> None:
    found = diff(spec, spec, **CNN)
    assert found.equal
    assert found.first is None
    assert len(found.rows) > 30
    assert all(r.differing == 0 and r.elements > 0 and r.enters_by is None for r in found.rows)
    assert found.result.sqnr_db == math.inf


@pytest.mark.parametrize(
    ("numerics", "method"), [(BASE, "saliency"), ("fixed16", "gradcam"), (BASE, "integrated_gradients")]
)
def test_fast_kernels_do_not_differ_from_the_definitions(numerics: str, method: str) -> None:
    found = diff(f"{numerics}:naive", numerics, **settings(method))
    assert found.equal
    assert sum(r.kind in (Kind.VALUE, Kind.MASK, Kind.INDEX) for r in found.rows) > 12


def test_a_fast_kernel_that_is_wrong_is_found_at_its_tensor() -> None:
    class Wrong(FixedDevice):
        def compile(self, graph, feeds):  # type: ignore[no-untyped-def]
            fixed = super().compile(graph, feeds)
            nodes = tuple(
                replace(n, attrs={**n.attrs, "padding": (0, 1, 2, 1)}) if n.name == "conv3.exact" else n
                for n in fixed.nodes
            )
            return Graph(fixed.inputs, fixed.constants, nodes, fixed.outputs)

    prepared = runs(a=f"{BASE}:naive")
    right = prepared.device("a")
    assert isinstance(right, FixedDevice)
    device = TwinDevice(right, Wrong(right.formats, right.accumulator_bits))
    prepared.run(device, 0)
    first = first_difference(device.tallies)
    assert first is not None
    assert first.name == "relu3"


def test_flips_let_a_difference_in_where_gradients_were_equal() -> None:
    found = diff("fixed16", "fixed16:overrides.relu3=trn", **CNN)
    assert row(found, "d_flatten").differing == 0
    assert row(found, "pool2.pool_index").differing > 0
    assert row(found, "d_conv4").enters_by == "flips"


# ---------------------------------------------------------------------------------------------------------------------
# The figures


@pytest.mark.parametrize("method", METHODS)
def test_both_runs_are_those_of_the_devices_alone(method: str) -> None:
    prepared = runs(method)
    device = TwinDevice(prepared.device("a"), prepared.device("b"))
    result = prepared.run(device, 0)
    assert isinstance(result, TwinTensor)
    np.testing.assert_array_equal(result.values, prepared.run(prepared.device("a"), 0).values)
    if not METHODS[method].stops and method not in DECIDE_BY_VALUES:  # else the second one alone decides by its own
        np.testing.assert_array_equal(result.twin.values, prepared.run(prepared.device("b"), 0).values)


def observed(prepared: Runs, side: str) -> dict[str, Array]:
    """Every tensor of a run by itself, batches joined, as the device's numbers."""
    seen: dict[str, list[Array]] = {}
    device = prepared.device(side)  # type: ignore[arg-type]
    device.observe = lambda name, values: seen.setdefault(name, []).append(np.array(values))
    prepared.run(device, 0)
    return {name: np.concatenate(parts) for name, parts in seen.items()}


def test_figures_are_those_of_the_definitions() -> None:
    prepared = runs()
    real, fixed = observed(prepared, "a"), observed(prepared, "b")
    found = against_float("saliency")
    for name in ("relu2", "pool1", "logits", "d_conv2", "d_input"):
        a, b = real[name], fixed[name] / 2**11
        r = row(found, name)
        assert r.elements == a.size
        assert r.differing == (a != b).sum() > 0
        assert r.sqnr_db == pytest.approx(10 * np.log10((a**2).sum() / ((a - b) ** 2).sum()), rel=1e-12)
        assert r.largest_error_lsb == pytest.approx(np.abs(a - b).max() * 2**11, rel=1e-12)
        assert r.zero_fraction == ((a == 0).mean(), (b == 0).mean())
    for name in ("relu2.positive", "pool1.pool_index"):
        assert row(found, name).differing == (real[name] != fixed[name]).sum()
    assert row(found, "pool1.pool_index").differing > 0


def test_weights_with_a_scale_per_channel_are_compared_as_real_numbers() -> None:
    plain, scaled = (row(diff("float", f"fixed8{text}", **CNN), "conv1.w") for text in ("", ":per_channel=true"))
    assert plain.sqnr_db is not None
    assert scaled.sqnr_db is not None
    assert 30 < plain.sqnr_db < scaled.sqnr_db < 70


def test_saturated_values_are_counted() -> None:
    found = diff("fixed16", "fixed16:overrides.relu2=u16.15", **CNN)
    fixed = observed(runs(b="fixed16:overrides.relu2=u16.15"), "b")
    r = row(found, "relu2")
    assert r.saturated_fraction == (0, (fixed["relu2"] == 65535).mean())
    assert r.saturated_fraction[1] > 0


def test_trips_add_up_however_they_are_batched(monkeypatch: pytest.MonkeyPatch) -> None:
    together = against_float("integrated_gradients")
    monkeypatch.setattr(twin, "_BUDGET_BYTES", 1)
    alone = diff("float", BASE, **settings("integrated_gradients"))
    assert len(alone.rows) == len(together.rows) > 60
    for one, other in zip(alone.rows, together.rows, strict=True):
        assert (one.sqnr_db is None) == (other.sqnr_db is None)
        assert one.sqnr_db is None or one.sqnr_db == pytest.approx(other.sqnr_db, rel=1e-6)
        if one.kernel == "path result":  # the float sum over trips depends on their grouping
            continue
        exact = ("kernel", "name", "elements", "differing", "largest_error", "zero_fraction", "saturated_fraction")
        assert [getattr(one, key) for key in exact] == [getattr(other, key) for key in exact]
    assert alone.first == together.first
    assert row(alone, "path.difference").elements == 3 * 32 * 32  # the same in every trip: counted once


def test_growth_is_the_fall_from_the_worst_source() -> None:
    found = against_float("saliency")
    r, source = row(found, "relu2"), row(found, "relu1")
    assert r.sqnr_db is not None
    assert source.sqnr_db is not None
    assert r.growth_db == source.sqnr_db - r.sqnr_db


# ---------------------------------------------------------------------------------------------------------------------
# The two halves


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("side", ["a", "b"])
def test_two_equal_halves_are_the_whole(method: str, side: str) -> None:
    prepared = runs(method)
    whole = prepared.run(prepared.device(side), 1)  # type: ignore[arg-type]
    halves = prepared.run(
        MixedDevice(prepared.device(side), prepared.device(side), prepared.p.model.graph),  # type: ignore[arg-type]
        1,
    )
    np.testing.assert_array_equal(halves.values, whole.values)


def backward_with(graph: Graph, x: Array, stored: dict[str, Array]) -> Array:
    """Evaluate ``graph`` with the masks and indices of another run instead of its own."""
    values = {"input": x} | {name: c.value[None] for name, c in graph.constants.items()}
    for node in graph.nodes:
        own = node.op in ("positive", "pool_index")
        values[node.name] = stored[node.name] if own else OPS[node.op].evaluate(node, *(values[a] for a in node.args))
    return values[graph.outputs[-1]]


@pytest.mark.parametrize("method", ["saliency", "guided_backprop", "deconvnet"])
@pytest.mark.parametrize(("front", "back"), [("a", "b"), ("b", "a")])
def test_a_gradient_takes_masks_and_indices_from_the_other_half(method: str, front: str, back: str) -> None:
    prepared = runs(method)
    mixed = MixedDevice(prepared.device(front), prepared.device(back), prepared.p.model.graph)  # type: ignore[arg-type]
    found = prepared.run(mixed, 1)
    other = prepared.device(back)  # type: ignore[arg-type]
    prepared.run(other, 1)
    graph = other.program[0].graph
    x = other.enter(prepared.p.sample.x, graph.inputs["input"].format)
    np.testing.assert_array_equal(found.values, backward_with(graph, x, observed(prepared, front)))


@pytest.mark.parametrize("method", ATTRIBUTIONS)
def test_the_split_is_told_for_every_method(method: str) -> None:
    found = against_float(method)
    assert found.split is not None
    assert (found.split.reference, found.split.of) == ("a", "b")
    assert found.split.both == found.result
    assert found.split.forward != found.split.both
    assert math.isfinite(found.split.forward.sqnr_db)
    assert math.isfinite(found.split.backward.sqnr_db)


def test_the_split_refers_to_float_wherever_it_stands() -> None:
    turned, straight = diff(BASE, "float", **CNN), against_float("saliency")
    assert turned.split is not None
    assert straight.split is not None
    assert (turned.split.reference, turned.split.of) == ("b", "a")
    assert turned.split.forward == straight.split.forward
    assert turned.split.backward == straight.split.backward
    assert turned.lsb_of == "a"


def test_completeness_adds_up_exactly() -> None:
    found = against_float("integrated_gradients")
    c = found.completeness
    assert c is not None
    assert c.delta == c.delta_integration + c.delta_quantisation
    assert c.delta_quantisation == c.delta_interaction + (c.delta_forward + c.delta_backward)
    prepared = runs("integrated_gradients")
    graph, options = prepared.p.model.graph, prepared.p.options
    target = found.target
    scores = [evaluate(graph, {"input": x})["logits"][0, target] for x in (prepared.p.sample.x, options["baseline"])]
    fixed = prepared.run(prepared.device("b"), target).real().sum()
    real = prepared.run(prepared.device("a"), target).real().sum()
    assert c.delta == pytest.approx(fixed - (scores[0] - scores[1]), rel=1e-12, abs=1e-12)
    assert c.delta_integration == real - (scores[0] - scores[1])
    assert c.delta_forward != 0
    assert c.delta_backward != 0


def test_completeness_and_split_are_left_out_where_they_mean_nothing() -> None:
    assert against_float("saliency").completeness is None
    assert diff(BASE, BASE, **CNN).split is None
    assert diff(BASE, "q16.10", split=True, **CNN).split is not None
    assert diff("float", BASE, **settings("forward")).split is None


# ---------------------------------------------------------------------------------------------------------------------
# Picture


def test_the_picture_shows_the_layers_in_forward_order() -> None:
    found = against_float("saliency")
    info = diff_info(found)
    assert info.layers == ("conv1", "conv2", "pool1", "conv3", "conv4", "pool2", "fc1", "fc2")
    at = info.layers.index("conv3")
    assert info.sqnr_db[:, at].tolist() == [row(found, "relu3").sqnr_db, min(
        r.sqnr_db for r in found.rows if r.layer == "conv3" and r.backward and r.kind is Kind.VALUE and r.sqnr_db
    )]  # fmt: skip
    flips = row(found, "pool2.pool_index")
    assert info.flips_percent[1, info.layers.index("pool2")] == 100 * flips.differing / flips.elements
    assert np.isnan(info.flips_percent[1, at])
    for axis, values in zip(axes_of(info), (info.sqnr_db, info.error_lsb, info.flips_percent), strict=True):
        known = values[np.isfinite(values)]
        assert axis.low <= known.min()
        assert known.max() <= axis.high
        assert len(axis.ticks) >= 2


def test_the_picture_of_equal_runs_is_empty_and_can_be_drawn(tmp_path: Path) -> None:
    info = diff_info(diff(BASE, BASE, **CNN))
    assert np.isnan(info.sqnr_db).all()
    draw_diff(info, tmp_path / "diff.png")
    with Image.open(tmp_path / "diff.png") as picture:
        assert picture.width > 900
    drawn = plotly.graph_objects.Figure(diff_figure(diff_info(against_float("saliency"))))  # checks every key
    assert len(drawn.data) == 6


def test_every_mask_has_a_line() -> None:
    for method in ATTRIBUTIONS:
        found = against_float(method)
        lines = lines_of(found)
        masks = sum(r.elements for r in found.rows if r.kind is Kind.MASK)
        indices = sum(r.elements for r in found.rows if r.kind is Kind.INDEX)
        assert (sum(line.masks.elements for line in lines), sum(line.indices.elements for line in lines)) == (
            masks,
            indices,
        )


# ---------------------------------------------------------------------------------------------------------------------
# Command line

COMMAND = ("diff", "--model", "cifar_cnn", "--method", "saliency")


def test_exit_codes_are_those_of_diff() -> None:
    assert run(*COMMAND, BASE, BASE).exit_code == 0
    assert run(*COMMAND, BASE, f"{BASE}:overrides.relu3=trn").exit_code == 1
    assert run(*COMMAND, BASE, f"{BASE}:overrides.relu9=trn").exit_code == 2


def test_the_table_names_the_first_difference() -> None:
    result = run(*COMMAND, BASE, f"{BASE}:overrides.d_conv3=trn")
    assert "first         d_conv3[" in result.stdout
    marked = [line for line in result.stdout.splitlines() if line.rstrip().endswith("first difference")]
    assert [line.split()[0] for line in marked] == ["d_conv3"]
    assert "…" not in result.stdout  # nothing is cut off


def test_fewer_rows_keep_the_remarkable_ones() -> None:
    result = run(*COMMAND, "--rows", "3", BASE, f"{BASE}:overrides.d_conv3=trn")
    assert "first difference" in result.stdout
    assert "more (--rows)" in result.stdout


def test_json_is_the_diff(tmp_path: Path) -> None:
    result = run(*COMMAND, "--json", "-o", tmp_path / "out", "float", BASE)
    assert result.exit_code == 1
    told = Diff.model_validate_json(result.stdout)
    assert told == against_float("saliency")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(DIFF_FILES)
    assert json.loads((tmp_path / "out" / "diff.json").read_text()) == json.loads(result.stdout)
    page = (tmp_path / "out" / "diff.html").read_text()
    assert f"{BASE} against float" in page
    assert 'id="layers"' in page


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("flaot", BASE), "unknown run 'flaot'; choices: float, fixed16, fixed8, a format like q16.8, or a .yaml file"),
        ((BASE, "fixed16:rounding=up"), "numerics 'fixed16:rounding=up': rounding: must be one of trn,"),
        (("float:naive", BASE), "run 'float:naive': float64 has no fast kernels"),
        ((BASE, "q17.8"), "q17.8: pynq_z2 has 16-bit multipliers; too wide:"),
        ((BASE, f"{BASE}:overrides.relu9=trn"), f"{BASE}:overrides.relu9=trn: numerics.overrides: no tensor 'relu9'"),
        ((BASE,), "missing argument 'B' (see 'xaisim diff --help')"),
        ((BASE, BASE, "--image", "scene:x"), f"{BASE}: image 'scene:x': a shipped scene is written scene:N"),
    ],
)
def test_a_wrong_run_is_told_in_one_line(arguments: tuple[str, ...], told: str) -> None:
    result = run(*COMMAND, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith(f"error: {told}")


def test_an_existing_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    result = run(*COMMAND, BASE, BASE, "-o", tmp_path)
    assert result.exit_code == 2
    assert "is not empty" in result.stderr
