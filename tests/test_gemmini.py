"""Is a mapping's line read as it is written, do its commands take what the machine takes, and is the RTL met?"""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xaisim.config import UserError
from xaisim.hardware.architecture import load_architecture
from xaisim.hardware.array import DIMS
from xaisim.hardware.soc import Soc, load_soc
from xaisim.mapping.commands.caches import HIT, _touch
from xaisim.mapping.commands.lower import ARRAY_ROW, LOAD_ROW, STORE_ROW, conv_shape, lower_nest
from xaisim.mapping.commands.nest import (
    MOST_TILES,
    Layer,
    Level,
    Loop,
    Nest,
    NestError,
    check_nest,
    extents,
    parse_nest,
    tile_positions,
)  # fmt: skip
from xaisim.mapping.commands.products import WindowRates, product_cycles
from xaisim.mapping.commands.transfers import merge_cycles
from xaisim.simulate.clock import run_trip
from xaisim.validate import gemmini, gemmini_tiles

SOC = load_soc("gemmini_16")
LINE = "L3[WIO] P2 K4 - L2[WI] N1 K16X - L1[O] C4 P8 C16X - L0[W] Q2 P4"
LAYER = Layer(N=1, C=64, K=64, P=64, Q=2, R=1, S=1, stride=1)


def cycles(nest: Nest, layer: Layer, soc: Soc = SOC, base_offset: int = 0) -> int:
    return int(run_trip(lower_nest(nest, layer, soc, base_offset=base_offset)).end.max())


def shipped() -> list[dict[str, str]]:
    with gemmini.SHIPPED.open(newline="") as file:
        return list(csv.DictReader(file))


# The notation ---------------------------------------------------------------------------------------------------------


def test_every_shipped_mapping_is_written_again_as_it_was_read() -> None:
    for row in shipped():
        assert str(parse_nest(row["mapping"])) == row["mapping"]


_LOOPS = st.lists(
    st.builds(Loop, st.sampled_from(DIMS), st.integers(1, 99), st.booleans()), min_size=1, max_size=5
).map(tuple)
_OUTER = st.lists(
    st.builds(Loop, st.sampled_from(DIMS), st.integers(1, 99), st.just(False)),
    min_size=1,
    unique_by=lambda loop: loop.dim,
).map(tuple)


@given(outer=_OUTER, inner=st.tuples(_LOOPS, _LOOPS, _LOOPS))
def test_any_nest_is_read_back_from_its_line(outer: tuple[Loop, ...], inner: tuple[tuple[Loop, ...], ...]) -> None:
    keeps = ("WIO", "WI", "O", "W")
    loops = (outer, *inner)
    nest = Nest(tuple(Level(3 - i, keep, level) for i, (keep, level) in enumerate(zip(keeps, loops, strict=True))))
    assert parse_nest(str(nest)) == nest


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("", "a level is written like L1[O] K4 P8 C16X (got '')"),
        ("L3[WIO] K8 - L2[WI] K16X", "levels L3, L2, L1, L0 in this order (got L3, L2)"),
        (LINE.replace("C4", "c4"), "a loop is one of N K C P Q R S with its extent, such as K4 or C16X (got 'c4')"),
        (LINE.replace("C4", "C0"), "(got 'C0')"),
        (LINE.replace("K4", "K4X"), "loops over DRAM tiles run one after the other"),
        (LINE.replace("P2 K4", "P2 P4"), "at most one loop at L3 (got P 2 times)"),
    ],
)
def test_what_is_no_nest_is_told_with_its_part(line: str, told: str) -> None:
    with pytest.raises(NestError) as error:
        parse_nest(line)
    assert told in str(error.value)


def check(line: str, layer: Layer = LAYER, *, rows: int = 64, size: int = 1 << 20) -> None:
    check_nest(parse_nest(line), layer, side=16, accumulator_rows=rows, scratchpad_bytes=size)


@pytest.mark.parametrize(
    ("line", "changes", "told"),
    [
        (LINE.replace("P2 K4", "K4"), {}, "the loops over P must cover 64 (got 32)"),
        (LINE, {"rows": 63}, "must fit the accumulator's 63 entries (got 64)"),
        (LINE, {"size": 5119}, "must fit the scratchpad's 5119 entries (got 5120)"),
        (LINE.replace("K16X", "K32X"), {}, "C and K are unrolled up to 16 times and nothing else is (got K32X)"),
        (LINE.replace("N1", "P2X"), {"rows": 999}, "(got P2X)"),
    ],
)
def test_a_nest_that_does_not_do_its_layer_is_refused_with_rule_and_value(
    line: str, changes: dict[str, int], told: str
) -> None:
    check(LINE)
    with pytest.raises(NestError) as error:
        check(line, **changes)
    assert told in str(error.value)


