"""Does the closed form of a grid of processing elements do what a walk over its schedule does, and what is refused?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from grid_walk import outputs_of, walk_tile
from hypothesis import given, settings
from hypothesis import strategies as st

from xaisim.config import UserError, load_data, load_yaml
from xaisim.hardware import (
    DIMS,
    Architecture,
    EnergyModel,
    GridArray,
    UnrolledArray,
    array_accesses,
    array_cycles,
    grid_accesses,
    grid_cycles,
    grid_fold,
    load_architecture,
)
from xaisim.hardware.fpga import register_bram36s

EYERISS = load_architecture("eyeriss").array
WIDE = {"input": 1 << 20, "weight": 1 << 20, "psum": 1 << 20}


def grid(rows: int = 12, cols: int = 14, **keys: Any) -> GridArray:
    """Return Eyeriss' array with other sides and keys."""
    return GridArray.model_validate(EYERISS.model_dump() | {"rows": rows, "cols": cols} | keys)


@st.composite
def sides(draw: Any, places: int) -> tuple[str, ...]:
    """Draw what one side lists; the numbers behind the names fit it."""
    listed = draw(st.lists(st.sampled_from(DIMS), min_size=1, max_size=4, unique=True))
    texts = []
    for dim in listed:
        most = draw(st.sampled_from((None, 1, 2, 3)))
        fits = most is not None and most <= places
        places = places // most if fits else places  # type: ignore[operator]
        texts.append(f"{dim}{most}" if fits else dim)
    return tuple(texts)


@st.composite
def grids(draw: Any) -> GridArray:
    rows, cols = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    words = st.fixed_dictionaries({"input": st.integers(1, 3), "weight": st.integers(1, 4), "psum": st.integers(1, 4)})
    files = {"input": draw(st.integers(1, 6)), "weight": draw(st.integers(1, 12)), "psum": draw(st.integers(1, 4))}
    return grid(
        rows,
        cols,
        spatial={"rows": draw(sides(rows)), "cols": draw(sides(cols))},
        registers=files,
        words_per_cycle=draw(words),
        pipeline_cycles=draw(st.integers(0, 3)),
    )


tiles = st.fixed_dictionaries({dim: st.integers(1, 4) for dim in DIMS})
strides = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=80, deadline=None)
@given(grids(), tiles, strides)
def test_a_grid_takes_the_cycles_and_words_of_a_walk_over_its_schedule(
    array: GridArray, dims: dict[str, int], stride: tuple[int, int]
) -> None:
    walk, terms = walk_tile(array, dims, stride), grid_cycles(array, dims, stride=stride)
    assert len(walk.products) == len(set(walk.products)) == math.prod(dims.values())
    assert len(walk.elements) == grid_fold(array, dims).active
    assert {cause: getattr(terms, cause) for cause in walk.cycles} == walk.cycles
    assert terms.folds == walk.passes
    assert array_cycles(array, dims, stride=stride) == sum(walk.cycles.values())
    outputs = outputs_of(dims)
    for accumulate in (False, True):
        assert array_accesses(array, dims, accumulate=accumulate, stride=stride) == {
            "input_reads": walk.words["input_reads"],
            "weight_reads": walk.words["weight_reads"],
            "psum_reads": walk.words["sums"] - outputs + outputs * accumulate,
            "psum_writes": walk.words["sums"],
        }


@settings(max_examples=200, deadline=None)
@given(grids(), st.fixed_dictionaries({dim: st.integers(1, 60) for dim in DIMS}))
def test_no_element_does_more_than_a_product_per_cycle(array: GridArray, dims: dict[str, int]) -> None:
    fold, terms = grid_fold(array, dims), grid_cycles(array, dims)
    assert fold.active <= array.macs_per_cycle
    assert math.prod(dims.values()) <= fold.active * terms.stream
    assert terms.total == terms.load + terms.skew + terms.stream + terms.drain


