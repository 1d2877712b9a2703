"""How fast cycles are simulated, beside SCALE-Sim and ZigZag on the same layers and array size, in one run.

    python benchmarks/timing.py [--quick] [--json] [--preset NAME] [--peers FOLDER] [--setup | --no-setup]

ResNet18 @224, all layers, one picture; machine code is compiled before on both sides. What stands beside what:
cycles per second: our clock on a mapped schedule, SCALE-Sim's loop over cycles on its demands; then both with all that
comes before (we map with tilings known, SCALE-Sim searches none). ZigZag searches mappings: its time stands beside ours
from names to cycles, with every cache of the mapper empty. Our time is the wall's; theirs is the processor's where that
is shorter, so that a busy machine only makes us look worse. ``--quick`` gives the others a few small layers only, and
the ratios are those of the same layers. They live in environments of their own under FOLDER (benchmarks/.venv-peers),
made with pip where they are missing; without them our figures are printed and the ratios are null.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import tracemalloc
import venv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from xaisim.attribution.device import Kernel, Launch
from xaisim.attribution.methods import METHODS
from xaisim.hardware.architecture import Architecture, load_architecture
from xaisim.ir.graph import Graph, GraphBuilder
from xaisim.ir.types import TensorType
from xaisim.models.load import load_model
from xaisim.numerics.devices import DryDevice
from xaisim.numerics.formats import Formats, Numerics
from xaisim.simulate.clock import run_loop
from xaisim.simulate.program import ProgramTiming, time_program

HERE = Path(__file__).resolve().parent
MODEL = "resnet18"
QUICK_LAYERS = ("layer2.0.downsample.0", "layer3.0.downsample.0", "layer4.0.downsample.0", "layer3.0.conv1", "logits")
ROUNDS = 15


class Peer(NamedTuple):
    """A simulator from the package index, and what else its environment needs."""

    package: str
    packages: tuple[str, ...]


PEERS = {
    "scalesim": Peer("scalesim", ("scalesim==3.0.0", "numpy<2")),
    "zigzag": Peer("zigzag", ("zigzag-dse==3.9.0", "six")),
}


# --- what is timed ----------------------------------------------------------------------------------------------------


def conv_layers(graph: Graph) -> list[dict[str, Any]]:
    """Return the convolutions and matrix products of a network with their loop bounds."""
    layers = []
    for node in graph.nodes:
        if node.op not in ("conv", "linear"):
            continue
        x, w = (graph.type_of(name).shape for name in node.args[:2])
        C, H, W = x if len(x) == 3 else (int(np.prod(x)), 1, 1)
        K, P, Q = node.type.shape if len(node.type.shape) == 3 else (int(np.prod(node.type.shape)), 1, 1)
        R, S = w[2:] if len(w) == 4 else (1, 1)
        stride, padding = node.attrs.get("stride", (1,))[0], node.attrs.get("padding", (0,))[0]
        sizes = {"C": C, "H": H, "W": W, "K": K, "P": P, "Q": Q, "R": R, "S": S}
        layers.append({"name": node.name, **sizes, "stride": stride, "padding": padding})
    return layers


def layers_graph(layers: Sequence[dict[str, Any]]) -> Graph:
    """Return layers side by side, each with an input of its own."""
    builder, outputs = GraphBuilder(), []
    for n, at in enumerate(layers):
        builder.layer = at["name"]
        x = builder.input(f"input{n}" if n else "input", TensorType((at["C"], at["H"], at["W"])))
        w = builder.constant(f"{at['name']}.w", None, TensorType((at["K"], at["C"], at["R"], at["S"])))
        stride, padding = (at["stride"],) * 2, (at["padding"],) * 4
        outputs.append(builder.add(at["name"], "conv", x, w, stride=stride, padding=padding))
    return builder.build(*outputs)


def dry_device(arch: Architecture) -> DryDevice:
    """Return a device that records launches in 16 bits and computes nothing."""
    return DryDevice(Formats(Numerics()), arch.array.accumulator_bits)


def network_program(method: str, arch: Architecture, **options: Any) -> list[Launch]:
    """Return what a method launches on the network; every graph is new, so nothing is remembered about it."""
    model = load_model(MODEL, values=False)
    device = dry_device(arch)
    METHODS[method].run(device, model.graph, np.zeros((1, *model.input_shape)), 0, **options)
    return device.program


def layers_program(layers: Sequence[dict[str, Any]], arch: Architecture) -> list[Launch]:
    """Return one launch of layers side by side."""
    graph = layers_graph(layers)
    device = dry_device(arch)
    device.launch(Kernel("layers", graph), {name: np.zeros((1, *t.shape)) for name, t in graph.inputs.items()})
    return device.program


def forget() -> None:
    """Empty every cache of the mapper and of what it reads."""
    for name, module in list(sys.modules.items()):
        if name.startswith(("xaisim.mapping", "xaisim.hardware", "xaisim.simulate")):
            for value in vars(module).values():
                if callable(getattr(value, "cache_clear", None)):
                    value.cache_clear()


# --- our side ---------------------------------------------------------------------------------------------------------


def seconds(run: Callable[[], object]) -> float:
    """Return the wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def median_seconds(run: Callable[[], object], rounds: int) -> float:
    """Return the median wall time of some calls after a first one."""
    run()
    return statistics.median(seconds(run) for _ in range(rounds))