def test_doubled_spaces_are_read_as_one_and_written_as_one() -> None:
    assert str(parse_nest("  " + LINE.replace(" - ", "  -  ").replace("] ", "]  ").replace("P8 ", "P8  "))) == LINE


@pytest.mark.parametrize(
    ("line", "changes", "told"),
    [
        ("P10000000 K10000000", {"P": 10**7, "K": 16 * 10**7}, "at most 262144 tiles (got 100000000000000)"),
        ("P1000 K16", {"P": 1000, "K": 256, "C": 10**6, "stride": 100}, "17179869184 bytes (got 10272000256000)"),
        ("P1 K1", {"P": 1, "K": 16, "Q": 1, "stride": 10**9}, "17179869184 bytes (got "),
    ],
)
def test_a_nest_too_large_to_walk_is_refused_before_anything_is_allocated(
    line: str, changes: dict[str, int], told: str
) -> None:
    layer = Layer(1, 16, 16, 1, 1, 1, 1, 1)._replace(**changes)
    with pytest.raises(NestError) as error:
        check(f"L3[WIO] {line} - L2[WI] K16X - L1[O] C{layer.C} - L0[W] Q1", layer, size=1 << 60)
    assert told in str(error.value)


def test_every_shipped_row_is_far_from_the_largest_that_is_walked() -> None:
    rows = gemmini.read_rows()
    assert max(len(lower_tiles(row)) for row in rows) * 16 <= MOST_TILES


def lower_tiles(row: gemmini.Row) -> range:
    return range(np.prod([loop.extent for loop in row.nest.outer], dtype=int))


def test_tiles_follow_the_order_of_the_nest_and_cover_every_dimension_once() -> None:
    nest = parse_nest("L3[WIO] K2 Q3 - L2[WI] K16X - L1[O] C4 C16X - L0[W] Q2 P4")
    limits = {"N": 1, "C": 64, "K": 32, "P": 4, "Q": 5, "R": 1, "S": 1}
    tiles = tile_positions(nest, limits, "QK")
    assert tiles.tolist() == [[q, k, min(2, 5 - q), 16] for k in (0, 16) for q in (0, 2, 4)]
    one_more = tile_positions(nest, {**limits, "P": 5}, "PK")  # no loop over P is named: it runs outside
    assert one_more[::6].tolist() == [[0, 0, 4, 16], [4, 0, 1, 16]]


# The array ------------------------------------------------------------------------------------------------------------


@given(weights=st.integers(1, 40), rows=st.integers(1, 16))
def test_products_without_a_window_are_the_pipelined_closed_form(weights: int, rows: int) -> None:
    """ONNXim: the next tile starts max(n, 4, H) later when it needs a preload; the first preload comes before all."""
    rates = WindowRates(side=16, products=7, cycles=0, least_rows=4)
    assert product_cycles(weights, 1, rows, rates) == weights * 16 + max(rows, 4)


@given(lines=st.integers(1, 9), columns=st.integers(1, 60), weights=st.integers(1, 12))
def test_a_window_that_never_fills_leaves_the_sum_of_rows_and_preloads(lines: int, columns: int, weights: int) -> None:
    chunks = [min(16, columns - at) for at in range(0, columns, 16)] * lines
    fed = [max(rows, 4) for rows in chunks] * weights
    for tile in range(1, weights):
        fed[tile * len(chunks) - 1] = 16  # the last product of a tile runs beside the next tile's preload
    rates = WindowRates(side=16, products=7, cycles=0, least_rows=4)
    assert product_cycles(weights, lines, columns, rates) == 16 + sum(fed)


