"""Gradients on the edge: Saliency, DeconvNet and guided backprop on the hardware of inference, in 16 bits.

study(Setting(quick=True), cells, progress)

Latency, memory and blocks of inference alone and with attribution, on three boards; timed by shapes.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from xaisim.config import UserError
from xaisim.experiment import Experiment, Prepared, prepare
from xaisim.flow import profile
from xaisim.hardware.fpga import load_board, misfits, resources
from xaisim.ir.ops import VIEWS
from xaisim.report.chart import Bars, Chart, Panel
from xaisim.report.report import Report
from xaisim.studies.cells import Cells
from xaisim.studies.study import Cell, Progress, Setting, Study, Table

TITLE = "Saliency, DeconvNet and guided backprop on three boards"
SOURCE = (
    "Bhat, Assoa and Raychowdhury 2022, arXiv 2210.10922: one tiled 16-bit design for all three on CIFAR-10 networks "
    "and Xilinx boards, whose forward hardware is reused for backward"
)
MODELS = ("cifar_cnn", "resnet18_tiny")
ARCHS = ("pynq_z2", "ultra96_v2", "zcu104")
METHODS = ("saliency", "deconvnet", "guided_backprop")
_FRAMEWORK_BITS = 32


def study(setting: Setting, cells: Cells, progress: Progress) -> Study:
    """Time every method on every network and board."""
    if setting.images is not None or setting.weights is not None:
        raise UserError("study edge times shapes alone: it takes no --images and no --weights")
    models = setting.models or (MODELS[:1] if setting.quick else MODELS)
    archs = setting.archs or (ARCHS[:1] if setting.quick else ARCHS)
    cases = [(model, method, arch) for model in models for arch in archs for method in METHODS]
    rows = []
    for number, case in enumerate(cases):
        progress(" ".join(case), number, len(cases))
        rows.append(cells.get(("edge", *case), lambda case=case: measured(*case)))  # type: ignore[misc]
    blocks = [cells.get(("edge", "blocks", arch), lambda arch=arch: blocks_of(arch)) for arch in archs]  # type: ignore[misc]
    return _study(setting, rows, blocks)


def measured(model: str, method: str, arch: str) -> dict[str, Any]:
    """Return latency, memory and causes of one method."""
    experiment = Experiment(model=model, method=method, arch=arch)
    p, report = prepare(experiment, values=False), profile(experiment)
    return {
        "model": model,
        "method": method,
        "arch": arch,
        "inference_ms": report.latency_ms * report.cycles.inference / report.cycles.total,
        "total_ms": report.latency_ms,
        "overhead": report.overhead,
        "energy_uj": report.energy_uj.total,
        "stored_bits": report.memory.mask_bits + report.memory.index_bits,
        "on_chip_bits": report.memory.on_chip_bits,
        "spilled_bits": report.memory.spilled_bits,
        "recomputed_bits": report.memory.recomputed_bits,
        "backward_mac": report.macs.backward,
        "forward_mac": report.macs.forward,
        "utilisation": report.utilisation,
        "causes": causes(report),
        **memory_of(p),
    }


def memory_of(p: Prepared) -> dict[str, int]:
    """Return what has to be kept from forward, in bits: by a framework whose ReLUs work in place, and at least."""
    graph = p.model.graph
    in_place = {n.args[0] for n in graph.nodes if n.op == "relu"}
    types, relus = graph.types(), [n for n in graph.nodes if n.op == "relu"]
    pools = [n for n in graph.nodes if n.op == "maxpool"]
    index = sum(n.type.size * max(1, (n.attrs["kernel"][0] * n.attrs["kernel"][1] - 1).bit_length()) for n in pools)
    # Where a convolution's stored output lies in DRAM anyway, its mask is a comparison with zero when it is read again.
    flat = sum(types[n.name].size for n in relus if len(types[n.name].shape) == 1)
    return {
        "framework_bits": _FRAMEWORK_BITS
        * sum(n.type.size for n in graph.nodes if n.op not in VIEWS and n.name not in in_place),
        "least_bits": index if p.experiment.method == "deconvnet" else index + flat,
    }


def causes(report: Report) -> dict[str, float]:
    """Return the shares of backward's cycles on the critical path by unit, and of what has no stage."""
    backward = {(row.kernel, row.stage) for row in report.layers if row.backward}
    spent: dict[str, int] = {}
    for part in report.critical_path.spent:
        if (part.kernel, part.stage) in backward or part.unit == "host":
            spent[part.unit] = spent.get(part.unit, 0) + part.cycles
    total = max(1, sum(spent.values()))
    return {unit: cycles / total for unit, cycles in sorted(spent.items(), key=lambda item: -item[1])}


def blocks_of(arch: str) -> dict[str, Any]:
    """Return the blocks of a design and whether its board has them; attribution takes no more than inference."""
    p = prepare(Experiment(arch=arch), values=False)
    row: dict[str, Any] = {"arch": arch, "board": p.arch.board, "multipliers": p.arch.peak_macs_per_cycle}
    if p.arch.board is None:
        return row | {"dsp": None, "bram36": None, "fits": "no board"}
    board = load_board(p.arch.board)
    need = resources(p.arch, board.dsp_kind)
    missing = misfits(need, board)
    return row | {
        "dsp": need.dsp, "bram36": need.bram36, "dsp_of": board.dsp, "bram36_of": board.bram36,
        "fits": "; ".join(missing) or "yes",
        # Masks and indices have a memory of their own; it is all that backward adds to the blocks.
        "mask_bram36": need.bram36 - resources(_without_masks(p), board.dsp_kind).bram36,
    }  # fmt: skip