def measured(name: str, make: Callable[[], list[Launch]], arch: Architecture) -> dict[str, Any]:
    """Time a program: from its names with nothing remembered, mapped again with tilings known, and the clock alone."""

    def from_names() -> ProgramTiming:
        forget()
        return time_program(make(), load_architecture(arch.name))

    timing = from_names()
    cold = statistics.median(seconds(from_names) for _ in range(3))
    program = make()
    warm = median_seconds(lambda: time_program(program, arch), ROUNDS)
    bodies = [(launched.schedule.tiles, launched.timing.trips) for launched in timing.launches]
    clock = median_seconds(lambda: [run_loop(tiles, trips) for tiles, trips in bodies], ROUNDS)
    return {
        "case": name,
        "cycles": timing.cycles,
        "macs": timing.macs,
        "rows": sum(tiles.rows for tiles, _ in bodies),
        "simulated_trips": max(launched.timing.simulated_trips for launched in timing.launches),
        "cold_ms": 1e3 * cold,
        "warm_ms": 1e3 * warm,
        "clock_ms": 1e3 * clock,
        "cycles_per_second": timing.cycles / warm,
        "cycles_per_second_clock": timing.cycles / clock,
        "peak_bytes": peak_bytes(lambda: time_program(program, arch)),
    }


def peak_bytes(run: Callable[[], object]) -> int:
    """Return the most bytes of Python and numpy alive at once during a call, beyond those before it."""
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def own_figures(arch: Architecture, layers: Sequence[dict[str, Any]], *, quick: bool) -> dict[str, dict[str, Any]]:
    """Return all of our own measurements by name."""
    cases: dict[str, Callable[[], list[Launch]]] = {
        "forward": lambda: network_program("forward", arch),
        "gradient": lambda: network_program("saliency", arch),
    }
    for steps in (10, 300):
        cases[f"ig_{steps}"] = lambda n=steps: network_program("integrated_gradients", arch, **_ig_options(n))
    if quick:
        cases["layers"] = lambda: layers_program(layers, arch)
    time_program(network_program("forward", arch), arch)  # compiled or loaded from numba's cache, once
    return {name: measured(name, make, arch) for name, make in cases.items()}


def _ig_options(steps: int) -> dict[str, Any]:
    model = load_model(MODEL, values=False)
    return {"n_steps": steps, "rule": "riemann_middle", "baseline": np.zeros((1, *model.input_shape))}


# --- the others -------------------------------------------------------------------------------------------------------