@given(lines=st.integers(1, 30), columns=st.integers(1, 40), weights=st.integers(13, 60), cycles=st.integers(0, 80))
def test_weight_tiles_repeat_once_the_window_is_full(lines: int, columns: int, weights: int, cycles: int) -> None:
    rates = WindowRates(side=16, products=7, cycles=cycles, least_rows=4)
    found = [product_cycles(n, lines, columns, rates) for n in (12, weights)]
    per_tile = (found[1] - found[0]) / (weights - 12)
    chunks = -(-columns // 16) * lines
    assert 16 <= per_tile <= 16 + chunks * max(16, cycles + 16)


# Transfers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "shift", "wanted", "offset", "expected"),
    [
        (64, 0, 64, 0, 4),  # four whole rows: a beat per cycle
        (16, 0, 16, 0, 1),
        (32, 8, 24, 0, 3),  # the first row needs both beats
        (64, 0, 40, 8, 5),  # two parts of rows more than whole rows
    ],
)
def test_merging_an_answer_takes_as_long_as_its_rows_need(
    size: int, shift: int, wanted: int, offset: int, expected: int
) -> None:
    assert merge_cycles(size, shift, wanted, 16, offset) == expected


@given(beats=st.sampled_from([1, 2, 4]), shift=st.integers(0, 63), offset=st.integers(0, 15))
def test_merging_takes_at_least_the_beats_and_ends(beats: int, shift: int, offset: int) -> None:
    shift %= 16 * beats
    for wanted in range(1, 16 * beats - shift + 1):
        assert beats <= merge_cycles(16 * beats, shift, wanted, 16, offset) <= beats + 6


@given(lines=st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=200))
def test_a_cache_holds_what_a_list_of_its_sets_holds(lines: list[tuple[int, bool]]) -> None:
    tag, changed = np.full((4, 2), -1, np.int64), np.zeros((4, 2), np.int64)
    random = np.array([1], np.int64)
    held: dict[int, bool] = {}
    for line, write in lines:
        out = _touch(tag, changed, random, line, write)
        assert (out == HIT) == (line in held)
        if out != HIT:
            gone = {old for old in held if old not in tag}
            assert (out in gone) if out >= 0 else not any(held[old] for old in gone)
            for old in gone:
                del held[old]
        held[line] = held.get(line, False) or write
    assert sorted(held) == sorted(tag[tag >= 0].tolist())


# Tiles on the clock ---------------------------------------------------------------------------------------------------


def nests() -> Iterator[tuple[Nest, Layer]]:
    for row in shipped():
        layer = Layer(*(int(row[name]) for name in Layer._fields))
        if layer.P <= 14 or (layer.is_product and layer.K * layer.C < 10_000):
            yield parse_nest(row["mapping"]), layer


SMALL = list(nests())[::6]


