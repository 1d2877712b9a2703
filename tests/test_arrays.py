"""Do the closed forms of arrays meet published figures, and slow loops that do what an array does?"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import dry_program

from xaisim.config import UserError, load_data
from xaisim.experiment import Experiment, Options
from xaisim.flow import profile
from xaisim.hardware import (
    DIMS,
    Architecture,
    SystolicArray,
    UnrolledArray,
    array_accesses,
    array_cycles,
    gemm_of_conv,
    load_architecture,
    systolic_cycles,
    unrolled_cycles,
)
from xaisim.mapping.price import array_terms
from xaisim.mapping.tiles import Kind
from xaisim.models import load_model
from xaisim.show import mapping_text
from xaisim.simulate.mapper import Wish, best_schedule


def systolic(rows: int, cols: int, dataflow: str, **options: Any) -> SystolicArray:
    data = {"kind": "systolic", "rows": rows, "cols": cols, "dataflow": dataflow}
    return SystolicArray.model_validate({**data, "multiplier_bits": 16, "accumulator_bits": 48, **options})


def unrolled(pipeline_cycles: int = 0, *, initiation_interval: int = 1, **spatial: int) -> UnrolledArray:
    data = {"kind": "unrolled", "spatial": spatial, "pipeline_cycles": pipeline_cycles}
    data["initiation_interval"] = initiation_interval
    return UnrolledArray.model_validate({**data, "multiplier_bits": 16, "accumulator_bits": 48})


def preset(name: str, **array: Any) -> dict[str, Any]:
    """Return a shipped architecture as plain data with keys of its array changed."""
    data = load_architecture(name).model_dump(mode="json")
    return {**data, "array": {**data["array"], **array}}


# Array closed forms ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataflow", "M", "K", "N", "cycles"),
    [
        ("os", 256, 256, 128, 10_176),  # SCALE-Sim, no stalls
        ("ws", 256, 256, 128, 11_200),
        ("is", 256, 256, 128, 14_208),
        ("ws", 3025, 363, 96, 112_284),  # AlexNet conv1
    ],
)
def test_serialised_folds_meet_scale_sim_exactly(dataflow: str, M: int, K: int, N: int, cycles: int) -> None:
    assert systolic_cycles(systolic(32, 32, dataflow), M, K, N).total == cycles
    preset = load_architecture("edge_systolic_32" + ("" if dataflow == "os" else f"_{dataflow}")).array
    assert array_cycles(preset, {"N": 1, "K": N, "C": K, "P": M, "Q": 1, "R": 1, "S": 1}) == cycles


def test_the_terms_of_a_fold_have_names() -> None:
    terms = systolic_cycles(systolic(32, 32, "os", drain=True), 256, 256, 128)
    assert terms._asdict() == {"folds": 32, "load": 0, "stream": 32 * 256, "skew": 32 * 62, "drain": 32 * 32}
    terms = systolic_cycles(systolic(32, 16, "ws"), 100, 33, 17)
    assert terms._asdict() == {"folds": 4, "load": 4 * 32, "stream": 4 * 100, "skew": 4 * 46, "drain": 0}


@given(st.integers(1, 40), st.integers(2, 20), st.integers(1, 20), st.integers(1, 80), st.integers(1, 80))
def test_pipelined_folds_follow_the_rule_for_starting_the_next_tile(n: int, H: int, W: int, K: int, N: int) -> None:
    start, end = 2 * H - 1, 0
    tiles = -(-K // H) * -(-N // W)
    for _ in range(tiles):
        end = start + max(n, 4) + H + W - 2
        start += max(n, 4, H)
    # The closed form counts the last tile as if another followed it; the two agree unless tiles are very short.
    total = systolic_cycles(systolic(H, W, "ws", folds="pipelined"), n, K, N).total
    assert total == end + max(n, 4, H) - max(n, 4)
    assert total == tiles * max(n, 4, H) + (H + W - 2) + (2 * H - 1)


def test_a_convolution_is_a_matrix_product() -> None:
    assert gemm_of_conv({"N": 2, "K": 64, "C": 3, "P": 5, "Q": 7, "R": 3, "S": 2}) == (70, 18, 64)


extents = st.fixed_dictionaries({dim: st.integers(1, 5) for dim in DIMS})


def naive_unrolled(dims: dict[str, int], spatial: dict[str, int]) -> dict[str, int]:
    """Walk the iterations and count the distinct operands of each."""
    cycles = inputs = weights = 0
    for block in itertools.product(*(range(0, dims[dim], spatial[dim]) for dim in DIMS)):
        lanes = [range(low, min(low + spatial[dim], dims[dim])) for low, dim in zip(block, DIMS, strict=True)]
        used = list(itertools.product(*lanes))
        cycles += 1
        inputs += len({(n, c, p, q, r, s) for n, _, c, p, q, r, s in used})
        weights += len({(k, c, r, s) for _, k, c, _, _, r, s in used})
    return {"cycles": cycles, "input_reads": inputs, "weight_reads": weights}


@settings(max_examples=40, deadline=None)
@given(extents, st.fixed_dictionaries({dim: st.integers(1, 3) for dim in DIMS}))
def test_an_unrolled_array_counts_what_its_loop_nest_does(dims: dict[str, int], spatial: dict[str, int]) -> None:
    array, naive = unrolled(7, **spatial), naive_unrolled(dims, spatial)
    accesses = array_accesses(array, dims)
    assert array_cycles(array, dims) == naive["cycles"] + 7
    assert accesses["input_reads"] == naive["input_reads"]
    assert accesses["weight_reads"] == naive["weight_reads"]
    outputs = dims["N"] * dims["K"] * dims["P"] * dims["Q"]
    assert (accesses["psum_reads"], accesses["psum_writes"]) == (0, outputs)
    assert array_accesses(array, dims, accumulate=True)["psum_reads"] == outputs


def test_aliases_of_loop_dimensions_are_the_dimensions() -> None:
    assert unrolled(B=2, K=3, OY=4, OX=5, FY=6, FX=7) == unrolled(N=2, K=3, P=4, Q=5, R=6, S=7)
    with pytest.raises(UserError, match=r"spatial\.B: given twice, under two names"):
        load_data(UnrolledArray, unrolled().model_dump() | {"spatial": {"B": 1, "N": 1}})


@pytest.mark.parametrize("dataflow", ["os", "ws", "is"])
def test_a_systolic_array_reads_each_operand_once_per_fold_that_needs_it(dataflow: str) -> None:
    M, K, N, R, C = 37, 50, 21, 8, 4
    dims = {"N": 1, "K": N, "C": K, "P": M, "Q": 1, "R": 1, "S": 1}
    on_rows, on_cols = {"os": (M, N), "ws": (K, N), "is": (K, M)}[dataflow]
    inputs = weights = writes = 0
    stationary = 0
    for row, col in itertools.product(range(0, on_rows, R), range(0, on_cols, C)):
        rows, cols = min(R, on_rows - row), min(C, on_cols - col)
        if dataflow == "os":
            inputs, weights, writes = inputs + rows * K, weights + cols * K, writes + rows * cols
        elif dataflow == "ws":
            inputs, stationary, writes = inputs + rows * M, stationary + rows * cols, writes + cols * M
        else:
            weights, stationary, writes = weights + rows * N, stationary + rows * cols, writes + cols * N
    inputs, weights = {"os": (inputs, weights), "ws": (inputs, stationary), "is": (stationary, weights)}[dataflow]
    expected = {"input_reads": inputs, "weight_reads": weights, "psum_reads": writes - M * N, "psum_writes": writes}
    array = systolic(R, C, dataflow)
    assert array_accesses(array, dims) == expected
    assert array_accesses(array, dims, accumulate=True) == {**expected, "psum_reads": writes}


@pytest.mark.parametrize(
    "array",
    [
        unrolled(8, K=16, C=8),
        systolic(16, 16, "os", drain=True),
        systolic(16, 8, "ws"),
        systolic(8, 16, "is"),
        systolic(16, 16, "ws", folds="pipelined"),
    ],
    ids=str,
)
def test_many_tiles_at_once_equal_one_after_the_other(array: UnrolledArray | SystolicArray) -> None:
    rng = np.random.default_rng(1)
    tiles = {dim: rng.integers(1, 70, 50) for dim in DIMS}
    accumulate = rng.integers(0, 2, 50).astype(bool)
    cycles, accesses = array_cycles(array, tiles), array_accesses(array, tiles, accumulate=accumulate)
    assert cycles.dtype == np.int64
    for index in range(50):
        tile = {dim: int(tiles[dim][index]) for dim in DIMS}
        one = array_cycles(array, tile)
        assert type(one) is int
        assert one == cycles[index]
        each = array_accesses(array, tile, accumulate=bool(accumulate[index]))
        assert each == {name: int(words[index]) for name, words in accesses.items()}


@given(extents)
def test_no_array_beats_its_peak(dims: dict[str, int]) -> None:
    macs = math.prod(dims.values())
    for array in (unrolled(K=4, C=2), systolic(4, 2, "os"), systolic(4, 2, "ws", folds="pipelined")):
        assert array_cycles(array, dims) * array.macs_per_cycle >= macs


def test_cycles_do_not_fall_when_a_tile_grows() -> None:
    sizes = np.arange(1, 200)
    one = np.ones_like(sizes)
    for array in (unrolled(3, K=16, Q=4), systolic(16, 16, "os"), systolic(16, 16, "ws", folds="pipelined")):
        for dim in DIMS:
            cycles = array_cycles(array, {**dict.fromkeys(DIMS, one), dim: sizes})
            assert np.all(np.diff(cycles) >= 0)


def test_an_unrolled_array_runs_one_iteration_per_cycle() -> None:
    dims = {"N": 1, "K": 64, "C": 64, "P": 56, "Q": 56, "R": 3, "S": 3}
    assert unrolled_cycles(unrolled(8, K=16, C=8), dims) == 4 * 8 * 56 * 56 * 9 + 8


def test_an_initiation_interval_shares_multipliers_among_its_cycles() -> None:
    dims = {"N": 1, "K": 64, "C": 64, "P": 14, "Q": 14, "R": 3, "S": 3}
    one, three = (unrolled(8, initiation_interval=interval, K=16, C=8) for interval in (1, 3))
    assert array_cycles(three, dims) - 8 == 3 * (array_cycles(one, dims) - 8)
    assert (one.macs_per_cycle, three.macs_per_cycle) == (128, 43)  # 128 products in three cycles
    assert array_accesses(three, dims) == array_accesses(one, dims)
    assert str(three) == "unrolled K16 C8, pipeline 8 cycles, initiation interval 3"
    with pytest.raises(UserError, match=r"initiation_interval: must be greater than or equal to 1 \(got 0\)"):
        load_data(UnrolledArray, one.model_dump() | {"initiation_interval": 0})


# Several arrays -------------------------------------------------------------------------------------------------------

ARRAYS = [
    unrolled(5, K=4, C=2),
    unrolled(0, initiation_interval=2, K=3, Q=2),
    systolic(4, 2, "os", drain=True),
    systolic(3, 5, "ws", folds="pipelined"),
    systolic(4, 4, "is"),
]


def several(array: Any, count: int, divide: str) -> Any:
    return type(array).model_validate(array.model_dump() | {"count": count, "divide": divide})


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(ARRAYS), extents, st.integers(1, 5), st.sampled_from("KT"), st.integers(1, 4))
def test_arrays_that_divide_a_tile_do_what_each_does_with_its_part(
    array: Any, dims: dict[str, int], count: int, divide: str, points: int
) -> None:
    dims["K"] *= 3
    whole = dims["K"] if divide == "K" else points
    share = -(-whole // count)
    parts = [min(share, whole - start) for start in range(0, whole, share)]
    each = [
        {**dims, "K": part, "N": dims["N"] * points} if divide == "K" else {**dims, "N": dims["N"] * part}
        for part in parts
    ]
    together = several(array, count, divide)
    assert len(parts) <= count
    assert array_cycles(together, {**dims, "T": points}) == max(array_cycles(array, one) for one in each)
    accesses = [array_accesses(array, one, accumulate=True) for one in each]
    expected = {name: sum(one[name] for one in accesses) for name in accesses[0]}
    assert array_accesses(together, {**dims, "T": points}, accumulate=True) == expected
    assert together.macs_per_cycle == count * array.macs_per_cycle


def test_several_arrays_say_so_and_are_refused_by_rule() -> None:
    assert str(several(ARRAYS[2], 3, "T")).startswith("3 x, T divided; systolic 4x2 os")
    with pytest.raises(UserError, match=r"array\.divide: must be one of K, T \(got 'C'\)"):
        load_data(Architecture, preset("edge_systolic_16", divide="C"))
    with pytest.raises(UserError, match=r"array\.count: must be greater than or equal to 1 \(got 0\)"):
        load_data(Architecture, preset("edge_systolic_16", count=0))
    two = load_data(Architecture, preset("edge_systolic_16", count=2))
    one = load_architecture("edge_systolic_16")
    assert two.peak_macs_per_cycle == 2 * one.peak_macs_per_cycle
    assert two.fpga_resources().dsp - one.fpga_resources().dsp == 256


@pytest.mark.parametrize("arch", ["edge_systolic_16_ws", "edge_systolic_16_flex", "eyeriss", "pynq_z2"])
def test_every_cycle_of_the_array_has_a_term(arch: str) -> None:
    """In reports, over all trips: those of folds, and what ports add."""
    options = Options(n_steps=4)
    report = profile(Experiment(model="cifar_cnn", method="integrated_gradients", arch=arch, options=options))
    rows = [row for row in report.layers if row.array_cycles]
    assert rows
    for row in rows:
        if arch == "pynq_z2":
            assert row.array_terms is None
        else:
            assert row.array_terms is not None
            assert sum(row.array_terms.values()) == row.array_cycles
            assert min(row.array_terms.values()) >= 0


def test_a_stage_shows_what_its_array_cycles_are_spent_on() -> None:
    """Sixteen rows of weights per fold, 16 + 16 − 2 cycles of skew."""
    wish, arch = Wish(search=False), load_architecture("edge_systolic_16_ws")
    (launch,) = dry_program(load_model("cifar_cnn", values=False).graph, "saliency")
    schedule, _ = best_schedule(launch, arch, wish)
    terms = array_terms(schedule.tiles, schedule.plan, arch)[0]
    assert terms is not None
    assert terms["skew"] * 16 == terms["load"] * 30
    assert terms["drain"] == 0
    busy = int(schedule.tiles.occupy_cycles[(schedule.tiles.kind == Kind.COMPUTE) & (schedule.tiles.stage == 0)].sum())
    load, stream, skew = (f"{terms[name]:,}" for name in ("load", "stream", "skew"))
    port = f", port {terms['port']:,}" if terms["port"] else ""
    wanted = f"array {busy:,} (load {load}, stream {stream}, skew {skew}{port})"
    assert wanted in mapping_text(launch, arch, wish)