def peer_python(name: str, folder: Path, *, setup: bool) -> str:
    """Return the interpreter that has a peer, making its environment if asked; raise ``RuntimeError`` if there is none.

    The interpreter that runs this script is taken where it has the package.
    """
    home = folder / name
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    for candidate in (str(python), sys.executable):
        if Path(candidate).exists() and _has(candidate, PEERS[name].package):
            return candidate
    if not setup:
        raise RuntimeError(f"{name} is not in {home}: run with --setup, or name a folder with --peers")
    print(f"making {home} with {', '.join(PEERS[name].packages)}", file=sys.stderr, flush=True)
    try:
        venv.create(home, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PEERS[name].packages]
        subprocess.run(pip, check=True, capture_output=True, text=True)
    except (subprocess.CalledProcessError, OSError) as error:
        reason = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1]
        raise RuntimeError(f"{name} could not be installed: {reason}") from None
    return str(python)


def _has(python: str, package: str) -> bool:
    return subprocess.run([python, "-c", f"import {package}"], capture_output=True, check=False).returncode == 0


def run_peer(name: str, python: str, job: dict[str, Any]) -> dict[str, Any]:
    """Run a peer on a job in a process of its own and return what it measured."""
    command = [python, str(HERE / "peers" / f"run_{name}.py")]
    done = subprocess.run(command, input=json.dumps(job), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} failed with exit code {done.returncode}; its messages stand above")
    return json.loads(done.stdout.splitlines()[-1])


def job_for(layers: Sequence[dict[str, Any]], arch: Architecture) -> dict[str, Any]:
    """Return the layers and the array with the sizes of its buffers."""
    kib = {
        f"{key}_kib": arch.memory_for(operand).size // 1024  # type: ignore[arg-type] # names of operands
        for key, operand in (("input", "activation"), ("weight", "weight"), ("psum", "psum"))
    }
    array = {"rows": arch.array.rows, "cols": arch.array.cols, "dataflow": arch.array.dataflow, **kib}
    return {"layers": list(layers), "array": array}


def peer_figures(folder: Path, job: dict[str, Any], *, setup: bool) -> dict[str, dict[str, Any]]:
    """Return each peer's measurement, or why there is none."""
    found = {}
    for name in PEERS:
        try:
            figures = run_peer(name, peer_python(name, folder, setup=setup), job)
        except RuntimeError as error:
            print(f"error: {error}", file=sys.stderr)
            found[name] = {"missing": str(error)}
            continue
        found[name] = figures | (scalesim_totals(figures["layers"]) if name == "scalesim" else {})
    return found


