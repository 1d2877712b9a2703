"""How many design points a second: ResNet18 @224 with Integrated Gradients in 50 points, cycles and energy.

    python benchmarks/sweep.py [--quick] [--json] [--peers FOLDER]

cold    every launch is mapped and timed; machine code is compiled before
warm    the same points again in a new store, with the memo of the first beside it, as another process finds it
scaling cold points on two workers over cold points on one, both in processes of Dask that have worked before

Values depend on nothing that is varied here, so they are no part of it. It is what ``xaisim sweep`` does: points are
claimed, evaluated and kept one by one. The peer is ZigZag's search on the network's forward pass for one machine of its
own, where benchmarks/timing.py has set it up; it has no backward pass, so it does a third of the work.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from xaisim.config import UserError, load_yaml
from xaisim.sweep.evaluate import Evaluator, Result
from xaisim.sweep.memo import Memo
from xaisim.sweep.point import Point
from xaisim.sweep.run import sweep
from xaisim.sweep.space import Space
from xaisim.sweep.store import Store
from xaisim.sweep.workers import SETTINGS, Cluster, evaluate_task

HERE = Path(__file__).resolve().parent
SPACE = """
base: {model: resnet18, method: integrated_gradients, options: {n_steps: 50}, arch: edge_systolic_32}
space:
  arch.array.rows: ROWS
  arch.array.cols: [16, 32, 64]
  arch.memories.weights.size: [128KiB, 256KiB]
  arch.memories.dram.bytes_per_cycle: [16, 32]
objectives: {latency_ms: min, energy_mj: min, area_mm2: min}
"""


def space_of(rows: Sequence[int]) -> Space:
    """Return the space with these numbers of rows, twelve points for each."""
    return load_yaml(Space, "the benchmark's space", text=SPACE.replace("ROWS", str(list(rows))))


def points_of(space: Space) -> list[Point]:
    """Return every point."""
    return [space.point(dict(zip(space.axes, v, strict=True))) for v in itertools.product(*space.axes.values())]


def here(space: Space, folder: Path) -> tuple[float, float]:
    """Return points per second of processor time (cold, warm), each a whole sweep into a new store."""
    cold, warm = folder / "cold.sqlite", folder / "warm.sqlite"
    start = time.process_time()
    sweep(space, cold)
    first = space.size / (time.process_time() - start)
    rates = []
    for _ in range(3):
        for file in folder.glob("warm.sqlite*"):
            file.unlink()
        shutil.copy(folder / "cold.sqlite.memo", folder / "warm.sqlite.memo")
        start = time.process_time()
        sweep(space, warm)
        rates.append(space.size / (time.process_time() - start))
    return first, statistics.median(rates)


def clustered(workers: int, space: Space, ready: Space) -> tuple[float, float]:
    """Return (cold points per second of wall time, share of it in which workers evaluate) on so many processes."""
    with Cluster((), None, workers=workers, address=None) as pool:
        list(pool.run(iter(points_of(ready))))  # imports, machine code, graphs
        points = points_of(space)
        start = time.perf_counter()
        results = [result for _, result in pool.run(iter(points))]
        seconds = time.perf_counter() - start
    return len(points) / seconds, sum(result.seconds for result in results) / workers / seconds


def store_rate(point: Point, result: Result, folder: Path) -> float:
    """Return how many points a second are claimed and kept, one by one."""
    points = [replace(point, hash=str(number)) for number in range(3000)]
    with Store.create(folder / "rows.sqlite", {}) as store:
        start = time.perf_counter()
        for each in points:
            store.finish([(claimed, result) for claimed in store.claim([each])])
        return len(points) / (time.perf_counter() - start)


def task_ms() -> float:
    """Return what a task without points takes from being handed over to its result, many at once, on one worker."""
    import dask
    from distributed import Client, LocalCluster, wait

    with (
        dask.config.set(SETTINGS),
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.submit(evaluate_task, (), None, [], key="imports").result()
        start = time.perf_counter()
        wait([client.submit(evaluate_task, (), None, [], key=f"empty-{number}") for number in range(1000)])
        return 1e3 * (time.perf_counter() - start) / 1000


def zigzag_rate(folder: Path) -> float | None:
    """Return ZigZag's points per second, or None where it is not set up."""
    sys.path.insert(0, str(HERE))
    from timing import MODEL, conv_layers, peer_python, run_peer

    from xaisim.models.load import load_model

    try:
        python = peer_python("zigzag", folder, setup=False)
        found = run_peer("zigzag", python, {"layers": conv_layers(load_model(MODEL, values=False).graph)})
    except (RuntimeError, UserError) as error:
        print(f"no peer: {error}", file=sys.stderr)
        return None
    return 1 / found["seconds"]


def figures(*, quick: bool, peers: Path) -> dict[str, Any]:
    """Measure everything."""
    ready, space = space_of([8]), space_of([16] if quick else [16, 24, 32, 48, 64])
    evaluate = Evaluator(Memo(), ())
    known = [(point, evaluate(point)) for point in points_of(ready)]
    with tempfile.TemporaryDirectory() as folder:
        cold, warm = here(space, Path(folder))
        rows = store_rate(*known[0], Path(folder))
    (one, _), (two, busy) = clustered(1, space, ready), clustered(2, space, ready)
    peer = None if quick else zigzag_rate(peers)
    return {
        "points": space.size,
        "points_per_second_cold": cold,
        "points_per_second_warm": warm,
        "points_per_second_1_worker": one,
        "points_per_second_2_workers": two,
        "scaling_2_workers": two / one,
        "busy_share_2_workers": busy,
        "store_points_per_second": rows,
        "dask_ms_per_task": task_ms(),
        "zigzag_points_per_second": peer,
        "cold_vs_zigzag": peer and cold / peer,
        "load_before": os.getloadavg()[2],
    }


def main() -> None:
    """Measure, and print a line per figure or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="twelve points, no peer")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--peers", type=Path, default=HERE / ".venv-peers", help="where the peers' environments are")
    options = parser.parse_args()
    found = figures(quick=options.quick, peers=options.peers)
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:30s}{'-' if value is None else f'{value:.4g}'}")


if __name__ == "__main__":
    main()