@settings(max_examples=200, deadline=None)
@given(grids(), st.fixed_dictionaries({dim: st.integers(1, 60) for dim in DIMS}), strides)
def test_a_larger_grid_with_wide_buses_never_streams_longer(
    array: GridArray, dims: dict[str, int], stride: tuple[int, int]
) -> None:
    def streams(rows: int, cols: int) -> int:
        return int(grid_cycles(grid_like(array, rows, cols), dims, stride=stride).stream)

    now = streams(array.rows, array.cols)
    assert streams(array.rows + 1, array.cols) <= now
    assert streams(array.rows, array.cols + 2) <= now


def grid_like(array: GridArray, rows: int, cols: int) -> GridArray:
    return GridArray.model_validate(array.model_dump() | {"rows": rows, "cols": cols, "words_per_cycle": WIDE})


def test_many_tiles_at_once_equal_one_after_the_other() -> None:
    rng = np.random.default_rng(2)
    many = {dim: rng.integers(1, 40, 60) for dim in DIMS}
    accumulate = rng.integers(0, 2, 60).astype(bool)
    cycles = array_cycles(EYERISS, many, stride=(2, 1))
    words = array_accesses(EYERISS, many, accumulate=accumulate, stride=(2, 1))
    assert cycles.dtype == np.int64
    for index in range(60):
        tile = {dim: int(many[dim][index]) for dim in DIMS}
        one = array_cycles(EYERISS, tile, stride=(2, 1))
        assert type(one) is int
        assert one == cycles[index]
        each = array_accesses(EYERISS, tile, accumulate=bool(accumulate[index]), stride=(2, 1))
        assert each == {name: int(count[index]) for name, count in words.items()}


# What the lists mean --------------------------------------------------------------------------------------------------


def places(array: GridArray, **dims: int) -> dict[str, int]:
    fold = grid_fold(array, dict.fromkeys(DIMS, 1) | dims)
    return {dim: count for dim, count in fold.places.items() if count > 1}


def test_a_dimension_lies_along_its_side_and_others_replicate_it() -> None:
    array = grid(spatial={"rows": ("R", "C2", "K"), "cols": ("P", "K")})
    assert places(array, R=3, C=64, K=64, P=13) == {"R": 3, "C": 2, "K": 2, "P": 13}  # four sets of 3 x 13
    assert places(array, R=3, C=64, K=64, P=5) == {"R": 3, "C": 2, "K": 4, "P": 5}  # and two side by side
    assert places(array, R=11, C=3, K=96, P=7) == {"R": 11, "K": 2, "P": 7}
    assert places(array, R=1, C=64, K=64, P=14) == {"C": 2, "K": 6, "P": 14}
    assert places(array, R=3, C=1, K=3, P=14) == {"R": 3, "K": 3, "P": 14}  # one set idles


def test_a_dimension_on_both_sides_continues_on_the_second() -> None:
    strips = grid(spatial={"rows": ("R", "P", "K"), "cols": ("P",)})
    assert places(strips, R=5, K=64, P=27) == {"R": 5, "P": 27}  # Eyeriss' 5 x 27 set in strips of 14 and 13
    assert places(strips, R=5, K=64, P=13) == {"R": 5, "K": 2, "P": 13}
    assert places(strips, R=5, K=64, P=30) == {"R": 5, "P": 15}  # two passes, equally wide


def test_what_is_longer_than_its_side_is_folded_into_equal_passes() -> None:
    fold = grid_fold(grid(spatial={"rows": ("R",), "cols": ("P",)}), {**dict.fromkeys(DIMS, 1), "R": 13, "P": 30})
    assert (fold.places["R"], fold.passes["R"]) == (7, 2)
    assert (fold.places["P"], fold.passes["P"]) == (10, 3)


def test_an_element_holds_what_its_registers_hold() -> None:
    def held(**dims: int) -> tuple[int, ...]:
        fold = grid_fold(grid(spatial={"rows": ("R",), "cols": ("P",)}), {**dict.fromkeys(DIMS, 64), **dims})
        return fold.held["K"], fold.held["C"], fold.held["S"]

    assert held(S=3) == (16, 4, 3)  # a window of 12 words; 18 filters fit, 64 are four times 16
    assert held(S=5) == (22, 2, 5)  # 22 x 2 x 5 = 220 of 224 weights
    assert held(S=11) == (16, 1, 11)  # 20 fit
    assert held(S=1) == (16, 11, 1)  # 18 and 12 fit
    assert held(S=30) == (22, 1, 10)  # a row longer than the window is cut into three


