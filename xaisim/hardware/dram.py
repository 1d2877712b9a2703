"""The memory outside the chip, as a user writes it and as a machine of one clock sees it.

    Dram(kind="dram", bytes_per_cycle=16, latency_cycles=40, burst_bytes=64, ...)     a bus, and no more
    Dram(kind="dram", timing="ddr4_2400r", ...)                                       channels, banks, open rows

``DramTiming`` is a named preset of ``arch_configs/dram`` or a mapping written in place, perhaps ``{like: ddr4_2400r,
channels: 2}``. What it makes of a schedule's transfers is computed in ``hardware/dram_service.py``.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from xaisim.config import (
    Bytes,
    Config,
    KeyPath,
    RuleError,
    UserError,
    find_named,
    format_bytes,
    load_yaml,
    shipped_names,
)

Problem = tuple[KeyPath, str]
Clocks = Annotated[int, Field(ge=1, le=1_000_000)]
FIELDS = {"Ro": "row", "Ba": "bank", "Bg": "bank group", "Co": "column"}


class DramTiming(Config):
    """Channels of banks with their timing, in memory clocks unless the name says ``ns``.

    Names are those of the JEDEC standards without the leading t; ``WTR`` is between commands to one bank group, and
    ``RC`` is a sum that is given so that a preset can be checked. ``address_map`` lists row, bank, bank group and
    column of a burst from the most significant part down, for addresses within a channel; ``interleave`` bytes go to
    one channel before the next has its turn.
    """

    name: str = Field(min_length=1)
    standard: str = Field(min_length=1)
    source: str = Field(min_length=1)
    # Organisation
    channels: int = Field(ge=1, le=64)
    interleave: Bytes | None = None
    bus_bits: int = Field(ge=8, le=1024)
    burst_length: int = Field(ge=1, le=64)
    bank_groups: int = Field(ge=1, le=64)
    banks: int = Field(ge=1, le=1024)
    row_size: Bytes
    # Timing
    tck_ns: float = Field(gt=0, le=100)
    transfers_per_clock: int = Field(ge=1, le=16)
    CL: Clocks
    CWL: Clocks
    RCD: Clocks
    RP: Clocks
    RAS: Clocks
    RC: Clocks
    CCD_S: Clocks
    CCD_L: Clocks
    RRD_S: Clocks
    RRD_L: Clocks
    FAW: Clocks
    RTP: Clocks
    WR: Clocks
    RTW: Clocks
    WTR: Clocks
    refresh_every_ns: float = Field(gt=0, le=1e9)
    refresh_ns: float = Field(gt=0, le=1e9)
    # Controller
    address_map: str
    page_policy: Literal["open", "closed"]
    lookahead_bursts: int = Field(ge=1, le=256)
    controller_ns: float = Field(ge=0, le=1e6)

    @model_validator(mode="after")
    def _check(self) -> DramTiming:
        problems = _organisation_problems(self)
        problems = problems or _timing_problems(self) + _map_problems(self)  # the rest divides by these
        if problems:
            raise RuleError(problems)
        return self

    @property
    def burst_bytes(self) -> int:
        """The bytes that one column command moves on one channel."""
        return self.bus_bits * self.burst_length // 8

    @property
    def burst_clocks(self) -> int:
        """The memory clocks that a burst occupies the data bus."""
        return self.burst_length // self.transfers_per_clock

    @property
    def peak_bytes_per_ns(self) -> float:
        """What the buses of all channels carry when they never pause (10⁹ bytes per second)."""
        return self.channels * self.bus_bits / 8 * self.transfers_per_clock / self.tck_ns

    @property
    def write_to_read(self) -> int:
        """Clocks from a write command to a read command: latency, data, then WTR."""
        return self.CWL + self.burst_clocks + self.WTR

    @property
    def write_recovery(self) -> int:
        """Clocks from a write command to the precharge of its bank: latency, data, then WR."""
        return self.CWL + self.burst_clocks + self.WR

    @property
    def refresh_pause_ns(self) -> Fraction:
        """From the last read before a refresh to the first one behind it: close the row, refresh, open it again."""
        return exact(self.refresh_ns) + self._around_refresh

    @property
    def _around_refresh(self) -> Fraction:
        return (self.RTP + self.RP + self.RCD) * exact(self.tck_ns)

    @property
    def refresh_per_clock(self) -> Fraction:
        """The clocks that refresh adds to one that the DRAM is used for: its share of each interval, spread evenly."""
        pause = self.refresh_pause_ns
        return (pause / (exact(self.refresh_every_ns) - pause)).limit_denominator(10**9)

    def cycles_per_clock(self, clock_mhz: float) -> Fraction:
        """Return the accelerator cycles in a memory clock (rounded only where 10⁶ is too small a denominator)."""
        return (exact(self.tck_ns) * exact(clock_mhz) / 1000).limit_denominator(1_000_000)

    def __str__(self) -> str:
        times = "-".join(str(n) for n in (self.CL, self.RCD, self.RP, self.RAS))
        channels = f"{self.channels} channels" if self.channels > 1 else "1 channel"
        return (
            f"{self.name} ({self.standard}), {channels} of {self.bus_bits} bits, {self.peak_bytes_per_ns:.4g} GB/s, "
            f"{self.banks} banks in {self.bank_groups} groups, rows of {format_bytes(self.row_size)}, "
            f"CL-RCD-RP-RAS {times} at {self.tck_ns:g} ns, {self.address_map}, {self.page_policy} rows"
        )


def load_dram_timing(name: str) -> DramTiming:
    """Return a preset of ``arch_configs/dram`` (or a file); raise ``UserError`` with the choices if unknown."""
    return load_yaml(DramTiming, find_named("arch_configs/dram", name, kind="DRAM timing"))


_FEW = 3
"""So many missing keys of a timing are told one by one; with more, the user wanted a preset."""


def _named(value: Any) -> Any:
    """Put a preset in the place of its name, and below the keys of a mapping that is ``like`` it."""
    name = value.get("like") if isinstance(value, dict) else value
    if isinstance(value, dict) and name is None:
        missing = [key for key, field in DramTiming.model_fields.items() if field.is_required() and key not in value]
        if len(missing) > _FEW:
            presets = ", ".join(shipped_names("arch_configs/dram"))
            text = (
                f"{len(missing)} required keys missing; name a preset, or start from one with like; choices: {presets}"
            )
            raise RuleError([((), text)])
    if not isinstance(name, str):
        return value
    try:
        preset = load_dram_timing(name).model_dump(mode="json")
    except UserError as error:
        path: KeyPath = ("like",) if isinstance(value, dict) else ()
        raise RuleError([(path, str(error))]) from None
    own = {key: given for key, given in value.items() if key != "like"} if isinstance(value, dict) else {}
    return {**preset, **own}


Timing = Annotated[
    DramTiming, BeforeValidator(_named), WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object"}]})
]


class DramPort(NamedTuple):
    """A DRAM as a machine of one clock sees it: with ``timing``, the rate is that of buses that never pause.

    ``latency_cycles`` passes between a read transfer's time on the bus and its data being there.
    """

    name: str
    size: int
    energy: str
    clock_mhz: float
    bytes_per_cycle: float
    latency_cycles: int
    burst_bytes: int
    timing: DramTiming | None
    port_bytes_per_cycle: float | None


class Dram(Config):
    """The memory outside the chip: either a bus with a bandwidth, a latency and a smallest burst, or a ``timing``.

    ``latency_cycles`` delays when a transfer's data is there; it does not occupy the bus. Every contiguous segment
    is rounded up to ``burst_bytes``. Beside a ``timing``, ``port_bytes_per_cycle`` is what the chip's own port carries,
    where that is less than the DRAM's peak. ``energy`` names a DRAM row of the cost table.
    """

    name: str = Field(min_length=1)
    kind: Literal["dram"]
    size: Bytes
    bytes_per_cycle: float | None = Field(default=None, gt=0)
    latency_cycles: int | None = Field(default=None, ge=0)
    burst_bytes: int | None = Field(default=None, ge=1)
    timing: Timing | None = None
    port_bytes_per_cycle: float | None = Field(default=None, gt=0)
    energy: str

    @model_validator(mode="after")
    def _check(self) -> Dram:
        simple = {key: getattr(self, key) for key in ("bytes_per_cycle", "latency_cycles", "burst_bytes")}
        if self.timing is None:
            problems: list[Problem] = [((k,), "required key missing") for k, v in simple.items() if v is None]
            if self.port_bytes_per_cycle is not None:
                text = f"stands beside a timing; without one bytes_per_cycle is all (got {self.port_bytes_per_cycle:g})"
                problems.append((("port_bytes_per_cycle",), text))
        else:
            text = f"follows from timing {self.timing.name!r}; give one of the two"
            problems = [((k,), f"{text} (got {v:g})") for k, v in simple.items() if v is not None]
            problems += _size_problems(self.size, self.timing)
        if problems:
            raise RuleError(problems)
        return self

    def port(self, clock_mhz: float) -> DramPort:
        """Return what a machine of that clock sees."""
        t = self.timing
        if t is None:
            assert self.bytes_per_cycle is not None
            assert self.latency_cycles is not None
            assert self.burst_bytes is not None
            rate, latency, burst = self.bytes_per_cycle, self.latency_cycles, self.burst_bytes
        else:
            ratio = t.cycles_per_clock(clock_mhz)
            peak = float(t.channels * t.burst_bytes / (t.burst_clocks * ratio))
            rate = min(peak, self.port_bytes_per_cycle or peak)
            latency = math.ceil(t.CL * ratio + exact(t.controller_ns) * exact(clock_mhz) / 1000)
            burst = t.burst_bytes
        return DramPort(
            self.name, self.size, self.energy, clock_mhz, rate, latency, burst, t, self.port_bytes_per_cycle
        )

    def __str__(self) -> str:
        port = "" if self.port_bytes_per_cycle is None else f", port {self.port_bytes_per_cycle:g} B/cycle"
        what = f"{self.timing}{port}"
        if self.bytes_per_cycle is not None:
            what = f"{self.bytes_per_cycle:g} B/cycle, latency {self.latency_cycles}, burst {self.burst_bytes} B"
        return f"{self.name}: {self.energy} {format_bytes(self.size)}, {what}"


def exact(number: float) -> Fraction:
    """Return a decimal number as it was written: 0.833 is 833/1000."""
    return Fraction(repr(number))


# --- what no DRAM can be ----------------------------------------------------------------------------------------------


def _organisation_problems(t: DramTiming) -> list[Problem]:
    """Check counts and sizes: powers of two, and each a whole number of the next smaller."""
    counts = {"channels": t.channels, "bus_bits": t.bus_bits, "burst_length": t.burst_length, "banks": t.banks}
    counts |= {"bank_groups": t.bank_groups, "row_size": t.row_size, "transfers_per_clock": t.transfers_per_clock}
    counts |= {"lookahead_bursts": t.lookahead_bursts}
    counts |= {"interleave": t.interleave} if t.interleave else {}
    problems: list[Problem] = [
        ((key,), f"must be a power of two (got {count})") for key, count in counts.items() if count & (count - 1)
    ]
    if problems:
        return problems
    if t.banks < t.bank_groups:
        problems.append((("banks",), f"must be divisible by bank_groups, {t.bank_groups} (got {t.banks})"))
    if t.burst_length < t.transfers_per_clock:
        text = f"must be at least transfers_per_clock, {t.transfers_per_clock} (got {t.burst_length})"
        problems.append((("burst_length",), text))
    if t.row_size < t.burst_bytes:
        text = f"a row must hold a burst, {format_bytes(t.burst_bytes)} (got {format_bytes(t.row_size)})"
        problems.append((("row_size",), text))
    if t.channels > 1 and t.interleave is None:
        problems.append((("interleave",), f"required key missing: {t.channels} channels share the addresses"))
    if t.channels == 1 and t.interleave is not None:
        text = f"one channel has nothing to interleave (got {format_bytes(t.interleave)})"
        problems.append((("interleave",), text))
    if t.interleave is not None and t.interleave < t.burst_bytes:
        text = f"must be at least a burst, {format_bytes(t.burst_bytes)} (got {format_bytes(t.interleave)})"
        problems.append((("interleave",), text))
    return problems


def _timing_problems(t: DramTiming) -> list[Problem]:
    """Check each timing against the ones it cannot undercut."""
    burst = f"a burst, {t.burst_length}/{t.transfers_per_clock} clocks"
    least = [
        ("RAS", t.RAS, "RCD + CCD_S", t.RCD + t.CCD_S),
        ("CCD_S", t.CCD_S, burst, t.burst_clocks),
        ("CCD_L", t.CCD_L, "CCD_S", t.CCD_S),
        ("RRD_L", t.RRD_L, "RRD_S", t.RRD_S),
        ("FAW", t.FAW, "4 RRD_S", 4 * t.RRD_S),
        ("RTW", t.RTW, "CL + burst - CWL, or read and write data meet on the bus", t.CL + t.burst_clocks - t.CWL),
    ]
    problems: list[Problem] = [
        ((key,), f"must be at least {rule}, {bound} clocks (got {value})")
        for key, value, rule, bound in least
        if value < bound
    ]
    if t.RC != t.RAS + t.RP:
        problems.append((("RC",), f"must be RAS + RP, {t.RAS + t.RP} clocks (got {t.RC})"))
    if t.bank_groups == 1:
        for short, long in (("CCD_S", "CCD_L"), ("RRD_S", "RRD_L")):
            if getattr(t, short) != getattr(t, long):
                text = f"with one bank group must equal {long}, {getattr(t, long)} (got {getattr(t, short)})"
                problems.append(((short,), text))
    if t.refresh_pause_ns >= exact(t.refresh_every_ns):
        limit = float(exact(t.refresh_every_ns) - t._around_refresh)
        text = f"must be below refresh_every_ns less RTP + RP + RCD, {limit:g} (got {t.refresh_ns:g})"
        problems.append((("refresh_ns",), text))
    return problems


def _map_problems(t: DramTiming) -> list[Problem]:
    needed = [part for part in FIELDS if part != "Bg" or t.bank_groups > 1 or "Bg" in t.address_map]
    if sorted(address_parts(t)) == sorted(needed):
        return []
    names = ", ".join(f"{part} ({FIELDS[part]})" for part in needed)
    return [(("address_map",), f"must name each of {names} once, e.g. {''.join(needed)} (got {t.address_map!r})")]


def address_parts(t: DramTiming) -> list[str]:
    """Return the parts of an address map, most significant first: ``["Ro", "Ba", "Co"]``."""
    return [t.address_map[i : i + 2] for i in range(0, len(t.address_map), 2)]


def _size_problems(size: int, t: DramTiming) -> list[Problem]:
    """Check that the size is whole rows of all banks, and as many as the address map can tell apart."""
    all_banks = t.channels * t.banks * t.row_size
    rows, rest = divmod(size, all_banks)
    if rest:
        text = (
            f"must be whole rows of {t.channels * t.banks} banks, {format_bytes(all_banks)} (got {format_bytes(size)})"
        )
        return [(("size",), text)]
    if rows & (rows - 1) and address_parts(t)[0] != "Ro":
        text = f"{t.address_map} needs a power of two of rows, Ro in front does not (got {rows} rows)"
        return [(("size",), text)]
    return []