def _without_masks(p: Prepared) -> Any:
    kept = tuple(m for m in p.arch.memories if getattr(m, "holds", None) != ("mask",))
    return p.arch.model_copy(update={"memories": kept})


# --- the outcome ------------------------------------------------------------------------------------------------------


def _study(setting: Setting, rows: list[dict[str, Any]], blocks: list[dict[str, Any]]) -> Study:
    low, high = min(r["overhead"] for r in rows), max(r["overhead"] for r in rows)
    work = [r["backward_mac"] / r["forward_mac"] for r in rows]
    boards = [b for b in blocks if b["dsp"] is not None]
    verdict = [
        f"attribution adds {low:.2f}x to {high:.2f}x of inference; backward multiplies {_spread(work)} as often as it",
        _memory_line(rows),
    ]
    if boards:
        masks = _range([b["mask_bram36"] for b in boards])
        verdict.append(
            f"backward runs on the multipliers of inference; memories of masks and indices take {masks} block RAMs"
        )
    headline = {"overhead_low": low, "overhead_high": high, "least_bits": min(r["least_bits"] for r in rows)}
    return Study(
        "edge", TITLE, SOURCE, tuple(verdict), (_latency(rows), _memory(rows), _blocks(blocks)), _chart(rows), headline,
        asdict(setting),
    )  # fmt: skip


def _range(values: list[int]) -> str:
    low, high = (min(values), max(values)) if values else (0, 0)
    return str(low) if low == high else f"{low} to {high}"


def _spread(values: list[float]) -> str:
    low, high = f"{min(values):.2f}x", f"{max(values):.2f}x"
    return low if low == high else f"{low} to {high}"


def _memory_line(rows: list[dict[str, Any]]) -> str:
    parts = []
    for model in dict.fromkeys(r["model"] for r in rows):
        r = next(r for r in rows if r["model"] == model)
        least = r["least_bits"]
        less = f", {r['framework_bits'] / least:,.0f}x less than all layers' outputs in 32 bits" if least else ""
        parts.append(f"{model} {least:,} bits{less}")
    return "kept for backward at least: " + "; ".join(parts)


def _latency(rows: list[dict[str, Any]]) -> Table:
    cells: list[tuple[Cell, ...]] = [
        (r["model"], r["arch"], r["method"], r["inference_ms"], r["total_ms"], r["overhead"],
         r["backward_mac"] / r["forward_mac"], 100 * r["utilisation"],
         ", ".join(f"{unit} {share:.0%}" for unit, share in r["causes"].items() if share >= 0.005), r["energy_uj"])
        for r in rows
    ]  # fmt: skip
    columns = ("network", "board", "method", "inference, ms", "with attribution, ms", "overhead, x", "backward MAC, x",
               "array used, %", "what the overhead waits for", "energy, µJ")  # fmt: skip
    note = (
        "One picture, 16 bits. *Overhead*: what attribution adds, over inference. *What it waits for*: the units on "
        "the critical path of backward's tiles; dma is traffic that nothing hides, gradients and spilled masks in it."
    )
    return Table("Latency", note, columns, cells)


def _memory(rows: list[dict[str, Any]]) -> Table:
    cells: list[tuple[Cell, ...]] = [
        (r["model"], r["method"], r["arch"], r["stored_bits"], r["on_chip_bits"], r["spilled_bits"],
         r["recomputed_bits"], r["least_bits"], r["framework_bits"])
        for r in rows
    ]  # fmt: skip
    columns = ("network", "method", "board", "masks and indices, bits", "on the chip", "in DRAM", "computed again",
               "least", "framework, bits")  # fmt: skip
    note = (
        "What backward needs of forward beyond inference. Here a mask is the sign of the accumulator before it is "
        "rounded, so it is stored or computed again from the accumulator; *least* is what remains where masks of "
        "convolutions are read off their stored outputs, pool indices and flat layers' masks, as in the paper. "
        "*Framework*: the outputs of all layers in 32 bits, ReLUs in place."
    )
    return Table("Memory", note, columns, cells)


def _blocks(blocks: list[dict[str, Any]]) -> Table:
    cells: list[tuple[Cell, ...]] = [
        (b["arch"], b["multipliers"], b["dsp"], b.get("dsp_of"), b["bram36"], b.get("bram36_of"), b.get("mask_bram36"),
         b["fits"])
        for b in blocks
    ]  # fmt: skip
    columns = ("design", "multipliers", "DSP", "of", "BRAM36", "of", "for masks", "fits")
    note = (
        "Inference and attribution run on one design. LUTs and flip-flops of the control are not modelled. *For "
        "masks*: block RAM that inference alone would not need."
    )
    return Table("Blocks", note, columns, cells)


def _chart(rows: list[dict[str, Any]]) -> Chart:
    panels = []
    for model in dict.fromkeys(r["model"] for r in rows):
        archs = list(dict.fromkeys(r["arch"] for r in rows if r["model"] == model))

        def of(arch: str, method: str, key: str, model: str = model) -> float:
            found = next(r for r in rows if (r["model"], r["arch"], r["method"]) == (model, arch, method))
            return float(found[key])

        bars = [Bars("inference", [of(arch, METHODS[0], "inference_ms") for arch in archs])]
        bars += [Bars(f"with {method}", [of(arch, method, "total_ms") for arch in archs]) for method in METHODS]
        panels.append(Panel(model, "", "latency, ms", bars, archs))
    return Chart(TITLE, panels)