def test_a_fold_prints_where_every_loop_runs() -> None:
    fold = grid_fold(EYERISS, {"N": 1, "K": 64, "C": 192, "P": 13, "Q": 13, "R": 3, "S": 3})
    assert str(fold) == "places K2 C2 P13 R3, held K16 C4 Q13 S3, passes K2 C24"


def test_timeloops_row_stationary_layer_streams_as_it_says() -> None:
    # Timeloop's eyeriss_like has no bus widths, keeps output rows on columns and filter rows and channels on rows.
    array = grid(spatial={"rows": ("R", "C", "K"), "cols": ("P",)}, words_per_cycle=WIDE)
    dims = {"N": 1, "K": 32, "C": 3, "P": 112, "Q": 112, "R": 3, "S": 3}
    terms, fold = grid_cycles(array, dims, stride=(2, 2)), grid_fold(array, dims)
    assert math.prod(dims.values()) == 10_838_016
    assert terms.stream == 86_016
    assert fold.active == 0.75 * 168


def test_the_input_bus_holds_up_a_layer_of_few_filters() -> None:
    dims = {"N": 1, "K": 32, "C": 3, "P": 112, "Q": 112, "R": 3, "S": 3}
    narrow = grid_cycles(EYERISS, dims, stride=(2, 2))
    wide = grid_cycles(grid(words_per_cycle=WIDE), dims, stride=(2, 2))
    words = grid_accesses(EYERISS, dims, stride=(2, 2))["input_reads"]
    assert narrow.stream + narrow.skew >= words > 1.8 * wide.stream


def test_stride_only_spares_a_grid_inputs() -> None:
    dims = {"N": 1, "K": 16, "C": 8, "P": 14, "Q": 14, "R": 3, "S": 3}
    one, two, three, four = (array_accesses(EYERISS, dims, stride=(n, n)) for n in (1, 2, 3, 4))
    assert one["input_reads"] < two["input_reads"] < three["input_reads"] == four["input_reads"]  # windows apart
    assert {**one, "input_reads": 0} == {**four, "input_reads": 0}


def test_grids_side_by_side_divide_the_filters() -> None:
    dims = {"N": 1, "K": 96, "C": 8, "P": 14, "Q": 14, "R": 3, "S": 3}
    two = grid(count=2)
    assert array_cycles(two, dims) == array_cycles(EYERISS, {**dims, "K": 48})
    assert two.macs_per_cycle == 336


# The preset and its costs ---------------------------------------------------------------------------------------------


def test_eyeriss_says_what_it_is() -> None:
    assert str(EYERISS) == ("grid 12x14, rows R C2 K P, cols P K, registers 12 input 224 weight 24 psum")
    arch = load_architecture("eyeriss")
    assert arch.peak_macs_per_cycle == 168
    assert arch.peak_gmacs == 33.6
    assert arch.on_chip_bytes == 108 * 1024
    assert arch.dram.bytes_per_cycle * arch.clock_mhz == 480  # MB/s: 8 B at 60 MHz


def test_a_product_in_a_grid_pays_for_its_register_files() -> None:
    scale = (3.755 - 4.398 + 1.975) / (0.9559 * 0.81 - 0.7823 * 0.9 + 0.471)  # 28 nm 0.9 V to 65 nm 1 V
    files = 16 * 12 * 2 + 16 * 224 * 2 + 2 * 48 * 24 * 6  # bits moved x bytes of the file
    energy = EnergyModel(load_architecture("eyeriss")).register_files_pj(EYERISS, 16, 16)
    assert energy == pytest.approx(0.00375 * scale * files / 32, rel=1e-12)