@pytest.mark.parametrize(("nest", "layer"), SMALL)
def test_a_nest_moves_and_multiplies_what_its_loops_say(nest: Nest, layer: Layer) -> None:
    tiles = lower_nest(nest, layer, SOC, base_offset=0)
    tile, dims = nest.tile, layer._asdict()
    times = {dim: -(-dims[dim] // tile[dim]) for dim in DIMS}
    shape = conv_shape(layer, 16)
    out = layer.P * layer.K if layer.is_product else shape.out_p * shape.out_q * layer.K
    assert tiles.write_bytes[:, 0].sum() == out
    if not layer.is_product:
        assert tiles.macs.sum() == out * layer.C * layer.R * layer.S
    weights = layer.K * layer.C * layer.R * layer.S * times["P"] * times["Q"]
    assert tiles.read_bytes[:, 0].sum() >= weights
    assert (tiles.read_bytes[LOAD_ROW::5, 0] == tiles.write_bytes[LOAD_ROW::5, 1]).all()


@pytest.mark.parametrize(("nest", "layer"), SMALL[:4])
def test_no_tile_is_faster_than_its_array_or_its_bus(nest: Nest, layer: Layer) -> None:
    tiles = lower_nest(nest, layer, SOC, base_offset=0)
    total = cycles(nest, layer)
    assert total >= tiles.macs.sum() / load_architecture(SOC.architecture).peak_macs_per_cycle
    assert total >= tiles.read_bytes[:, 0].sum() / SOC.reads.beat


@st.composite
def any_nest(draw: st.DrawFn) -> tuple[Nest, Layer]:
    """Draw a nest and a layer that it covers: other kernels and images than square ones, tiles that do not fill."""
    product = draw(st.booleans())
    most = {"N": 1, "C": 3, "K": 3, "P": 20, "Q": 1 if product else 20}
    most |= dict.fromkeys("RS", 1 if product else 4)
    spatial = {dim: draw(st.integers(1, 16)) for dim in "KC"}
    inner = {dim: draw(st.integers(1, most[dim])) for dim in DIMS}
    outer = {dim: draw(st.integers(1, 1 if dim in "NRS" or most[dim] == 1 else 3)) for dim in DIMS}
    order = draw(st.permutations("CKPQ"))
    levels = (
        Level(3, "WIO", tuple(Loop(dim, outer[dim]) for dim in order)),
        Level(2, "WI", (Loop("K", spatial["K"], spatial=True),)),
        Level(1, "O", (Loop("C", spatial["C"], spatial=True),)),
        Level(0, "W", tuple(Loop(dim, inner[dim]) for dim in DIMS)),
    )
    nest = Nest(levels)
    tile = nest.tile
    sizes = {dim: tile[dim] * outer[dim] - draw(st.integers(0, tile[dim] - 1)) for dim in DIMS}
    sizes |= {dim: tile[dim] for dim in "NRS"}
    layer = Layer(**sizes, stride=1 if product else draw(st.integers(1, 2)))
    check_nest(nest, layer, side=16, accumulator_rows=1 << 20, scratchpad_bytes=1 << 30)
    return nest, layer


@settings(max_examples=60, deadline=None)
@given(drawn=any_nest())
def test_no_nest_is_faster_than_the_array_at_its_peak_and_each_output_is_stored_once(
    drawn: tuple[Nest, Layer],
) -> None:
    nest, layer = drawn
    tiles, array = lower_nest(nest, layer, SOC, base_offset=0), load_architecture(SOC.architecture).array
    macs = layer.P * layer.Q * layer.K * layer.C * layer.R * layer.S
    assert tiles.occupy_cycles[ARRAY_ROW::5].sum() * array.macs_per_cycle >= tiles.macs.sum() >= macs
    assert cycles(nest, layer) * array.macs_per_cycle >= macs
    shape = conv_shape(layer, 16)
    pixels = layer.P if layer.is_product else shape.out_p * shape.out_q
    assert tiles.write_bytes[STORE_ROW::5, 0].sum() == pixels * layer.K
    if not layer.is_product:
        assert tiles.macs.sum() == pixels * layer.K * layer.C * layer.R * layer.S


@pytest.mark.parametrize(("P", "Q", "R", "S"), [(28, 7, 1, 1), (14, 14, 1, 3), (12, 5, 5, 1), (9, 16, 2, 3)])
def test_a_rectangular_layer_reads_each_pixel_of_its_window_once(P: int, Q: int, R: int, S: int) -> None:
    """In one tile the input is what the padded windows cover, less the zeros around it."""
    layer = Layer(1, 16, 16, P, Q, R, S, 1)
    nest = parse_nest(f"L3[WIO] N1 - L2[WI] K16X - L1[O] C16X Q{Q + 1} P{P + 1} - L0[W] R{R} S{S}")
    tiles = lower_nest(nest, layer, SOC, base_offset=0)
    weights = R * S * layer.C * layer.K
    assert tiles.read_bytes[LOAD_ROW::5, 0].sum() == P * Q * layer.C + weights
    assert tiles.write_bytes[STORE_ROW::5, 0].sum() == (P + (R % 2 == 0)) * (Q + (S % 2 == 0)) * layer.K


def test_a_layer_and_its_transpose_multiply_alike_but_move_lines_of_other_lengths() -> None:
    wide, tall = Layer(1, 64, 64, 56, 4, 3, 1, 1), Layer(1, 64, 64, 4, 56, 1, 3, 1)
    nests = [
        parse_nest(f"L3[WIO] K4 - L2[WI] K16X - L1[O] C4 C16X Q{x.Q} P{x.P} - L0[W] R{x.R} S{x.S}")
        for x in (wide, tall)
    ]
    tiles = [lower_nest(nest, x, SOC, base_offset=0) for nest, x in zip(nests, (wide, tall), strict=True)]
    assert tiles[0].macs.sum() == tiles[1].macs.sum() == 56 * 4 * 64 * 64 * 3
    assert tiles[0].occupy_cycles[ARRAY_ROW::5].sum() < tiles[1].occupy_cycles[ARRAY_ROW::5].sum()  # rows of 16 and 4


def test_a_products_tile_that_is_no_multiple_of_the_array_takes_whole_blocks() -> None:
    layer = Layer(1, 48, 48, 48, 1, 1, 1, 1)
    nest = parse_nest("L3[WIO] P2 K2 C2 - L2[WI] K8X - L1[O] C8X - L0[W] P24 K3 C3")
    tiles = lower_nest(nest, layer, SOC, base_offset=0)
    assert tiles.occupy_cycles[ARRAY_ROW::5].tolist() == [16 * n for n in (8, 4, 4, 2, 4, 2, 2, 1)]


def test_two_tiles_are_in_flight_and_the_third_waits_for_the_first_to_be_stored() -> None:
    nest = parse_nest("L3[WIO] K8 - L2[WI] K16X - L1[O] C4 P2 Q14 C16X - L0[W] P7")
    layer = Layer(1, 64, 128, 14, 14, 1, 1, 1)
    tiles = lower_nest(nest, layer, SOC, base_offset=0)
    trace = run_trip(tiles)
    load, store = trace.start[LOAD_ROW::5], trace.start[STORE_ROW::5] + tiles.occupy_cycles[STORE_ROW::5]
    assert (load[2:] >= store[:-2] + SOC.host.send_cycles).all()
    assert (load[1:] < trace.end[ARRAY_ROW::5][:-1]).all()  # but the second loads while the first computes


@pytest.mark.parametrize(("nest", "layer"), SMALL[:3])
def test_the_same_nest_takes_the_same_cycles_again(nest: Nest, layer: Layer) -> None:
    assert cycles(nest, layer) == cycles(nest, layer)


def changed(part: str, **values: int) -> Soc:
    return SOC.model_copy(update={part: getattr(SOC, part).model_copy(update=values)})


@pytest.mark.parametrize(
    "faster",
    [
        changed("reads", round_trip_cycles=10),
        changed("reads", in_flight=32),
        changed("writes", beat_cycles=1),
        changed("llc", access_cycles=5),
        changed("llc", dram_cycles=5),
        changed("llc", evict_cycles=0),
        changed("window", cycles=20),
        changed("host", conv_tile_cycles=100, matmul_tile_cycles=10, layer_cycles=0),
    ],
)
def test_a_faster_part_is_never_slower(faster: Soc) -> None:
    for nest, layer in SMALL:
        assert cycles(nest, layer, faster) <= cycles(nest, layer)


def test_every_term_of_the_system_changes_some_row() -> None:
    for part in ("host", "window", "reads", "writes", "llc"):
        for name, value in getattr(SOC, part):
            if isinstance(value, int) and name not in ("ways", "size", "line", "smallest", "largest", "beat", "misses"):
                other = changed(part, **{name: 2 * value})
                assert any(cycles(n, x, other) != cycles(n, x) for n, x in SMALL), f"{part}.{name}"


# The measurements -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_rtl_is_met_within_five_percent_on_average() -> None:
    timed = gemmini.time_rows(gemmini.read_rows())
    found = gemmini.summary(timed)
    assert found.rows == 114
    assert found.mape_pct < 4.8
    assert found.median_pct < 2.2


def test_the_shipped_rows_are_those_of_the_data_set() -> None:
    rows = gemmini.read_rows()
    assert len(rows) == 114
    assert len(gemmini.groups([gemmini.Timed(row, 1) for row in rows])) == 12
    covered = extents((*rows[0].nest.outer, *rows[0].nest.inner))
    assert covered == {dim: getattr(rows[0].layer, dim) for dim in DIMS}


def write_csv(path: Path, **changes: str | None) -> Path:
    row = {**shipped()[28], **{name: value for name, value in changes.items() if value is not None}}
    for name, value in changes.items():
        if value is None:
            del row[name]
    text = io.StringIO()
    writer = csv.DictWriter(text, row)
    writer.writeheader()
    writer.writerow(row)
    path.write_text(text.getvalue())
    return path


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"mapping": None}, "missing column mapping; needed: N, C, K"),
        ({"rtl_cycles": "fast"}, "row 1: rtl_cycles: must be a number of at least 1 (got 'fast')"),
        ({"C": "1.5"}, "row 1: C: must be a whole number of at least 1 (got '1.5')"),
        ({"pe": "1024"}, "row 1: pe: gemmini_16 has 256 (got 1024)"),
        ({"mapping": "K8"}, "row 1: mapping: a level is written like L1[O] K4 P8 C16X (got 'K8')"),
        ({"P": "9999"}, "row 1: mapping: the loops over P must cover 9999 (got 280)"),
        ({"accumulator_entries": "16"}, "must fit the accumulator's 16 entries"),
        ({"scratchpad_entries": "1000"}, "must fit the scratchpad's 1000 entries"),
        ({"N": "2"}, "row 1: N: the measured programs run one picture (got 2)"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(tmp_path: Path, changes: dict[str, str | None], told: str) -> None:
    path = write_csv(tmp_path / "rows.csv", **changes)
    with pytest.raises(UserError) as error:
        gemmini.read_rows(path)
    assert str(error.value).startswith(f"{path}: ")
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_the_command_prints_errors_as_json_and_refuses_with_two(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "benchmarks" / "gemmini.py"
    path = tmp_path / "rows.csv"
    lines = gemmini.SHIPPED.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[2], lines[28]]) + "\n")
    done = subprocess.run(
        [sys.executable, script, path, "--json", "--rows"], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    errors = [abs(row["cycles"] / row["rtl_cycles"] - 1) for row in found["by_row"]]
    assert found["mape_pct"] == pytest.approx(100 * sum(errors) / 2)
    path.write_text("N,C\n1,2\n")
    refused = subprocess.run([sys.executable, script, path], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"error: {path}: missing column ")


def test_rows_that_cannot_be_timed_are_skipped_if_asked_and_named(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "benchmarks" / "gemmini.py"
    path = tmp_path / "rows.csv"
    lines = gemmini.SHIPPED.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[2], lines[3].replace("WIO] K2", "WIO] K1"), lines[28]]) + "\n")
    command = [sys.executable, script, path, "--json", "--rows"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    told = "row 2: mapping: the loops over K must cover 64 (got 32)"
    assert refused.stderr == f"error: {path}: {told}\n"
    done = subprocess.run([*command, "--skip"], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["skipped"] == [{"number": 2, "reason": told}]
    assert [row["row"] for row in found["by_row"]] == [1, 3]
    assert done.stderr == f"skipped 1 of 3 rows of {path}\nskipped: {told}\n"


def test_a_file_of_which_no_row_can_be_timed_is_refused_even_if_rows_may_be_skipped(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "rows.csv", P="9999")
    with pytest.raises(UserError) as error:
        gemmini.read_good_rows(path)
    assert str(error.value).startswith(
        f"{path}: none of 1 rows can be timed; the first: row 1: mapping: the loops over"
    )


def test_the_tile_machine_does_the_same_products_and_is_too_fast() -> None:
    """docs/gemmini.md: without host, caches and request windows small tiles cost too little."""
    arch, row = load_architecture("gemmini_16"), gemmini.read_rows()[37]
    launch = gemmini_tiles.layer_launch(row.layer, arch)
    assert launch.graph.macs() == 388 * 388 * 2 * 64
    assert 3 * gemmini_tiles.tile_machine_cycles(row.layer, arch) < row.rtl_cycles


# The system's file ----------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(size=st.integers(1, 4096), ways=st.integers(1, 16))
def test_a_cache_has_a_power_of_two_of_sets(size: int, ways: int) -> None:
    from xaisim.config import load_data
    from xaisim.hardware.soc import Cache

    data = {"size": f"{size}KiB", "ways": ways, "line": "64B"}
    sets = size * 1024 / 64 / ways
    if sets == int(sets) and int(sets) & (int(sets) - 1) == 0:
        assert load_data(Cache, data).sets == sets
    else:
        with pytest.raises(UserError, match="must give a power of two of sets"):
            load_data(Cache, data)


def test_a_request_is_a_line_and_a_block_holds_lines(tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "arch_configs" / "soc" / "gemmini_16.yaml").read_text()
    path = tmp_path / "soc.yaml"
    for old, new, told in (
        ("largest: 64B", "largest: 32B", "reads.largest: must be l2.line, 64 bytes (got 32)"),
        ("line: 128B", "line: 32B", "llc.line: must be a multiple of l2.line 64 (got 32)"),
        ("base_offsets: [0, 24]", "base_offsets: [0, 64]", "base_offsets[1]: must be from 0 to less than l2.line 64"),
    ):
        path.write_text(text.replace(old, new))
        with pytest.raises(UserError) as error:
            load_soc(path)
        assert told in str(error.value)
