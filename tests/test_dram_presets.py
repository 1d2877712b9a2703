"""Is an impossible DRAM refused with the rule and the value, does every key matter, and does it print in a line?"""

from __future__ import annotations

from typing import Any

import pytest
from small_dram import NEXT_ROW, OTHER_GROUP, SIMPLE, SIX_BANKS, SMALL, at, dram, pieces, transfers

from xaisim.config import UserError, load_data, load_yaml, shipped_names
from xaisim.hardware import Dram, load_dram_timing
from xaisim.hardware.dram_service import service
from xaisim.validate import dram as validate_dram

PRESETS = shipped_names("arch_configs/dram")


def refusal(**changes: Any) -> list[str]:
    data = {"name": "dram", "kind": "dram", "size": "1MiB", "timing": {**SMALL, **changes}, "energy": "generic"}
    with pytest.raises(UserError) as error:
        load_data(Dram, data, "d.yaml")
    return str(error.value).splitlines()


IMPOSSIBLE = [
    ({"RC": 40}, "RC: must be RAS + RP, 41 clocks (got 40)"),
    ({"RAS": 12, "RC": 23}, "RAS: must be at least RCD + CCD_S, 13 clocks (got 12)"),
    ({"FAW": 15}, "FAW: must be at least 4 RRD_S, 16 clocks (got 15)"),
    ({"CCD_S": 3}, "CCD_S: must be at least a burst, 8/2 clocks, 4 clocks (got 3)"),
    ({"CCD_L": 3}, "CCD_L: must be at least CCD_S, 4 clocks (got 3)"),
    ({"RRD_L": 3}, "RRD_L: must be at least RRD_S, 4 clocks (got 3)"),
    (
        {"RTW": 5},
        "RTW: must be at least CL + burst - CWL, or read and write data meet on the bus, 6 clocks (got 5)",
    ),
    ({"refresh_ns": 7780.0}, "refresh_ns: must be below refresh_every_ns less RTP + RP + RCD, 7773 (got 7780)"),
    ({"banks": 12}, "banks: must be a power of two (got 12)"),
    ({"banks": 1}, "banks: must be divisible by bank_groups, 2 (got 1)"),
    ({"channels": 3, "interleave": "256B"}, "channels: must be a power of two (got 3)"),
    ({"channels": 2}, "interleave: required key missing: 2 channels share the addresses"),
    ({"interleave": "256B"}, "interleave: one channel has nothing to interleave (got 256B)"),
    ({"channels": 2, "interleave": "32B"}, "interleave: must be at least a burst, 64B (got 32B)"),
    ({"row_size": "32B"}, "row_size: a row must hold a burst, 64B (got 32B)"),
    ({"row_size": "1000B"}, "row_size: must be a power of two (got 1000)"),
    ({"burst_length": 1}, "burst_length: must be at least transfers_per_clock, 2 (got 1)"),
    ({"lookahead_bursts": 5}, "lookahead_bursts: must be a power of two (got 5)"),
    (
        {"address_map": "RoBaCo"},
        "address_map: must name each of Ro (row), Ba (bank), Bg (bank group), Co (column) once, "
        "e.g. RoBaBgCo (got 'RoBaCo')",
    ),
    ({"tck_ns": 0}, "tck_ns: must be greater than 0 (got 0)"),
    ({"page_policy": "shut"}, "page_policy: must be one of open, closed (got 'shut')"),
    ({"tRP": 5}, "tRP: unknown key; did you mean 'RP'?"),
]


@pytest.mark.parametrize(("changes", "text"), IMPOSSIBLE, ids=[text.split(":")[0] for _, text in IMPOSSIBLE])
def test_an_impossible_preset_is_refused_with_the_rule_and_the_value(changes: dict[str, Any], text: str) -> None:
    lines = refusal(**changes)
    assert len(lines) == 1
    assert lines[0].startswith(f"d.yaml: timing.{text}")


def test_one_bank_group_knows_one_distance_only() -> None:
    assert refusal(bank_groups=1) == [
        "d.yaml: timing.CCD_S: with one bank group must equal CCD_L, 6 (got 4)",
        "d.yaml: timing.RRD_S: with one bank group must equal RRD_L, 5 (got 4)",
    ]


def test_a_size_must_be_whole_rows_and_as_many_as_the_map_can_tell() -> None:
    with pytest.raises(UserError, match=r"size: must be whole rows of 8 banks, 8KiB \(got 12KiB\)"):
        dram(size="12KiB")
    assert dram(size="24KiB").size == 24 * 1024
    with pytest.raises(UserError, match=r"size: BaBgRoCo needs a power of two of rows, Ro in front does not \(got 3"):
        dram(size="24KiB", address_map="BaBgRoCo")


def test_a_dram_is_either_simple_or_timed() -> None:
    with pytest.raises(UserError) as error:
        load_data(Dram, {**SIMPLE, "timing": "ddr4_2400r"}, "d.yaml")
    assert str(error.value).splitlines() == [
        "d.yaml: bytes_per_cycle: follows from timing 'ddr4_2400r'; give one of the two (got 16)",
        "d.yaml: latency_cycles: follows from timing 'ddr4_2400r'; give one of the two (got 40)",
        "d.yaml: burst_bytes: follows from timing 'ddr4_2400r'; give one of the two (got 64)",
    ]
    with pytest.raises(UserError, match=r"port_bytes_per_cycle: stands beside a timing; .* is all \(got 8\)"):
        load_data(Dram, {**SIMPLE, "port_bytes_per_cycle": 8})
    text = "name: dram\nkind: dram\nsize: 1GiB\nburst_bytes: 64\nenergy: ddr3\n"
    with pytest.raises(UserError) as error:
        load_yaml(Dram, "d.yaml", text=text)
    assert str(error.value).splitlines() == [
        "d.yaml:1:1: bytes_per_cycle: required key missing",
        "d.yaml:1:1: latency_cycles: required key missing",
    ]


