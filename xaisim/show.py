"""Every noun in a short, stable printed form."""

from __future__ import annotations

import numpy as np

from xaisim.attribution.device import Launch
from xaisim.attribution.methods import METHODS, Method
from xaisim.attribution.paths import PATH_RULES
from xaisim.config import shipped_names
from xaisim.experiment import Experiment, load_experiment, prepare
from xaisim.flow import calibrated
from xaisim.hardware.architecture import Architecture, describe, load_architecture
from xaisim.mapping.choice import kernel_key, mapping_lines
from xaisim.mapping.price import array_terms
from xaisim.mapping.schedule import Schedule
from xaisim.mapping.tiles import Kind, Unit
from xaisim.models.networks import NETWORKS
from xaisim.numerics.devices import DryDevice
from xaisim.numerics.formats import NAMED_NUMERICS, Formats
from xaisim.report.report import Report
from xaisim.report.sentences import bytes_text, energy_text, gains_text, layers_text, path_text, stored_text, time_text
from xaisim.simulate.clock import LoopTiming
from xaisim.simulate.mapper import Wish, best_schedule
from xaisim.sweep.space import load_space


def show_noun(noun: str, experiment: Experiment, rows: int) -> str:
    """Return the printed form of ``graph``, ``arch``, ``mapping`` or ``schedule`` for an experiment."""
    p = prepare(experiment, values=False)
    if noun == "arch":
        return describe(p.arch)
    parts = []
    if noun == "graph" and p.model.trained:
        program = _calibrated_program(experiment)
    else:
        if noun == "graph":
            parts.append("# not calibrated (no trained weights): widths are right, points and bounds are placeholders")
        device = p.device(Formats(p.numerics), DryDevice)
        device.class_known = experiment.target is not None
        METHODS[experiment.method].run(device, p.model.graph, p.sample.x, experiment.target or 0, **p.options)
        program = device.program
    if noun == "mapping":
        if p.wish.given:
            p.wish.given.check_kernels([launch.kernel for launch in program])
        title = f"# {experiment.method} of {p.model.name} on {p.arch.name}; use it again with --mapping\nkernels:"
        return "\n".join([title, *(mapping_text(launch, p.arch, p.wish) for launch in program)])
    for launch in program:
        title = f"# {launch.kernel}, {launch.trips} trip{'s' if launch.trips > 1 else ''}"
        if noun == "graph":
            parts.append(f"{title}\n{launch.graph}")
        else:
            schedule, _ = best_schedule(launch, p.arch, p.wish)
            parts.append(f"{title} on {p.arch.name}\n{schedule_text(schedule, rows)}")
    return "\n\n".join(parts)


def _calibrated_program(experiment: Experiment) -> list[Launch]:
    """Return the launches with calibrated formats and proven bounds."""
    p = prepare(experiment)
    device = p.device(calibrated(p)[0], DryDevice)
    METHODS[experiment.method].run(device, p.model.graph, p.sample.x, experiment.target or 0, **p.options)
    return device.program