def test_a_register_file_deeper_than_a_lut_takes_half_a_block_ram() -> None:
    assert register_bram36s(EYERISS) == 84  # 168 files of 224 x 16 bits
    assert register_bram36s(grid(registers={"input": 12, "weight": 64, "psum": 24})) == 0
    assert register_bram36s(load_architecture("pynq_z2").array) == 0
    need = load_architecture("eyeriss").fpga_resources()
    assert need.dsp == 168 + 4


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"spatial": {"K": 4}},
         "array.spatial: a grid needs what lies along its sides: rows: [...] and cols: [...] (got K4)"),
        ({"spatial": {"K": 4, "rows": ["R"], "cols": ["P"]}},
         "array.spatial: write either unrollings or rows and cols, not both (got K: 4 too)"),
        ({"spatial": {"rows": ["R"]}}, "array.spatial.cols: required beside the other side"),
        ({"spatial": {"rows": ["R", "Z"], "cols": ["P"]}},
         "array.spatial.rows[1]: must be a loop dimension, with the most places it may take behind it or without "
         "(got 'Z'); choices: N, K, C, P, Q, R, S"),
        ({"spatial": {"rows": ["k"], "cols": ["P"]}},
         "array.spatial.rows[0]: must be a loop dimension, with the most places it may take behind it or without "
         "(got 'k'); did you mean 'K'? choices: N, K, C, P, Q, R, S"),
        ({"spatial": {"rows": ["R", "C0"], "cols": ["P"]}},
         "array.spatial.rows[1]: must take at least one place (got 'C0')"),
        ({"spatial": {"rows": ["R", "C2", "R"], "cols": ["P"]}},
         "array.spatial.rows[2]: R is listed twice on this side (got 'R')"),
        ({"spatial": {"rows": ["FY", "R"], "cols": ["OY"]}},
         "array.spatial.rows[1]: R is listed twice on this side (got 'R')"),
        ({"spatial": {"rows": ["R3", "C5"], "cols": ["P"]}},
         "array.spatial.rows: R3 C5 take 15 places, the grid has 12 rows"),
        ({"spatial": {"rows": ["R"], "cols": ["P15"]}},
         "array.spatial.cols: P15 take 15 places, the grid has 14 cols"),
        ({"accumulator": "saturate"},
         "array.accumulator: the order of addition in a grid is not modelled; choices: proven, wrap (got 'saturate')"),
        ({"registers": {"input": 0, "weight": 1, "psum": 1}},
         "array.registers.input: must be greater than or equal to 1 (got 0)"),
    ],
)  # fmt: skip
def test_a_wrong_grid_is_told_in_one_line(changes: dict[str, Any], line: str) -> None:
    data = load_architecture("eyeriss").model_dump(mode="json")
    with pytest.raises(UserError) as error:
        load_data(Architecture, data | {"array": data["array"] | changes}, "a.yaml")
    assert str(error.value) == f"a.yaml: {line}"


def test_an_unrolled_array_has_no_sides() -> None:
    data = load_architecture("pynq_z2").array.model_dump() | {"spatial": {"rows": ["K"], "cols": ["C"]}}
    with pytest.raises(UserError, match=r"spatial: an unrolled array has no sides: .*\(got rows K, cols C\)"):
        load_data(UnrolledArray, data)


def test_zigzags_names_are_the_dimensions_in_lists_too() -> None:
    theirs = grid(spatial={"rows": ("FY", "C2"), "cols": ("OY",)})
    ours = grid(spatial={"rows": ("R", "C2"), "cols": ("P",)})
    dims = {"N": 1, "K": 8, "C": 8, "P": 14, "Q": 14, "R": 3, "S": 3}
    assert grid_fold(theirs, dims) == grid_fold(ours, dims)


def test_a_grid_is_written_as_yaml_and_dumped_as_it_was() -> None:
    text = (
        "kind: grid\nrows: 3\ncols: 2\nspatial: {rows: [R, C2], cols: [P, K]}\n"
        "registers: {input: 12, weight: 24, psum: 4}\nwords_per_cycle: {input: 1, weight: 1, psum: 1}\n"
        "pipeline_cycles: 3\nmultiplier_bits: 8\naccumulator_bits: 32\n"
    )
    array = load_yaml(GridArray, "grid.yaml", text=text)
    assert load_data(GridArray, array.model_dump(mode="json")) == array
    assert array.spatial.rows == ("R", "C2")
