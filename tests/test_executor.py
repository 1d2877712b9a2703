"""Do schedules compute the right bits when every tile is moved and computed on modelled memories?"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import WrongBuffers, faults, kernel, recorded, without_edges
from hypothesis import assume, given
from hypothesis import strategies as st
from random_graphs import RandomNetwork, machines, networks
from test_bits import numerics

from xaisim import flow
from xaisim.api import check_memory
from xaisim.attribution import METHODS
from xaisim.config import UserError, shipped_names
from xaisim.hardware import Architecture, load_architecture
from xaisim.ir.graph import Graph
from xaisim.ir.types import TensorType
from xaisim.mapping.choice import Choice
from xaisim.mapping.plan import plan_kernel
from xaisim.mapping.schedule import Schedule, map_kernel, schedule_of, verify
from xaisim.mapping.tiles import Edge, Unit
from xaisim.numerics.formats import Numerics
from xaisim.simulate import tile_rows
from xaisim.simulate.bits import Runs, box_runs, overlap, pack, read, runs_of, unpack, write
from xaisim.simulate.executor import MemoryFaultError
from xaisim.simulate.memory_check import Checked, Run, check
from xaisim.validate.executor import NETWORKS, table

Array = np.ndarray
SHORT: dict[str, dict[str, Any]] = {
    "guided_ig": {"n_steps": 1},
    "agi": {"k_classes": 1, "max_iter": 2},
    "adaptive_smooth_taylor": {"n_iterations": 1},
}
CHOICES = [Choice(keep=0.5), Choice(points=2, stay=0.5), Choice(keep=0.5, stay=0.25, points=4)]


def options_of(method: str, graph: Graph) -> dict[str, Any]:
    """Return options for a short run on a random network: at most four of what is repeated, a layer, baselines."""
    options = METHODS[method].few(4) | SHORT.get(method, {})
    known = METHODS[method].options
    if "layer" in known:
        options["layer"] = [node.name for node in graph.nodes if len(node.type.shape) == 3][-1]
    if "table" in known:
        options["table"] = np.ones(4) / 4
    if "baselines" in known:
        options["baselines"] = np.random.default_rng(1).normal(size=(3, *graph.inputs["input"].shape))
    return options


@given(data=st.data(), graph=networks(layers=4, side=9, channels=5), arch=machines(), chosen=numerics())
def test_a_random_network_on_a_random_machine_gives_the_same_bits(
    data: Any, graph: Graph, arch: Architecture, chosen: Numerics
) -> None:
    """With maps that stay and several points in flight where the order of addition is not part of the bits."""
    method = data.draw(st.sampled_from(list(METHODS)))
    free = arch.array.accumulator != "saturate"
    choice = data.draw(st.sampled_from([Choice(), *(CHOICES if free else [])]))
    x = np.random.default_rng(0).normal(size=(1, *graph.inputs["input"].shape))
    try:
        for run in recorded(graph, arch, method, chosen, x, **options_of(method, graph)):
            own = replace(choice, points=math.gcd(choice.points, run.trips))
            schedule = schedule_of(plan_kernel(run.graph, arch, own), arch, sync=run.sync)
            verify(schedule, arch)
            checked = check(run, arch, schedule)
            assert checked.equal, checked
    except UserError:
        assume(False)


def test_a_part_of_a_gradient_that_is_reshaped_is_read_where_it_lies() -> None:
    """Flattened behind a concat, a computed gradient comes back in slices of what is one vector in memory."""
    net = RandomNetwork(3)
    x = net.input("input", TensorType((2, 3, 4)))
    left, right = (net.window(x, n, (1, 1), (1, 1), (0,) * 4, True) for n in (2, 3))
    graph = net.build(net.head(net.add("both", "concat", left, net.add("relu", "relu", right)), 3, False))
    arch, picture = load_architecture("edge_systolic_16"), np.random.default_rng(0).normal(size=(1, 2, 3, 4))
    for run in recorded(graph, arch, "integrated_gradients", Numerics(), picture, n_steps=2, score="probability"):
        assert check(run, arch, map_kernel(run.graph, arch, sync=run.sync)).equal


# Shipped networks on shipped machines ---------------------------------------------------------------------------------

PRESETS = shipped_names("arch_configs")


@pytest.mark.parametrize(
    ("network", "method", "preset"),
    [(NETWORKS[i % 2], list(METHODS)[i % len(METHODS)], preset) for i, preset in enumerate(PRESETS)]
    + [("inception_v3_tiny", "gradcam", "eyeriss"), ("inception_v3_tiny", "saliency", "zcu104")],
)
def test_a_trained_network_gives_the_same_bits_on_a_shipped_machine(network: str, method: str, preset: str) -> None:
    (line,) = table([network], [method], [preset])
    assert line.differing == 0
    assert line.numbers > 0


# Seeded faults --------------------------------------------------------------------------------------------------------


def caught(faulty: Schedule) -> bool:
    """Return whether ``verify`` refuses a schedule, the executor does, or its bits differ."""
    run, arch, _ = kernel()
    try:
        verify(faulty, arch)
        return not check(run, arch, faulty).equal
    except ValueError:
        return True


def test_the_kernel_without_a_fault_is_right() -> None:
    run, arch, schedule = kernel()
    verify(schedule, arch)
    assert check(run, arch, schedule).equal


@pytest.mark.slow
def test_a_seeded_fault_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Edges, addresses in DRAM and on the chip, early reuse, regions, lost pieces: every seventh that there is."""
    monkeypatch.setattr(tile_rows, "Buffers", WrongBuffers)
    _, _, schedule = kernel()
    by_dma = np.array([seat.kind == Unit.DMA for seat in schedule.tiles.units])[schedule.tiles.unit]
    kinds: Counter[str] = Counter()
    coincidences: list[str] = []
    for name, faulty in itertools.islice(faults(schedule), 0, None, 7):
        kinds[re.sub(r"\d+", "N", name)] += 1
        if caught(faulty):
            continue
        edge = re.fullmatch(r"data edge (\d+)→(\d+) dropped", name)
        if edge:  # the bus moves everything in program order: one transfer behind the other needs no edge
            assert by_dma[int(edge[1])]
            assert by_dma[int(edge[2])]
        else:  # somewhere a copy of the same numbers may be left over
            coincidences.append(name)
    assert len(coincidences) <= 1
    assert all(name.startswith("row ") for name in coincidences), coincidences
    assert set(kinds) >= {
        "data edge N→N dropped", "buffer edge N→N dropped", "piece of row N one byte off", "piece of row N dropped",
        "row N a byte on", "row N a buffer back", "buffer of row N reused too early", "region of row N one off in rows",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "text"), [(Edge.DATA, "reads a buffer without"), (Edge.BUFFER, "fills a buffer without")]
)
def test_verify_refuses_a_schedule_without_the_edges_of_a_kind(kind: Edge, text: str) -> None:
    _, arch, schedule = kernel()
    with pytest.raises(ValueError, match=rf"row \d+ {text} waiting for row \d+"):
        verify(replace(schedule, tiles=without_edges(schedule.tiles, kind)), arch)