def mapping_text(launch: Launch, arch: Architecture, wish: Wish) -> str:
    """Return a kernel's mapping as YAML: for each stage its loops, outer ones first, and the tile that they leave."""
    schedule, timing = best_schedule(launch, arch, wish)
    tiles, count, choice = schedule.tiles, len(schedule.stages), schedule.plan.choice
    busy = np.zeros((len(Unit), count), np.int64)
    np.add.at(busy, (np.array([seat.kind for seat in tiles.units])[tiles.unit], tiles.stage), tiles.occupy_cycles)
    moved_bytes = np.bincount(tiles.stage, tiles.read_bytes[:, 0] + tiles.write_bytes[:, 0], count)
    macs, terms = np.bincount(tiles.stage, tiles.macs, count), array_terms(tiles, schedule.plan, arch)
    lines = [
        f"  {kernel_key(launch.kernel)}:  # {timing.trips} trip{'s' if timing.trips > 1 else ''}, "
        f"{timing.cycles:,} cycles",
        f"    keep_on_chip: {choice.keep:g}  # share of a memory that feature maps may take",
        f"    keep_over_trips: {choice.stay:g}  # share that weights and inputs may take, which are then loaded once",
        *_loaded_once(schedule, timing),
        f"    points_in_flight: {choice.points}  # path points in a trip",
        f"    recompute: [{', '.join(choice.recompute)}]  # masks and indices that backward makes again",
        f"    spill: [{', '.join(choice.spill)}]  # those that wait in DRAM although they may fit on the chip",
        "    stages:",
    ]
    for stage, problem, mapping in zip(schedule.stages, schedule.plan.problems, schedule.mappings, strict=True):
        i, nest = stage.index, problem.nest
        tail = "".join(f" + {node.op}" for node in stage.tail)
        whole = " ".join(f"{dim}{getattr(nest, dim)}" for dim in "TKCPQRS" if dim != "T" or nest.T > 1)
        lines.append(f"      {stage.name}:  # {stage.anchor.op}{tail}, {whole}")
        lines += [f"        {name}: {text}" for name, text in mapping_lines(mapping, problem, arch.array).items()]
        spent = {Unit.ARRAY: _terms_text(terms[i] or {})}
        units = ", ".join(f"{u.name.lower()} {busy[u, i]:,}{spent.get(u, '')}" for u in Unit if busy[u, i])
        used = f", {macs[i] / (busy[Unit.ARRAY, i] * arch.peak_macs_per_cycle):.0%} of the array" if macs[i] else ""
        kept = [o.name for o in stage.outputs if o.name in schedule.placement.resident]
        stays = f"; {', '.join(kept)} stays on the chip" if kept else ""
        lines.append(f"        # cycles: {units}{used}; {bytes_text(moved_bytes[i])} over the bus{stays}")
    return "\n".join(lines)


def _terms_text(terms: dict[str, int]) -> str:
    """Return what the array's cycles are spent on, in brackets: `` (load 64, stream 256)``."""
    parts = ", ".join(f"{name} {cycles:,}" for name, cycles in terms.items() if cycles)
    return f" ({parts})" if parts else ""


def _loaded_once(schedule: Schedule, timing: LoopTiming) -> list[str]:
    kept = schedule.placement.over_trips
    if not kept:
        return []
    size = bytes_text(sum(tensor.size for tensor in kept.values()))
    return [f"    # before the first trip, in {timing.begin:,} cycles: {', '.join(kept)} ({size})"]


def schedule_text(schedule: Schedule, rows: int) -> str:
    """Return the first tiles in program order with what they wait for and where they lie."""
    tiles = schedule.tiles
    names = ["dram", *schedule.placement.free[0]]
    address = {
        int(row): f"{names[int(memory)]}+{int(start):#07x}"
        for row, memory, start in zip(
            tiles.allocations.filled_by, tiles.allocations.memory, tiles.allocations.address, strict=True
        )
    }
    waits: dict[int, list[str]] = {}
    for source, row, kind, distance in zip(
        tiles.edge_from, tiles.edge_to, tiles.edge_kind, tiles.edge_distance, strict=True
    ):
        mark = ("~" if kind else "") + str(int(source)) + ("'" if distance else "")
        waits.setdefault(int(row), []).append(mark)
    lines = [
        "  row unit    kind     cycles  region K P Q                 address               "
        "waits for (~ buffer, ' last trip)"
    ]
    for row in range(min(rows, tiles.rows)):
        k0, k1, p0, p1, q0, q1 = tiles.region[row]
        region = f"{k0}:{k1} {p0}:{p1} {q0}:{q1}"
        lines.append(
            f"{row:5d} {tiles.units[tiles.unit[row]].name:7s} {Kind(tiles.kind[row]).name.lower():8s} "
            f"{tiles.occupy_cycles[row]:6d}  {region:28s} {address.get(row, ''):21s} {' '.join(waits.get(row, []))}"
            f"  # {schedule.stages[tiles.stage[row]].name}"
        )
    if tiles.rows > rows:
        lines.append(f"… {tiles.rows - rows} more rows (--rows)")
    return "\n".join(lines)


