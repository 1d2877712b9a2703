"""Do ports of on-chip memories carry what they can and no more: banks, one port for both ways, words?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from random_graphs import dry_program, machines, networks

from xaisim.attribution.device import Launch
from xaisim.config import UserError, load_data
from xaisim.hardware import Architecture, load_architecture
from xaisim.hardware.costs import EnergyModel, load_costs
from xaisim.hardware.fpga import bram36s, buffer_bram36s
from xaisim.hardware.memory import Sram
from xaisim.ir.graph import Graph
from xaisim.mapping.schedule import Schedule, map_again, map_kernel
from xaisim.mapping.tiles import TileGraph, Unit
from xaisim.models import load_model
from xaisim.simulate.clock import run_loop


def with_memory(arch: Architecture, memory: str, **keys: Any) -> Architecture:
    """Return a machine with some keys of one memory changed."""
    data = arch.model_dump(mode="json") | {"board": None}
    next(m for m in data["memories"] if m["name"] == memory).update(keys)
    return load_data(Architecture, data)


def slow_sums(**keys: Any) -> Architecture:
    """A weight-stationary machine with no other narrow port than that of the partial sums."""
    arch = load_architecture("edge_systolic_16_ws")
    for memory in ("activations", "weights"):
        arch = with_memory(arch, memory, bytes_per_cycle=4096)
    return with_memory(arch, "partial_sums", bytes_per_cycle=8, **keys)


def gradient(network: str = "cifar_cnn") -> Launch:
    return dry_program(load_model(network, values=False).graph, "saliency")[0]


def mapped(graph: Graph, arch: Architecture) -> list[Schedule]:
    """Return the schedules of a path method; examples that do not fit are passed over."""
    try:
        return [map_kernel(launch.graph, arch) for launch in dry_program(graph, "integrated_gradients", n_steps=2)]
    except UserError:
        assume(False)
        raise


def assert_no_port_is_too_fast(tiles: TileGraph, arch: Architecture, trips: int = 2) -> None:
    """Bytes over what all ports of a memory carry in a cycle; without banks every unit has ports of its own."""
    cycles = run_loop(tiles, trips).cycles
    for index, memory in enumerate(arch.memories):
        if not isinstance(memory, Sram):
            continue
        read, written = tiles.read_bytes[:, index] * trips, tiles.write_bytes[:, index] * trips
        if memory.banks is not None:
            assert (read + written).sum() / (memory.bytes_per_cycle * memory.ports * memory.banks) <= cycles, memory
        for unit in range(len(tiles.units)):
            mine = tiles.unit == unit
            assert max(read[mine].sum(), written[mine].sum()) / memory.bytes_per_cycle <= cycles, memory


# Never too fast -------------------------------------------------------------------------------------------------------


@given(graph=networks(layers=3, side=7, channels=4), arch=machines())
def test_no_memory_moves_more_bytes_than_its_ports_carry(graph: Graph, arch: Architecture) -> None:
    for schedule in mapped(graph, arch):
        assert_no_port_is_too_fast(schedule.tiles, arch)


@pytest.mark.parametrize(("banks", "ports"), [(1, 1), (1, 2), (2, 1), (4, 1)])
def test_sums_that_come_back_share_the_port_with_those_that_leave(banks: int, ports: int) -> None:
    """A weight-stationary array reads and writes a sum per fold, all through the memory of partial sums."""
    keys: dict[str, Any] = {"bytes_per_cycle": 24, "banks": banks, "ports": ports}
    arch = with_memory(load_architecture("edge_systolic_16_ws"), "partial_sums", **keys)
    assert_no_port_is_too_fast(map_kernel(gradient().graph, arch).tiles, arch)


def test_a_row_that_reads_and_writes_one_bank_takes_both_times_where_it_has_one_port() -> None:
    one, two = (slow_sums(banks=1, ports=ports) for ports in (1, 2))
    schedule = map_kernel(gradient().graph, two)
    tiles, slow = schedule.tiles, map_again(schedule, one).tiles
    at = [memory.name for memory in one.memories].index("partial_sums")
    array = np.array([seat.kind is Unit.ARRAY for seat in tiles.units])[tiles.unit]
    read, written = tiles.read_bytes[array, at], tiles.write_bytes[array, at]
    assert (read > 0).any()
    assert tiles.port_cycles[array].tolist() == np.ceil(np.maximum(read, written) / 8).tolist()
    assert slow.port_cycles[array].tolist() == (np.ceil(read / 8) + np.ceil(written / 8)).tolist()
    assert (slow.occupy_cycles >= slow.port_cycles).all()


# Never slower for more ------------------------------------------------------------------------------------------------


@given(graph=networks(layers=3, side=7, channels=4), arch=machines(), data=st.data())
def test_more_banks_ports_or_bytes_per_cycle_are_never_slower_under_a_fixed_schedule(
    graph: Graph, arch: Architecture, data: Any
) -> None:
    memory = data.draw(st.sampled_from([m for m in arch.on_chip if m.banks is not None] or list(arch.on_chip)))
    more = [("bytes_per_cycle", memory.bytes_per_cycle * data.draw(st.sampled_from([1.1, 2, 3])))]
    if memory.banks is not None:
        factor = data.draw(st.sampled_from([2, 4, 16]))
        more += [
            ("ports", 2),
            *([("banks", memory.banks * factor)] if memory.size % (memory.banks * factor) == 0 else []),
        ]
    for schedule in mapped(graph, arch):
        before = run_loop(schedule.tiles, 3).cycles
        for key, value in more:
            faster = map_again(schedule, with_memory(arch, memory.name, **{key: value}))
            assert run_loop(faster.tiles, 3).cycles <= before, key


@pytest.mark.parametrize("ports", [1, 2])
def test_every_doubling_of_the_banks_is_no_slower_on_a_shipped_network(ports: int) -> None:
    arch = load_architecture("pynq_z2")
    name = arch.on_chip[0].name
    banked = [with_memory(arch, name, banks=1 << i, ports=ports) for i in range(8)]
    schedule = map_kernel(gradient("resnet18_tiny").graph, banked[0])
    cycles = [run_loop(map_again(schedule, machine).tiles, 1).cycles for machine in banked]
    assert cycles == sorted(cycles, reverse=True)
    assert cycles[-1] < cycles[0]


def test_a_thousand_banks_add_few_edges() -> None:
    """Banks that the same two rows need one after the other are one edge."""
    arch = with_memory(load_architecture("edge_systolic_16_ws"), "partial_sums", banks=1024)
    tiles = map_kernel(gradient().graph, arch).tiles
    pairs = np.stack([tiles.edge_from, tiles.edge_to, tiles.edge_kind, tiles.edge_distance])
    assert pairs.shape[1] == np.unique(pairs, axis=1).shape[1]


@pytest.mark.parametrize(("banks", "near"), [(3, "2 or 4"), (5, "4 or 8"), (15, "8 or 16")])
def test_banks_are_a_power_of_two(banks: int, near: str) -> None:
    with pytest.raises(UserError, match=rf"banks: must be a power of two, such as {near} \(got {banks}\)"):
        with_memory(load_architecture("pynq_z2"), "activations", banks=banks, size="120KiB")


def test_ports_name_their_choices() -> None:
    with pytest.raises(UserError, match=r"ports: must be one of 1, 2 \(got 3\)"):
        with_memory(load_architecture("pynq_z2"), "activations", banks=2, ports=3)


# Words ----------------------------------------------------------------------------------------------------------------


def sram(**keys: Any) -> Sram:
    common = {"name": "m", "kind": "sram", "size": "4KiB", "holds": ["weight"], "bytes_per_cycle": 8, "buffers": 2}
    return load_data(Sram, common | keys)


@given(elements=st.integers(0, 300), bits=st.integers(1, 64), word=st.integers(1, 130))
def test_a_word_holds_whole_elements_only(elements: int, bits: int, word: int) -> None:
    """Against putting one element after the other into words."""
    words, left = 0, 0
    for _ in range(elements):
        if bits > word:
            words += math.ceil(bits / word)
        elif left >= bits:
            left -= bits
        else:
            words, left = words + 1, word - bits
    assert sram(word_bits=word).stored_bytes(elements, bits) == words * word / 8
    assert sram().stored_bytes(elements, bits) == elements * bits / 8


def test_words_that_sums_do_not_fill_take_port_time_and_energy() -> None:
    """A sum of 48 bits takes a whole word of 64: a third more bytes, energy and port time."""
    arch = slow_sums()
    schedule = map_kernel(gradient().graph, arch)
    packed, worded = schedule.tiles, map_again(schedule, with_memory(arch, "partial_sums", word_bits=64)).tiles
    at = [memory.name for memory in arch.memories].index("partial_sums")
    assert (worded.read_bytes[:, at] * 3 == packed.read_bytes[:, at] * 4).all()
    assert (worded.write_bytes[:, at] * 3 == packed.write_bytes[:, at] * 4).all()
    array = np.array([seat.kind is Unit.ARRAY for seat in packed.units])[packed.unit]
    busiest = np.maximum(worded.read_bytes, worded.write_bytes)[array, at]
    assert worded.port_cycles[array].tolist() == np.ceil(busiest / 8).tolist()
    assert run_loop(worded, 1).cycles > run_loop(packed, 1).cycles


@pytest.mark.parametrize("memory", ["activations", "weights", "partial_sums", "masks"])
def test_words_that_elements_fill_change_nothing(memory: str) -> None:
    arch = load_architecture("edge_systolic_16_ws")
    filled = with_memory(arch, memory, word_bits=8 if memory == "masks" else 48)
    schedule = map_kernel(gradient("resnet18_tiny").graph, arch)
    packed, worded = schedule.tiles, map_again(schedule, filled).tiles
    at = [m.name for m in arch.memories].index(memory)
    difference = worded.read_bytes + worded.write_bytes - packed.read_bytes - packed.write_bytes
    assert (np.delete(difference, at, axis=1) == 0).all()
    assert (difference[:, at] >= 0).all()


# What else banks mean -------------------------------------------------------------------------------------------------


def test_a_bank_costs_the_energy_of_its_own_size() -> None:
    arch = load_architecture("edge_systolic_16")
    exponent = load_costs(arch.costs).sram.size_exponent
    banked = with_memory(arch, "activations", banks=4)
    whole, quarter = (EnergyModel(machine).memory_pj_per_byte("activations", "read") for machine in (arch, banked))
    assert quarter == pytest.approx(whole * (1 / 4) ** exponent)


def test_every_bank_takes_block_ram_of_its_own() -> None:
    size, width = 64 * 1024, 8
    depth = size // width
    for banks in (1, 4, 64):
        expected = bram36s(depth, width * 8, banks=banks)
        assert buffer_bram36s(sram(size="64KiB", bytes_per_cycle=width, banks=banks)) == expected
    # 64 banks of 128 words of 64 bits: two BRAM18 of 512x36 each
    assert buffer_bram36s(sram(size="64KiB", bytes_per_cycle=width, banks=64)) == 64