def test_a_fault_names_both_rows_and_what_they_do() -> None:
    run, arch, schedule = kernel()
    for kind in (Edge.DATA, Edge.BUFFER):
        with pytest.raises(
            MemoryFaultError, match=r"^row \d+ \(\w+ of \w+\) (reads|writes) what row \d+ .* still has to"
        ):
            check(run, arch, replace(schedule, tiles=without_edges(schedule.tiles, kind)))
    region = schedule.tiles.region.copy()
    region[:, 2:4] += 1
    with pytest.raises(MemoryFaultError, match=r"^row \d+ \(\w+ of \w+\): "):
        check(run, arch, replace(schedule, tiles=schedule.tiles._replace(region=region)))


# The memories themselves ----------------------------------------------------------------------------------------------


@given(data=st.data(), bits=st.integers(1, 64), signed=st.booleans())
def test_a_box_of_packed_numbers_is_read_and_written_where_it_lies(data: Any, bits: int, signed: bool) -> None:
    """Against a Python integer as the memory."""
    extents = [data.draw(st.integers(1, 4)) for _ in range(3)]
    low = [data.draw(st.integers(0, n - 1)) for n in extents]
    high = [data.draw(st.integers(a + 1, n)) for a, n in zip(low, extents, strict=True)]
    base = data.draw(st.integers(0, 20))
    generator = np.random.default_rng(data.draw(st.integers(0, 99)))
    memory = generator.integers(0, 256, (base + bits * 64) // 8 + 1).astype(np.uint8)
    runs = box_runs(0, base, extents, low, high, bits)
    number = int.from_bytes(memory.tobytes(), "little")
    spots = [(i * extents[1] + j) * extents[2] + k for i, j, k in itertools.product(*map(range, low, high))]
    raw = [(number >> (base + spot * bits)) & ((1 << bits) - 1) for spot in spots]
    wanted = [value - (1 << bits) if value >> (bits - 1) and (signed or bits == 64) else value for value in raw]
    found = unpack(read(memory, runs), len(spots), bits, signed=signed)
    assert found.tolist() == wanted
    assert runs.bits == bits * len(spots)
    write(memory, runs, pack(~found, bits))
    for spot in spots:
        number ^= ((1 << bits) - 1) << (base + spot * bits)
    assert int.from_bytes(memory.tobytes(), "little") == number


@given(data=st.data())
def test_runs_overlap_if_they_share_a_bit(data: Any) -> None:
    def drawn() -> Runs:
        start, at = [], 0
        for _ in range(data.draw(st.integers(0, 5))):
            at += data.draw(st.integers(0, 9))
            start.append((at, data.draw(st.integers(1, 6))))
            at += start[-1][1]
        data.draw(st.randoms()).shuffle(start)
        return runs_of(0, np.array([a for a, _ in start], np.int64), np.array([n for _, n in start], np.int64))

    def bits(runs: Runs) -> set[int]:
        return {a + i for a, n in zip(runs.start.tolist(), runs.length.tolist(), strict=True) for i in range(n)}

    a, b = drawn(), drawn()
    assert overlap(a, b) == bool(bits(a) & bits(b))
    assert not overlap(a, b._replace(memory=1))


# Users ----------------------------------------------------------------------------------------------------------------


def test_a_user_checks_a_run_on_a_machine_of_their_own(tmp_path: Path) -> None:
    data = load_architecture("pynq_z2").model_dump(mode="json") | {"name": "mine", "board": None}
    data["memories"][1]["size"] = "24KiB"
    file = tmp_path / "mine.yaml"
    file.write_text(json.dumps(data))
    (checked,) = check_memory("scene:0", model="cifar_cnn", method="saliency", arch=file, target=4)
    assert checked.equal
    assert str(checked).startswith("gradient of class 4: none of 3,082 numbers differ after ")


def test_a_wrong_schedule_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    right = flow.check

    def late(run: Run, arch: Architecture, **wish: Any) -> Checked:
        return replace(right(run, arch, **wish), differing={"logits": 2})

    monkeypatch.setattr(flow, "check", late)
    text = r"the schedule for pynq_z2 is wrong: forward: 2 of logits of 10 numbers differ after \d+ rows"
    with pytest.raises(UserError, match=text):
        check_memory("scene:0", model="cifar_cnn", method="forward", arch="pynq_z2")