def test_an_unknown_preset_is_told_with_the_choices() -> None:
    text = "name: dram\nkind: dram\nsize: 1GiB\nenergy: ddr3\ntiming: ddr4_2400\n"
    choices = ", ".join(PRESETS)
    for written, column in (("ddr4_2400", 9), ("{like: ddr4_2400}", 16)):
        with pytest.raises(UserError) as error:
            load_yaml(Dram, "d.yaml", text=text.replace("timing: ddr4_2400", f"timing: {written}"))
        where = "timing" if column == 9 else "timing.like"
        unknown = f"unknown DRAM timing 'ddr4_2400'; did you mean 'ddr4_2400r'? choices: {choices}"
        assert str(error.value) == f"d.yaml:5:{column}: {where}: {unknown}"


def test_a_mapping_like_a_preset_changes_what_it_names() -> None:
    timing = {"like": "ddr3_1600k", "bus_bits": 16, "row_size": "2KiB", "RRD_S": 6, "RRD_L": 6, "FAW": 32}
    narrow = load_data(Dram, {"name": "dram", "kind": "dram", "size": "512MiB", "timing": timing, "energy": "ddr3"})
    assert narrow.timing is not None
    base = load_dram_timing("ddr3_1600k")
    changed = {"bus_bits": 16, "row_size": 2048, "RRD_S": 6, "RRD_L": 6, "FAW": 32}
    assert narrow.timing == base.model_copy(update=changed)
    assert narrow.port(100).bytes_per_cycle == 32.0  # 1600 MT/s x 2 B at 100 MHz
    assert load_data(Dram, narrow.model_dump(mode="json")) == narrow


def test_a_dram_prints_its_timing_in_one_line() -> None:
    data = {"name": "dram", "kind": "dram", "size": "2GiB", "timing": "ddr4_2400r", "energy": "generic"}
    assert str(load_data(Dram, data)) == (
        "dram: generic 2GiB, ddr4_2400r (DDR4-2400R, 8 Gb x8), 1 channel of 64 bits, 19.21 GB/s, 16 banks in 4 groups, "
        "rows of 8KiB, CL-RCD-RP-RAS 16-16-16-39 at 0.833 ns, RoBaCoBg, open rows"
    )
    assert str(load_data(Dram, SIMPLE)) == "dram: ddr3 1GiB, 16 B/cycle, latency 40, burst 64 B"


CHANGED: dict[str, Any] = {
    "channels": 2, "interleave": "1KiB", "bus_bits": 128, "burst_length": 16, "bank_groups": 4, "banks": 16,
    "row_size": "2KiB", "tck_ns": 1.1, "transfers_per_clock": 4, "CL": 12, "CWL": 10, "RCD": 12, "RP": 20, "RAS": 45,
    "CCD_S": 6, "CCD_L": 9, "RRD_S": 5, "RRD_L": 11, "FAW": 50, "RTP": 40, "WR": 30, "RTW": 60, "WTR": 60,
    "refresh_every_ns": 3900.0, "refresh_ns": 500.0, "address_map": "RoBaCoBg", "page_policy": "closed",
    "lookahead_bursts": 1, "controller_ns": 90.0,
}  # fmt: skip
LONG = {"CCD_S": 8, "CCD_L": 8, "RTW": 12}
BOTH: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # what else must differ from the small one, before and after
    "channels": ({}, {"interleave": "256B"}),
    "interleave": ({"channels": 2, "interleave": "256B"}, {}),
    "burst_length": (LONG, {}),
}


@pytest.mark.parametrize("key", CHANGED)
def test_every_key_of_a_timing_changes_what_a_transfer_costs(key: str) -> None:
    before, after = BOTH.get(key, ({}, {}))
    slow, fast = dram(**before), dram(**{**before, **after, key: CHANGED[key]})
    rows = [pieces(0, size=3000), NEXT_ROW, SIX_BANKS, OTHER_GROUP, pieces(3 * 1024, inner=(3, 700), size=300)]
    rows.append(pieces(at(3), inner=(2, at(0, 0, 1))))
    writes = [0, 1, 0, 1, 0, 1]
    one, other = (service(memory, *transfers(*rows, writes=writes)) for memory in (slow, fast))
    same = all((a == b).all() for a, b in zip(one, other, strict=True))
    assert not same or slow.latency_cycles != fast.latency_cycles


# The section of the validation page -----------------------------------------------------------------------------------


def test_the_validation_section_holds_and_notices_a_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    found = validate_dram.section()
    assert found.exact
    assert found.verdict == "25 of 25 equal"
    wrong = validate_dram.PUBLISHED[1]._replace(RP=17)
    monkeypatch.setattr(validate_dram, "PUBLISHED", (wrong,))
    assert validate_dram.section().verdict == "4 of 5 equal"


def test_a_timing_without_its_keys_is_one_line_that_names_presets() -> None:
    data = {"name": "dram", "kind": "dram", "size": "1MiB", "timing": {}, "energy": "generic"}
    text = r"timing: \d+ required keys missing; name a preset, or start from one with like; choices: .*ddr4_2400r"
    with pytest.raises(UserError, match=text) as error:
        load_data(Dram, data)
    assert "\n" not in str(error.value)
    data["timing"] = {key: value for key, value in SMALL.items() if key not in ("CL", "RCD")}
    with pytest.raises(UserError) as error:
        load_data(Dram, data)
    assert str(error.value).splitlines() == [f"options: timing.{key}: required key missing" for key in ("CL", "RCD")]