def choices_text() -> str:
    """Return everything that ships, by kind."""
    sections = {
        "models": {
            name: f"{'x'.join(map(str, n.input_shape)):10s} {'trained' if n.trained else 'random weights unless given'}"
            for name, n in NETWORKS.items()
        },
        "methods": {name: method.summary.replace("``", "") for name, method in METHODS.items()},
        "architectures": {name: load_architecture(name).description for name in shipped_names("arch_configs")},
        "workloads": {name: load_experiment(name).description for name in shipped_names("workloads")},
        "spaces for xaisim sweep": {name: load_space(name).title for name in shipped_names("dse")},
        "rules": dict.fromkeys(PATH_RULES, ""),
        "numerics": {
            **{name: f"{n.weights} bits, calibrated on pictures" for name, n in NAMED_NUMERICS.items()},
            "q16.8": "any format, for all tensors: 16 bits, 8 of them fraction",
            "FILE.yaml": "your own",
        },
    }
    lines = []
    for title, rows in sections.items():
        lines.append(f"{title}:")
        for name, text in rows.items():
            lines.append(f"  {name:34s} {text}".rstrip())
            if title == "methods" and METHODS[name].options:
                lines.append(f"  {'':34s}   {options_text(METHODS[name])}")
    return "\n".join(lines)


def options_text(method: Method) -> str:
    """Return a method's options with their defaults, as ``-O`` takes them; one that depends on the model has none."""
    told = {"baseline": "black", "layer": None, "table": None}
    return " ".join(
        name if told.get(name, default) is None else f"{name}={str(told.get(name, default)).lower()}"
        for name, default in method.options.items()
    )


def report_text(report: Report) -> str:
    """Return the report as a short table."""
    rows = [
        ("model", f"{report.model} ({report.weights})"),
        ("method", " ".join([report.method, *(f"{k}={v}" for k, v in report.options.items())])),
        ("machine", f"{report.architecture} at {report.clock_mhz:g} MHz"),
    ]
    if report.prediction is not None:
        p = report.prediction
        truth = "" if p.predicted == p.target else f", predicted {p.predicted}"
        truth += "" if p.truth is None else f", truth {p.truth}"
        rows.append(("class", f"{p.label} (logit {p.score:.4f}, float {p.reference_score:.4f}{truth})"))
    roofline = report.roofline
    bound = roofline.lower_bound_cycles / report.cycles.total
    bound_by = "compute" if roofline.compute_cycles >= roofline.dram_cycles else "DRAM"
    watts = report.energy_uj.total / report.latency_ms / 1e3
    most = _most(report.energy_uj.by_component)
    rows += [
        ("cycles", f"{report.cycles.total:,} = {time_text(report.latency_ms)}; {bound:.0%} of its {bound_by} roofline"),
        ("path", path_text(report.critical_path)),
        ("lost most in", layers_text(report)),
        *([("10% more of", gains_text(report))] if report.sensitivity else []),
        ("inference", f"{report.cycles.inference:,} cycles; explaining adds {report.overhead:.4g}x that"),
        ("work", f"{report.macs.forward + report.macs.backward:,} MAC, array {report.utilisation:.1%} used"),
        (
            "energy",
            f"{energy_text(report.energy_uj.total)}, {watts:.3g} W, most in {most}",
        ),
        ("stored", stored_text(report)),
    ]
    if report.dram is not None:
        d = report.dram
        hits = d.row_hits / max(1, d.row_hits + d.row_misses + d.row_conflicts)
        rows.append(("DRAM rows", f"{hits:.1%} of bursts find theirs open, {d.row_conflicts:,} find another one"))
    if report.fidelity is not None:
        f = report.fidelity
        zeros = f"{f.zero_fraction:.1%} exact zeros"
        rows.append(
            ("fidelity", f"SQNR {f.sqnr_db:.1f} dB, Spearman {f.spearman:.4f}, top 1 % {f.topk_1pct:.1%}, {zeros}")
        )
    if report.accumulators is not None:
        a = report.accumulators
        rows.append(("accumulators", f"{a.bits} bits, {a.policy}; {a.overflowed:,} of {a.sums:,} sums overflowed"))
    if report.completeness is not None:
        c = report.completeness
        rows.append(
            ("completeness", f"δ {c.delta:+.4f} = {c.delta_integration:+.4f} steps {c.delta_quantisation:+.4f} bits")
        )
    if report.localisation is not None and report.prediction is not None and report.prediction.truth is not None:
        where = report.localisation
        hit = "on" if where.pointing_hit else "off"
        rows.append(("evidence", f"peak {hit} the digit, {where.relevance_mass:.1%} of the relevance inside its mask"))
    return "\n".join(f"{name:13s}{text}" for name, text in rows)


def _most(by_component: dict[str, float]) -> str:
    name = max(by_component, key=lambda key: by_component[key])
    return f"{name} ({by_component[name] / max(1e-30, sum(by_component.values())):.0%})"
