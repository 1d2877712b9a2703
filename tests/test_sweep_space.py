"""Is a space file checked in full, and is every mistake told with its place, rule, value and choices?"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sweeps import SMALL, space_file, space_of

from xaisim.changes import changed, joined, parted
from xaisim.config import RuleError, UserError, data_root, shipped_names
from xaisim.hardware.architecture import load_architecture
from xaisim.sweep.axes import values_of
from xaisim.sweep.rules import parse_constraint
from xaisim.sweep.space import load_space
from xaisim.sweep.store import Store

BASE = "base: {model: cifar_cnn, method: saliency, arch: edge_systolic_16}\n"
GOAL = "objectives: {latency_ms: min}\n"

WRONG = [
    (BASE + "space: {arch.array.rws: [8, 16]}\n" + GOAL,
     "2:26: space.arch.array.rws[0]: array.rws: unknown key; did you mean 'rows'? choices: multiplier_bits, "
     "accumulator_bits, accumulator, psum_bits, count, divide, kind, rows, cols, dataflow, folds, drain"),
    (BASE + "space: {arch.memories.weigts.size: [32KiB]}\n" + GOAL,
     "2:37: space.arch.memories.weigts.size[0]: memories.weigts.size: memories has no 'weigts'; did you mean "
     "'weights'? choices: dram, activations, weights, partial_sums, masks"),
    (BASE + "space: {arch.memories.weights.size: [32KiB, 33]}\n" + GOAL,
     "2:45: space.arch.memories.weights.size[1]: memories[2].size: missing unit; write e.g. 128KiB (got 33)"),
    (BASE + "space: {numerics.weights: [4, 99]}\n" + GOAL,
     "2:31: space.numerics.weights[1]: weights: must be less than or equal to 32 (got 99)"),
    (BASE + "space: {method.nsteps: [4]}\n" + GOAL,
     "2:24: space.method.nsteps: unknown option of a method; did you mean 'n_steps'? choices: at_once,"),
    (BASE + "space: {arhc: [pynq_z2]}\n" + GOAL,
     "2:15: space.arhc: unknown key; did you mean 'arch'? choices: model, weights, method, arch, numerics,"),
    (BASE + "space: {arch: [pynq]}\n" + GOAL,
     "2:16: space.arch[0]: unknown architecture 'pynq'; did you mean 'pynq_z2'?"),
    (BASE + "space: {arch.array.cols: {lg: [8, 16]}}\n" + GOAL,
     "2:26: space.arch.array.cols: must have one key; did you mean 'log'? choices: range, log"),
    (BASE + "space: {arch.array.cols: {log: [0, 16]}}\n" + GOAL,
     "2:32: space.arch.array.cols.log: must rise from a number above 0 (got 0 to 16)"),
    (BASE + "space: {arch.array.cols: [8, 8]}\n" + GOAL, "2:30: space.arch.array.cols[1]: 8 is listed twice"),
    (BASE + "space: {arch.array.cols: [8]}\nobjectives: {latenc_ms: min}\n",
     "3:25: objectives.latenc_ms: unknown output 'latenc_ms'; did you mean 'latency_ms'? choices: cycles,"),
    (BASE + "space: {arch.array.cols: [8]}\nobjectives: {latency_ms: mn}\n",
     "3:26: objectives.latency_ms: must be one of min, max (got 'mn'); did you mean 'min'?"),
    (BASE + "space: {arch.array.cols: [8]}\n" + GOAL + "constraints: [area < 5]\n",
     "4:15: constraints[0]: unknown output 'area'; did you mean 'area_mm2'? choices: cycles, array_cycles,"),
    (BASE + "space: {arch.array.cols: [8]}\n" + GOAL + "constraints: [latency_ms 5]\n",
     "4:15: constraints[0]: must be written like latency_ms < 20 or fits: ultra96_v2 (got 'latency_ms 5')"),
    (BASE + "space: {arch.array.cols: [8]}\n" + GOAL + "constraints: [{fits: ultra96}]\n",
     "4:15: constraints[0]: unknown board 'ultra96'; did you mean 'ultra96_v2'? choices: pynq_z2, ultra96_v2, zcu104"),
    (BASE + "space: {arch.array.cols: [8]}\n" + GOAL + "sampler: tpee\n",
     "4:10: sampler: must be one of grid, random, sobol, nsga2, nsga3, tpe; did you mean 'tpe'? (got 'tpee')"),
    (BASE + "space: {arch.array.cols: [8]}\n" + GOAL + "images: [8, 2]\n",
     "4:9: images: must be a number of pictures, or [a few, all] with fewer first (got [8, 2])"),
    (BASE + "space: {arch.array.cols: [8]}\n" + GOAL + "workloads: [{method: gradcam}, {name: a, weight: 0}]\n",
     "4:13: workloads[0]: needs a name of its own, without a dot"),
    (BASE + "space: {weights: [none.safetensors]}\n" + GOAL,
     "2:19: space.weights[0]: none.safetensors: no such weights file"),
    (BASE + "space: {target: [3, 10]}\n" + GOAL,
     "2:21: space.target[1]: target 10 does not exist: cifar_cnn has classes 0 to 9"),
    (BASE + "space: {method.n_intervals: [4]}\n" + GOAL,
     "2:29: space.method.n_intervals: no method of this space takes it (saliency)"),
    (BASE + "space: {mapping.kernels.gradint.points_in_flight: [1]}\n" + GOAL,
     "2:52: space.mapping.kernels.gradint.points_in_flight[0]: free:kernels.gradint.points_in_flight=1: "
     "kernels.gradint: the program launches no such kernel; did you mean 'gradient'?"),
    ("base: {model: cifar_cnn, target: 12}\nspace: {arch.array.cols: [8]}\n" + GOAL,
     "1:7: base: target 12 does not exist: cifar_cnn has classes 0 to 9"),
    ("base: {model: cifar}\nspace: {arch.array.cols: [8]}\n" + GOAL,
     "1:7: base: unknown model 'cifar'; did you mean 'cifar_cnn'?"),
    (BASE + "space: {arch.array.cols: [8]}\n" + GOAL + "point: 7\n", "4:1: point: unknown key; did you mean 'points'?"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line"), WRONG)
def test_a_mistake_is_told_with_its_place(text: str, line: str, tmp_path: Path) -> None:
    path = space_file(tmp_path, text)
    with pytest.raises(UserError) as told:
        load_space(path)
    assert str(told.value).startswith(f"{path}:{line}")


def test_one_mistake_is_told_once_and_where_it_is(tmp_path: Path) -> None:
    keys = "weights: [a.pth, random], target: [1, 99], arch.array.rows: [8, 16]"
    with pytest.raises(UserError) as told:
        space_of(tmp_path, BASE + f"space: {{{keys}}}\n" + GOAL)
    lines = [line.partition("space.yaml:")[2] for line in str(told.value).splitlines()]
    assert lines == [
        "2:19: space.weights[0]: a.pth: no such weights file",
        "2:47: space.target[1]: target 99 does not exist: cifar_cnn has classes 0 to 9",
    ]
    with pytest.raises(UserError) as told:
        space_of(tmp_path, BASE + "space: {target: {range: [990, 1050, 1]}}\n" + GOAL)
    assert len(str(told.value).splitlines()) == 1


def test_a_value_that_goes_with_another_key_only_is_no_mistake(tmp_path: Path) -> None:
    text = BASE + "space: {arch.array.dataflow: [os, ws], arch.array.folds: [serialised, pipelined]}\n" + GOAL
    space = space_of(tmp_path, text)
    choice = {"arch.array.dataflow": "os", "arch.array.folds": "pipelined"}
    assert space.point(choice).parts[0].experiment.arch == "edge_systolic_16:array.dataflow=os,array.folds=pipelined"


@pytest.mark.parametrize(
    ("written", "values"),
    [
        ([8, 16], (8, 16)),
        ({"range": [4, 16, 4]}, (4, 8, 12, 16)),
        ({"range": [0.1, 0.5, 0.2]}, (0.1, 0.3, 0.5)),
        ({"log": [8, 256]}, (8, 16, 32, 64, 128, 256)),
        ({"log": [8, 250]}, (8, 16, 32, 64, 128)),
        ({"log": [1, 100, 3]}, (1, 10, 100)),
        ({"log": [0.01, 1.0, 3]}, (0.01, 0.1, 1)),
        (["32KiB", "64KiB"], ("32KiB", "64KiB")),
        ([{"K": 8, "C": 8}], ({"K": 8, "C": 8},)),
    ],
)
def test_axes_stand_for_values(written: object, values: tuple[object, ...]) -> None:
    assert values_of(written) == values


@pytest.mark.parametrize(
    "written", [[], 7, {"range": [1, 2]}, {"range": [2, 1, 1]}, {"log": [1, 9, 1]}, {"log": ["a", 2]}]
)
def test_an_axis_that_is_none_is_refused(written: object) -> None:
    with pytest.raises(RuleError):
        values_of(written)


plain = st.one_of(
    st.integers(-(10**9), 10**9), st.booleans(), st.none(), st.text("ab,:=\"{}[] 1.", min_size=1), st.floats(-1e9, 1e9),
    st.dictionaries(st.text("KC", min_size=1), st.integers(1, 9), min_size=1), st.lists(st.integers(0, 9), min_size=1),
)  # fmt: skip


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}(\.[a-z0-9_]{1,8}){0,2}", fullmatch=True), plain, max_size=4))
def test_a_name_and_its_changes_are_read_as_written(changes: dict[str, object]) -> None:
    assert parted(joined("edge_systolic_16", changes), "architecture") == ("edge_systolic_16", changes)


def test_changes_go_where_their_keys_lead() -> None:
    data = {"memories": [{"name": "a", "size": 1}, {"name": "b", "size": 2}], "array": {"rows": 4}, "board": None}
    assert changed(data, {"memories.b.size": 3, "memories.0.size": 9, "array.rows": 8, "board.x": 1}) == {
        "memories": [{"name": "a", "size": 9}, {"name": "b", "size": 3}], "array": {"rows": 8}, "board": {"x": 1},
    }  # fmt: skip
    assert data["array"] == {"rows": 4}
    with pytest.raises(UserError, match=r"array\.rows\.x: array\.rows has no keys"):
        changed(data, {"array.rows.x": 1})


def test_an_architecture_with_changes_is_the_file_with_changes() -> None:
    base, arch = load_architecture("edge_systolic_16"), load_architecture("edge_systolic_16:array.rows=8,clock_mhz=250")
    assert arch == base.model_copy(update={"clock_mhz": 250.0, "array": base.array.model_copy(update={"rows": 8})})


@pytest.mark.parametrize(
    ("text", "outputs", "holds"),
    [
        ("latency_ms < 20", {"latency_ms": 19.9}, True),
        ("latency_ms < 20", {"latency_ms": 20.0}, False),
        ("latency_ms < 20", {}, None),
        ("latency_ms < 20", {"bound.latency_ms": 19.0}, None),
        ("latency_ms < 20", {"bound.latency_ms": 21.0}, False),
        ("latency_ms > 20", {"bound.latency_ms": 1.0}, None),
        ("explanations_per_s > 100", {"bound.latency_ms": 11.0}, False),
        ("explanations_per_s > 100", {"bound.latency_ms": 9.0}, None),
        ("area_mm2 <= 1", {"area_mm2": None}, False),
        ("fits: zcu104", {"fits.zcu104": 1}, True),
        ("fits: zcu104", {"fits.zcu104": 0}, False),
    ],
)
def test_a_constraint_fails_as_soon_as_that_is_known(text: str, outputs: dict[str, object], holds: bool | None) -> None:
    assert parse_constraint(text).holds(outputs) is holds


@pytest.mark.parametrize("name", shipped_names("dse"))
def test_ready_spaces_are_right_and_so_are_their_questions(name: str, tmp_path: Path) -> None:
    space = load_space(name)
    assert space.point({key: values[-1] for key, values in space.axes.items()}).command
    with Store.create(tmp_path / "s.sqlite", {}) as store:
        columns, rows = store.query((data_root() / "dse" / f"{name}.sql").read_text())
    assert (len(columns) > 3, rows) == (True, [])


def test_points_that_differ_in_an_unused_option_are_one(tmp_path: Path) -> None:
    text = SMALL.replace("space:", "space:\n  method: [saliency, integrated_gradients]\n  method.n_steps: [4, 8]")
    space = space_of(tmp_path, text)
    first = {key: values[0] for key, values in space.axes.items()}
    saliency = {space.point({**first, "method.n_steps": n}).hash for n in (4, 8)}
    paths = {space.point({**first, "method": "integrated_gradients", "method.n_steps": n}).hash for n in (4, 8)}
    assert (len(saliency), len(paths)) == (1, 2)
    assert "method.n_steps" not in space.point(first).inputs


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("base: {model: cifar_cnn, options: 3}\nspace: {arch.array.rows: [8]}\n" + GOAL, "options: must be an object"),
        ("base: {model: cifar_cnn, method: [saliency]}\nspace: {arch.array.rows: [8]}\n" + GOAL, "method: must be a"),
        (BASE + "workloads: [{name: a, options: 3}]\nspace: {arch.array.rows: [8]}\n" + GOAL, "options: must be a"),
        (BASE + "workloads: [{name: a, weight: .nan}]\nspace: {arch.array.rows: [8]}\n" + GOAL, "a number above 0"),
        (BASE + "space: {arch.clock_mhz: {range: [100, .inf, 100]}}\n" + GOAL, "must be [from, to, step], in numbers"),
        (BASE + "space: {arch.clock_mhz: {log: [.nan, 400]}}\n" + GOAL, "in numbers"),
    ],
)
def test_values_of_the_wrong_kind_are_told_and_not_tripped_over(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        space_of(tmp_path, text)
    assert told in str(error.value), error.value


def test_bits_may_be_named(tmp_path: Path) -> None:
    named, short = (space_of(tmp_path, BASE + f"space: {{{key}: [4, 8]}}\n" + GOAL) for key in
                    ("numerics.weights.bits", "numerics.weights"))  # fmt: skip
    for bits in (4, 8):
        points = named.point({"numerics.weights.bits": bits}), short.point({"numerics.weights": bits})
        assert points[0].hash == points[1].hash
