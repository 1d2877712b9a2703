"""From a nest to rows for the clock: per tile the host's arguments, its loads, its products and its stores.

    tiles = lower_nest(nest, layer, load_soc("gemmini_16"), base_offset=0)
    run_trip(tiles).end.max()

Two tiles are in flight. A tile's commands are sent once the tile before the last is stored; its products begin when its
last load is queued, its stores when its last product has left the array. Every wait is a row's start plus cycles.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from xaisim.hardware.architecture import Architecture, load_architecture
from xaisim.hardware.array import SystolicArray
from xaisim.hardware.soc import Soc
from xaisim.mapping.commands.caches import Caches, miss_rates, new_caches, use_before
from xaisim.mapping.commands.conv import (
    LOAD,
    LOADED,
    QUEUED,
    STORE,
    STORED,
    WRITTEN,
    Addresses,
    ConvShape,
    conv_transfers,
)
from xaisim.mapping.commands.matmul import AHEAD, MatmulShape, matmul_transfers
from xaisim.mapping.commands.nest import Layer, Level, Loop, Nest, tile_positions
from xaisim.mapping.commands.products import product_cycles, window_rates
from xaisim.mapping.commands.transfers import read_rates, write_rates
from xaisim.mapping.tiles import Accesses, Allocations, Edge, Kind, Seat, TileGraph, Unit

Array = np.ndarray
UNITS = (Seat(Unit.HOST, "host"), Seat(Unit.DMA, "load"), Seat(Unit.ARRAY, "array"), Seat(Unit.DMA, "store"))
HOST_ROW, SEND_ROW, LOAD_ROW, ARRAY_ROW, STORE_ROW = range(5)
"""The rows of a tile, in program order; a tile that keeps its sums in the accumulator has an empty store."""
_PER_TILE = 5
_UNIT_OF_ROW = np.array([0, 0, 1, 2, 3])
_KIND_OF_ROW = np.array([Kind.SYNC, Kind.SYNC, Kind.LOAD, Kind.COMPUTE, Kind.STORE], np.int64)


class Work(NamedTuple):
    """What every tile takes, one entry per tile, in cycles, bytes and products."""

    load: Array
    loaded: Array
    products_from: Array
    """Earliest begin of the products behind the begin of the loads."""
    products: Array
    stores_from: Array
    """Earliest begin of the stores behind the begin of the products."""
    store: Array
    stored: Array
    written: Array
    macs: Array


def lower_nest(nest: Nest, layer: Layer, soc: Soc, *, base_offset: int) -> TileGraph:
    """Return all tiles of a layer as rows; the nest must have been checked (``check_nest``)."""
    arch = load_architecture(soc.architecture)
    assert isinstance(arch.array, SystolicArray)
    work = (_matmul_work if layer.is_product else _conv_work)(nest, layer, soc, arch.array.rows, base_offset)
    return _rows(work, layer, soc, arch)


def conv_shape(layer: Layer, side: int) -> ConvShape:
    """Return the convolution as the measured programs run it: P·stride by Q·stride pixels, padded by half the kernel.

    An even kernel so has one output more than P or Q.
    """

    def outputs(pixels: int, kernel: int) -> int:
        return (pixels + 2 * (kernel // 2) - kernel) // layer.stride + 1

    in_p, in_q = layer.P * layer.stride, layer.Q * layer.stride
    out_p, out_q = outputs(in_p, layer.R), outputs(in_q, layer.S)
    return ConvShape(layer.C, layer.K, layer.R, layer.S, layer.stride, in_p, in_q, out_p, out_q, side)


def _conv_work(nest: Nest, layer: Layer, soc: Soc, side: int, base_offset: int) -> Work:
    shape = conv_shape(layer, side)
    limits = {**layer._asdict(), "P": shape.out_p, "Q": shape.out_q}
    tiles = tile_positions(nest, limits, "QPKSRC")
    weights = layer.R * layer.S * layer.C * layer.K
    sizes = (shape.in_p * shape.in_q * layer.C, weights, shape.out_p * shape.out_q * layer.K)
    addresses, caches = _memory(soc, sizes, base_offset)
    reads, writes = read_rates(soc), write_rates(soc)
    found = conv_transfers(tiles, shape, addresses, caches, miss_rates(soc), reads, writes)
    products = _conv_products(tiles[:, 6:], soc, side)
    q, p, k, s, r, c = tiles[:, 6:].T
    after = np.maximum(found[:, QUEUED], found[:, LOAD] + side - products)  # the last product needs the last load
    stores_from = products + soc.writes.start_cycles
    return _work(found, after, products, stores_from, q * p * k * s * r * c)


def _conv_products(extents: Array, soc: Soc, side: int) -> Array:
    rates = window_rates(soc, side)
    shapes, which = np.unique(extents, axis=0, return_inverse=True)
    cycles = [
        product_cycles(-(-k // side) * s * r * -(-c // side), q, p, rates) for q, p, k, s, r, c in shapes.tolist()
    ]
    return np.array(cycles, np.int64)[which.ravel()]


def _matmul_work(nest: Nest, layer: Layer, soc: Soc, side: int, base_offset: int) -> Work:
    base_offset -= base_offset % side  # the programs align matrices to a row of blocks
    shape = MatmulShape(layer.P, layer.K, layer.C, side)
    blocks = {dim: -(-getattr(layer, dim) // side) for dim in "PKC"}
    tile = {dim: -(-nest.tile[dim] // side) for dim in "PKC"}
    tiles = tile_positions(_in_blocks(nest, tile), {**layer._asdict(), **blocks}, "PKC")
    addresses, caches = _memory(soc, (layer.P * layer.C, layer.C * layer.K, layer.P * layer.K), base_offset)
    found = matmul_transfers(tiles, shape, addresses, caches, miss_rates(soc), read_rates(soc), write_rates(soc))
    i, j, k = tiles[:, 3:].T
    products = side * i * j * k
    after = np.maximum(0, found[:, AHEAD])
    last_row = products - side * i * j + side * i * np.minimum(j, soc.reads.largest // side)
    commands = np.maximum(1, i * -(-j // (soc.reads.largest // side)))
    last_command = products + found[:, STORE] // commands - found[:, STORE]
    stores_from = np.maximum(last_row, last_command) + soc.writes.start_cycles
    return _work(found, after, products, stores_from, i * j * k * side**3)


def _in_blocks(nest: Nest, tile: dict[str, int]) -> Nest:
    """Return the nest with a tile of so many blocks: what ``tile_positions`` needs of it."""
    inner = Level(0, "W", tuple(Loop(dim, extent) for dim, extent in tile.items()))
    return Nest((nest.levels[0], inner))


def _work(found: Array, after: Array, products: Array, stores_from: Array, macs: Array) -> Work:
    return Work(
        load=found[:, LOAD], loaded=found[:, LOADED], products_from=after, products=products, stores_from=stores_from,
        store=found[:, STORE], stored=found[:, STORED], written=found[:, WRITTEN], macs=macs,
    )  # fmt: skip


def _memory(soc: Soc, sizes: tuple[int, int, int], base_offset: int) -> tuple[Addresses, Caches]:
    """Return where input, weights and output lie, and caches through which a run before this one went twice."""
    line = soc.l2.line
    first, bases = 1 << 31, []
    for size in sizes:
        bases.append(first + base_offset)
        first += -(-(size + line) // 4096) * 4096
    caches, miss, port = new_caches(soc), miss_rates(soc), np.zeros(20, np.int64)
    for base, size, write in 2 * tuple(zip(bases, sizes, (False, False, True), strict=True)):
        use_before(caches, base // line, (base % line + size + line - 1) // line, write, port, miss)
    return Addresses(*bases), caches


def _rows(work: Work, layer: Layer, soc: Soc, arch: Architecture) -> TileGraph:
    """Return five rows per tile and the waits between them."""
    tiles = len(work.load)
    n = tiles * _PER_TILE
    occupy, latency = _durations(work, layer, soc)
    reads, writes = _traffic(work, arch)
    macs = np.zeros((tiles, _PER_TILE), np.int64)
    macs[:, ARRAY_ROW] = work.macs
    none = np.zeros(0, np.int64)
    begin, end, kind, hold = _waits(work)
    return TileGraph(
        stage=np.zeros(n, np.int64),
        unit=np.tile(_UNIT_OF_ROW, tiles),
        kind=np.tile(_KIND_OF_ROW, tiles),
        occupy_cycles=occupy.ravel(),
        port_cycles=np.zeros(n, np.int64),  # the caches' queues are in the durations
        latency_cycles=latency.ravel(),
        macs=macs.ravel(),
        read_bytes=reads.reshape(n, -1),
        write_bytes=writes.reshape(n, -1),
        stream=np.full(n, -1, np.int64),
        region=np.zeros((n, 6), np.int64),
        channels=np.zeros((n, 2), np.int64),
        points=np.tile(np.array([[0, 1]]), (n, 1)),
        edge_from=begin,
        edge_to=end,
        edge_kind=kind,
        edge_distance=np.zeros(len(begin), np.int64),
        edge_hold=hold,
        allocations=Allocations(*[none] * len(Allocations._fields)),
        accesses=Accesses(*[none] * len(Accesses._fields)),
        units=UNITS,
    )


def _durations(work: Work, layer: Layer, soc: Soc) -> tuple[Array, Array]:
    """Return how long each row holds its unit, and how long after that its result is there."""
    tiles, host = len(work.load), soc.host
    tile_cycles = host.matmul_tile_cycles if layer.is_product else host.conv_tile_cycles
    # The next tile's requests are on their way before this one's last answer is back.
    overlap = np.minimum(soc.reads.finish_cycles + soc.reads.round_trip_cycles, work.load)
    occupy, latency = np.zeros((2, tiles, _PER_TILE), np.int64)
    occupy[:, HOST_ROW] = tile_cycles
    occupy[0, HOST_ROW] += host.layer_cycles
    occupy[:, SEND_ROW] = host.send_cycles
    occupy[:, LOAD_ROW], latency[:, LOAD_ROW] = work.load - overlap, overlap
    occupy[:, ARRAY_ROW], latency[:, ARRAY_ROW] = work.products, soc.writes.start_cycles
    occupy[:, STORE_ROW], latency[:, STORE_ROW] = work.store, work.stored - work.store
    return occupy, latency


def _traffic(work: Work, arch: Architecture) -> tuple[Array, Array]:
    """Return the bytes that each row reads from and writes to the memories of the architecture."""
    names = [memory.name for memory in arch.memories]
    inputs, sums = names.index(arch.memory_for("weight").name), names.index(arch.memory_for("psum").name)
    reads, writes = np.zeros((2, len(work.load), _PER_TILE, len(names)))
    reads[:, LOAD_ROW, 0] = writes[:, LOAD_ROW, inputs] = work.loaded
    writes[:, STORE_ROW, 0] = work.written
    reads[:, STORE_ROW, sums] = work.written * (arch.array.stored_sum_bits // 8)
    return reads, writes


def _waits(work: Work) -> tuple[Array, Array, Array, Array]:
    """Return the edges by the row that waits: where from, where to, kind, and cycles behind the start there."""
    tiles = np.arange(len(work.load))
    row, stores = tiles * _PER_TILE, work.stored > 0
    before = row - 2 * _PER_TILE  # rows of the tile before the last
    after_store, after_array = np.roll(work.store, 2), np.roll(work.products, 2)
    stored = np.roll(stores, 2)
    waits = (
        (row + SEND_ROW, row + LOAD_ROW, Edge.DATA, 0 * tiles, tiles >= 0),
        (row + LOAD_ROW, row + ARRAY_ROW, Edge.PORT, work.products_from, tiles >= 0),
        (row + ARRAY_ROW, row + STORE_ROW, Edge.PORT, work.stores_from, stores),
        (before + STORE_ROW, row + SEND_ROW, Edge.PORT, after_store, (tiles >= 2) & stored),
        (before + ARRAY_ROW, row + SEND_ROW, Edge.PORT, after_array, (tiles >= 2) & ~stored),
    )
    begin = np.concatenate([begin[where] for begin, _, _, _, where in waits])
    end = np.concatenate([end[where] for _, end, _, _, where in waits])
    kind = np.concatenate([np.full(int(where.sum()), int(kind)) for _, _, kind, _, where in waits])
    hold = np.concatenate([hold[where] for _, _, _, hold, where in waits])
    order = np.argsort(end, kind="stable")
    return begin[order], end[order], kind[order], hold[order]