def scalesim_totals(layers: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return sums over layers and what is simulated in a second: all in all, and in the loop over cycles."""
    cycles, whole, loop = (sum(layer[key] for layer in layers) for key in ("cycles", "seconds", "loop_seconds"))
    rates = {"cycles_per_second": cycles / whole, "cycles_per_second_loop": cycles / loop}
    wall = sum(layer["wall_seconds"] for layer in layers)
    return {"cycles": cycles, "seconds": whole, "wall_seconds": wall, "loop_seconds": loop, **rates}


# --- results ----------------------------------------------------------------------------------------------------------


def summary(ours: dict[str, Any], peers: dict[str, Any], *, quick: bool) -> dict[str, Any]:
    """Return the ratios; null where a peer is missing. With ``quick`` both sides have the same few layers."""
    same = ours["layers" if quick else "forward"]
    theirs = {name: None if "missing" in p else p for name, p in peers.items()}
    scale, zigzag = theirs["scalesim"], theirs["zigzag"]
    ten, many = ours["ig_10"], ours["ig_300"]
    return {
        "cycles_per_second_vs_scalesim": scale and same["cycles_per_second_clock"] / scale["cycles_per_second_loop"],
        "cycles_per_second_vs_scalesim_with_mapping": scale and same["cycles_per_second"] / scale["cycles_per_second"],
        "speedup_vs_zigzag": zigzag and 1e3 * zigzag["seconds"] / same["cold_ms"],
        "resnet18_gradient_ms": ours["gradient"]["warm_ms"],
        "resnet18_gradient_cold_ms": ours["gradient"]["cold_ms"],
        "ig_300_vs_ig_10_time": many["warm_ms"] / ten["warm_ms"],
        "ig_300_vs_ig_10_peak_bytes": many["peak_bytes"] / ten["peak_bytes"],
    }


def machine() -> dict[str, Any]:
    """Return what it ran on."""
    names = ("numpy", "numba")
    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in names},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def show(console: Console, result: dict[str, Any]) -> None:
    """Print our cases, the others, and the ratios."""
    columns = ("cycles", "tiles", "cold ms", "warm ms", "clock ms", "cycles/s", "clock's", "peak MB")
    table = Table("ours", *columns)
    for r in result["ours"].values():
        cells = (f"{r['cold_ms']:.0f}", f"{r['warm_ms']:.1f}", f"{r['clock_ms']:.2f}")
        rates = (f"{r['cycles_per_second']:.2g}", f"{r['cycles_per_second_clock']:.2g}")
        table.add_row(r["case"], f"{r['cycles']:,}", f"{r['rows']:,}", *cells, *rates, f"{r['peak_bytes'] / 1e6:.1f}")
    console.print(table)
    for name, p in result["peers"].items():
        if "missing" in p:
            console.print(f"{name}: no figures ({p['missing']})")
        else:
            times = f"{p['seconds']:.1f} s ({p['wall_seconds']:.1f} s by the wall)"
            console.print(f"{name} {p['version']}: {times}, {p['cycles']:,.0f} cycles")
    layers = f"{len(result['layers'])} layers" + (" (a few small ones: --quick)" if result["quick"] else "")
    console.print(f"{result['preset']}, ratios over {layers}")
    for name, value in result["ratios"].items():
        console.print(f"{name:44s} {_number_text(value)}")
    clock, whole = (result["ratios"][f"cycles_per_second_vs_scalesim{what}"] for what in ("", "_with_mapping"))
    console.print(
        f"SCALE-Sim: {_number_text(clock)} times by the clock alone, {_number_text(whole)} times with mapping"
    )


def _number_text(value: float | None) -> str:
    return "–" if value is None else f"{value:,.4g}"


def arguments() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="give the other simulators a few small layers only")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout, the table on stderr")
    parser.add_argument("--preset", default="edge_systolic_32_ws", help="a systolic architecture  [%(default)s]")
    parser.add_argument("--peers", type=Path, default=HERE / ".venv-peers", help="where their environments are")
    parser.add_argument("--setup", action="store_true", help="make their environments and stop")
    parser.add_argument("--no-setup", action="store_true", help="never install anything")
    return parser.parse_args()


def main() -> None:
    """Measure, print the tables, and with ``--json`` one JSON object as the last line."""
    options = arguments()
    if options.setup:
        for name in PEERS:
            print(peer_python(name, options.peers, setup=True))
        return
    console = Console(stderr=options.json, width=130)
    arch = load_architecture(options.preset)
    if arch.array.kind != "systolic":
        sys.exit(f"error: {options.preset} is no systolic array, which the other simulators model")
    every = conv_layers(load_model(MODEL, values=False).graph)
    layers = [layer for layer in every if not options.quick or layer["name"] in QUICK_LAYERS]
    ours = own_figures(arch, layers, quick=options.quick)
    peers = peer_figures(options.peers, job_for(layers, arch), setup=not options.no_setup)
    ratios = summary(ours, peers, quick=options.quick)
    result = {**ratios, "ratios": ratios, "quick": options.quick, "model": MODEL, "preset": arch.name,
              "layers": [layer["name"] for layer in layers], "ours": ours, "peers": peers, **machine()}  # fmt: skip
    show(console, result)
    if options.json:
        print(json.dumps({key: value for key, value in result.items() if key != "ratios"}))


if __name__ == "__main__":
    main()
