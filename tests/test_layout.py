"""Where do tensors lie in DRAM, and does every transfer move just its part of them?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from random_graphs import architectures, dry_program, networks

from xaisim.config import UserError
from xaisim.hardware import Architecture, load_architecture
from xaisim.ir.graph import Graph
from xaisim.mapping.schedule import Schedule, map_kernel
from xaisim.mapping.stages import volume
from xaisim.mapping.tiles import Kind, Unit
from xaisim.models import load_model

Array = np.ndarray


def elements_of(mapped: Schedule, row: int) -> list[tuple[str, int, int]]:
    """Return (tensor, channel, place) of the elements in a transfer's region, channel by channel, row by row."""
    tiles = mapped.tiles
    operands = [o for own in mapped.placement.operands for o in own]
    operand = operands[tiles.stream[row]]
    assert operand is not None
    c0, c1, h0, h1, w0, w1 = tiles.region[row].tolist()
    _, _, width = volume(operand.type.shape)
    found = []
    for c in range(c0, c1):
        source = next(s for s in mapped.plan.views.sources(operand.name) if s.start <= c < s.stop)
        for h in range(h0, h1):
            found += [(source.name, c - source.start + source.offset, h * width + w) for w in range(w0, w1)]
    return found


def bits_of(mapped: Schedule, row: int, width: int) -> list[int]:
    """Return the bit address of every element that a transfer copies, in the order of its pieces."""
    p = mapped.pieces
    found: list[int] = []
    for i in np.flatnonzero(p.row == row):
        for outer in range(int(p.outer[i])):
            for inner in range(int(p.inner[i])):
                start = int(p.address[i] + outer * p.outer_stride[i] + inner * p.inner_stride[i])
                found += range(start, start + int(p.bits[i]), width)
    return found


def assert_transfers_copy_their_regions(mapped: Schedule, rows: Array) -> None:
    operands = [o for own in mapped.placement.operands for o in own]
    types = mapped.graph.types()
    for row in rows.tolist():
        operand = operands[mapped.tiles.stream[row]]
        assert operand is not None
        if operand.role == "weight" or mapped.plan.views.sources(operand.name)[0].whole:
            continue
        width = operand.type.element_bits
        expected = []
        for name, channel, place in elements_of(mapped, row):
            plane = int(np.prod(volume(types[name].shape)[1:]))
            expected.append(mapped.layout.first_bit(name) + (channel * plane + place) * width)
        assert bits_of(mapped, row, width) == expected


def transfers(mapped: Schedule) -> Array:
    kinds = np.isin(mapped.tiles.kind, [Kind.LOAD, Kind.STORE])
    return np.flatnonzero(kinds & (mapped.tiles.unit == Unit.DMA))


def assert_every_transfer_moves_its_payload(mapped: Schedule) -> None:
    """Bits in pieces are what the tiles say: bytes written to the chip by loads, and read from it by stores."""
    p, tiles, rows = mapped.pieces, mapped.tiles, transfers(mapped)
    bits = np.bincount(p.row, p.outer * p.inner * p.bits, tiles.rows)
    inside = np.where(
        tiles.kind == Kind.LOAD, tiles.write_bytes[:, 1:].sum(axis=1), tiles.read_bytes[:, 1:].sum(axis=1)
    )
    assert np.ceil(bits[rows] / 8).tolist() == inside[rows].tolist()


@given(
    graph=networks(layers=4, side=9, channels=5),
    arch=architectures(),
    method=st.sampled_from(["saliency", "deconvnet"]),
)
def test_transfers_of_random_networks_copy_just_their_regions(graph: Graph, arch: Architecture, method: str) -> None:
    for launch in dry_program(graph, method):
        try:
            mapped = map_kernel(launch.graph, arch)
        except UserError:
            assume(False)
        assert_every_transfer_moves_its_payload(mapped)
        rows = transfers(mapped)
        assert_transfers_copy_their_regions(mapped, rows[:: max(1, len(rows) // 40)])


@pytest.mark.parametrize("name", ["cifar_cnn", "resnet18_tiny", "inception_v3_tiny"])
def test_transfers_of_a_shipped_network_copy_just_their_regions(name: str) -> None:
    (launch,) = dry_program(load_model(name, values=False).graph, "saliency")
    mapped = map_kernel(launch.graph, load_architecture("pynq_z2"))
    assert_every_transfer_moves_its_payload(mapped)
    rows = transfers(mapped)
    assert_transfers_copy_their_regions(mapped, rows[:: max(1, len(rows) // 200)])


@pytest.mark.parametrize("method", ["saliency", "integrated_gradients"])
@pytest.mark.parametrize("name", ["resnet18_tiny", "inception_v3_tiny"])
def test_tensors_that_live_together_lie_apart(name: str, method: str) -> None:
    for launch in dry_program(load_model(name, values=False).graph, method):
        mapped = map_kernel(launch.graph, load_architecture("pynq_z2"))
        types, layout = mapped.graph.types(), mapped.layout
        first = {o.name: s.index for s in mapped.stages for o in s.outputs} | dict.fromkeys(mapped.graph.inputs, 0)
        last = dict(first)
        for stage in mapped.stages:
            for operand in stage.operands:
                for source in mapped.plan.views.sources(operand.name):
                    last[source.name] = stage.index
        spans = [
            (layout.first_bit(n), layout.first_bit(n) + types[n].size_bits, first[n], last[n])
            for n in first
            if n in layout.address
        ]
        for i, (start, stop, born, dies) in enumerate(spans):
            assert stop <= layout.size * 8
            for other in spans[:i]:
                apart = stop <= other[0] or other[1] <= start
                assert apart or dies < other[2] or other[3] < born


def test_the_parts_of_a_concat_lie_side_by_side() -> None:
    (launch,) = dry_program(load_model("inception_v3_tiny", values=False).graph, "forward")
    mapped = map_kernel(launch.graph, load_architecture("pynq_z2"))
    types = mapped.graph.types()
    concats = [node for node in mapped.graph.nodes if node.op == "concat"]
    assert concats
    for node in concats:
        parts = mapped.plan.views.sources(node.name)
        at = [mapped.layout.first_bit(part.name) for part in parts]
        sizes = [types[part.name].size_bits for part in parts]
        assert at[1:] == [a + size for a, size in zip(at, sizes, strict=True)][:-1]
