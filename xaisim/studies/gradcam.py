"""Static GradCAM: what everything after the logits costs beside inference, folded, partly folded and not at all.

study(Setting(quick=True), cells, progress)

All is timed, nothing evaluated: cycles do not depend on values. PyTorch on this machine's processor stands beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from statistics import median
from typing import Any

import numpy as np

from xaisim.attribution.device import Kernel, Launch
from xaisim.attribution.gradient import differentiate
from xaisim.attribution.kernels import forward, gradcam, with_channel_weights, with_map
from xaisim.config import UserError
from xaisim.experiment import Experiment, prepare
from xaisim.models.load import Model, load_model
from xaisim.numerics.devices import DryDevice
from xaisim.numerics.formats import Formats
from xaisim.report.chart import Bars, Chart, Panel
from xaisim.simulate.program import ProgramTiming, time_program
from xaisim.studies.cells import Cells
from xaisim.studies.study import Cell, Progress, Setting, Study, Table

TITLE = "Static GradCAM: what explaining costs beside inference"
SOURCE = (
    "Bhat and Raychowdhury, AICAS 2023, doi 10.1109/AICAS57966.2023.10168594: more than 2x of inference in frameworks "
    "on CPUs and GPUs, below 0.01x on an FPGA whose whole graph is scheduled statically, for a TinyML ResNet18"
)
MODELS = ("resnet18_tiny", "resnet18_cifar", "resnet18")
ARCHS = ("pynq_z2", "ultra96_v2", "zcu104", "zcu104_ddr4")
WAYS = ("static", "head on the machine", "back to the input")
_ROUNDS = 31
_FRAMEWORK_WAYS = ("to the map", "Captum", "to the input", "backward()")


def study(setting: Setting, cells: Cells, progress: Progress) -> Study:
    """Time every way on every network and board."""
    if setting.images is not None or setting.weights is not None:
        raise UserError("study gradcam times shapes alone: it takes no --images and no --weights")
    models = setting.models or (MODELS[:1] if setting.quick else MODELS)
    archs = setting.archs or (ARCHS[:1] if setting.quick else ARCHS)
    rows = []
    for number, (name, arch) in enumerate((m, a) for m in models for a in archs):
        progress(f"{name} on {arch}", number, len(models) * len(archs))
        rows.append(cells.get(("gradcam", name, arch), lambda name=name, arch=arch: measured(name, arch)))  # type: ignore[misc]
    frameworks = [cells.get(("gradcam", "torch", name), lambda name=name: in_torch(name)) for name in models]  # type: ignore[misc]
    return _study(setting, rows, [row for row in frameworks if row is not None])


# --- the machine ------------------------------------------------------------------------------------------------------


def measured(model: str, arch: str) -> dict[str, Any]:
    """Return the cycles of inference and of each way's explanation, and what is stored for it."""
    p = prepare(Experiment(model=model, method="gradcam", arch=arch), values=False)
    row: dict[str, Any] = {"model": model, "arch": arch}

    def timed(kernel: Kernel) -> tuple[Launch, ProgramTiming]:
        device = p.device(Formats(p.numerics), DryDevice)
        feeds = {name: np.zeros((1, *type.shape)) for name, type in kernel.graph.inputs.items()}
        device.launch(kernel, feeds, sync=True)
        return device.program[0], time_program(device.program, p.arch)

    row["inference"] = timed(forward(p.model.graph))[1].cycles
    for way in WAYS:
        launch, timing = timed(kernel_of(p.model, way))
        stored = launch.graph
        row[way] = timing.cycles - row["inference"]
        row[f"{way}, bits"] = sum(n.type.size_bits for n in stored.nodes if n.op in ("positive", "pool_index"))
        row[f"{way}, MAC"] = timing.macs - p.model.graph.macs()
    row["upsampling MAC"] = int(4 * np.prod(p.model.graph.inputs["input"].shape[1:]))
    return row


def kernel_of(model: Model, way: str) -> Kernel:
    """Return GradCAM of class 0 in one of ``WAYS``.

    ``static`` folds all that is constant. ``head on the machine`` computes the gradient of the head in every run, from
    a seed that the host sends. ``back to the input`` computes the gradient of every layer, down to the input, as a
    framework does that is asked for all gradients.
    """
    graph, layer = model.graph, model.features
    _, *size = graph.inputs["input"].shape
    if way == "static":
        return gradcam(graph, 0, layer, (size[0], size[1]))
    logits = graph.outputs[0]
    if way == "head on the machine":
        inner = differentiate(graph, logits, layer)
        weighed = with_channel_weights(inner, layer, inner.outputs[-1], logits)
        return Kernel(way, with_map(weighed, layer, (size[0], size[1])))
    inner = differentiate(graph, logits, "input", also=(layer,))
    weighed = with_channel_weights(inner, layer, inner.outputs[-2], logits, inner.outputs[-1])
    return Kernel(way, with_map(weighed, layer, (size[0], size[1])))


# --- PyTorch ----------------------------------------------------------------------------------------------------------


def in_torch(model: str) -> dict[str, Any] | None:
    """Return milliseconds of each way in PyTorch, float32 on this machine's processor; None without PyTorch."""
    try:
        import torch

        from xaisim.studies.networks_torch import from_graph
    except ModuleNotFoundError:
        return None
    network = from_graph(load_model(model, "random"))
    x = torch.randn(1, *load_model(model, values=False).graph.inputs["input"].shape)

    def inference() -> None:
        with torch.no_grad():
            network(x)

    def to_the_map() -> None:
        logits, features = network(x, keep=True)
        _map_of(features, torch.autograd.grad(logits[0, 0], features)[0], x)

    def to_the_input() -> None:
        inputs = x.clone().requires_grad_()
        logits, features = network(inputs, keep=True)
        gradient, _ = torch.autograd.grad(logits[0, 0], (features, inputs))
        _map_of(features, gradient, x)

    def to_everything() -> None:  # hooks on a layer, and loss.backward() as in training
        for parameter in network.parameters():
            parameter.requires_grad_().grad = None
        inputs = x.clone().requires_grad_()
        logits, features = network(inputs, keep=True)
        features.retain_grad()
        logits[0, 0].backward()
        _map_of(features, features.grad, x)
        for parameter in network.parameters():
            parameter.requires_grad_(False)

    ways = {"inference": inference, "to the map": to_the_map, "to the input": to_the_input, "backward()": to_everything}
    with suppress(ModuleNotFoundError):
        ways |= {"Captum": _by_captum(network, x)}
    return {"model": model, "threads": torch.get_num_threads(), "torch": torch.__version__, **_in_turn(ways)}


def _by_captum(network: Any, x: Any) -> Callable[[], Any]:
    """Return Captum's own LayerGradCam of the last feature map; raises ``ModuleNotFoundError`` without it."""
    from captum.attr import LayerAttribution, LayerGradCam

    explain = LayerGradCam(network, network.tap)

    def run() -> Any:
        found = explain.attribute(x.clone(), target=0, relu_attributions=True)
        return LayerAttribution.interpolate(found, tuple(x.shape[2:]), "bilinear")

    return run


def _map_of(features: Any, gradient: Any, x: Any) -> Any:
    from torch.nn import functional

    weights = gradient.mean(dim=(2, 3), keepdim=True)
    plane = (weights * features).sum(dim=1, keepdim=True).relu()
    return functional.interpolate(plane, size=x.shape[2:], mode="bilinear", align_corners=False).detach()


def _in_turn(ways: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Return the median milliseconds of each, timed in turn so that a busy moment meets all of them."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(_ROUNDS + 1):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - begin)
    return {name: 1e3 * median(taken[1:]) for name, taken in times.items()}


# --- the outcome ------------------------------------------------------------------------------------------------------


def _study(setting: Setting, rows: list[dict[str, Any]], frameworks: list[dict[str, Any]]) -> Study:
    ratios = {way: [row[way] / row["inference"] for row in rows] for way in WAYS}
    worst, best = max(ratios["static"]), min(ratios["static"])
    below = sum(ratio < 0.01 for ratio in ratios["static"])
    verdict = [
        f"explaining statically costs {best:.4f}x to {worst:.4f}x of inference; below the paper's 0.01x in {below} "
        f"of {len(rows)} cases, below 0.005x in {sum(r < 0.005 for r in ratios['static'])}",
        f"gradients of every layer down to the input cost {min(ratios[WAYS[2]]):.2f}x to {max(ratios[WAYS[2]]):.2f}x "
        "on the same machines",
        _framework_line(frameworks),
    ]
    return Study(
        "gradcam", TITLE, SOURCE, tuple(verdict), (_machine_table(rows), _torch_table(frameworks)),
        _chart(rows), {"static_worst": worst, "static_best": best, "full_worst": max(ratios[WAYS[2]])}, asdict(setting),
    )  # fmt: skip


def _framework_line(frameworks: list[dict[str, Any]]) -> str:
    if not frameworks:
        return "PyTorch is not installed here, so frameworks were not measured (pip install 'xaisim[torch]')"
    parts = []
    for way in _FRAMEWORK_WAYS:
        over = [row[way] / row["inference"] - 1 for row in frameworks if way in row]
        if not over:
            continue
        parts.append(f"{way} {min(over):.2f}x to {max(over):.2f}x")
    return "PyTorch on this processor adds, over its inference: " + ", ".join(parts)


def _machine_table(rows: list[dict[str, Any]]) -> Table:
    columns = ("network", "machine", "inference", *(f"{way}, x" for way in WAYS), "static, cycles", "static, MAC",
               "to the input, stored bits")  # fmt: skip
    cells: list[tuple[Cell, ...]] = [
        (r["model"], r["arch"], r["inference"], *(r[way] / r["inference"] for way in WAYS), r["static"],
         r["static, MAC"], r[f"{WAYS[2]}, bits"])
        for r in rows
    ]  # fmt: skip
    note = (
        "Cycles of everything after the logits over cycles of inference: weighing the map, upsampling to the input, "
        "all traffic, and the host's part. *Static*: what is constant is folded before the run and the host picks the "
        "class's row. *Head on the machine*: the head's gradient is computed in every run. *Back to the input*: the "
        "gradient of every layer, with masks and indices stored, as when a framework is asked for all gradients."
    )
    return Table("On the simulated machines", note, columns, cells)


def _torch_table(frameworks: list[dict[str, Any]]) -> Table:
    ways = _FRAMEWORK_WAYS
    cells: list[tuple[Cell, ...]] = [
        (r["model"], r["inference"], *(r.get(way) for way in ways),
         *(r[way] / r["inference"] - 1 if way in r else None for way in ways))
        for r in frameworks
    ]  # fmt: skip
    used = "; ".join(dict.fromkeys(f"{r['torch']}, threads: {r['threads']}" for r in frameworks))
    note = (
        f"PyTorch {used}, float32, one picture, milliseconds (medians of {_ROUNDS} rounds, all in turn), and "
        "what explaining adds over inference. *To the map* stops at the last feature map; *Captum*, where it is "
        "installed, is its `LayerGradCam` of that map with `LayerAttribution.interpolate`; *to the input* asks for "
        "the input's gradient "
        "too; *backward()* is what a hook on a layer and `loss.backward()` cost, gradients of all weights included."
    )
    named = tuple(f"{way}, ms" for way in ways) + tuple(f"{way}, x" for way in ways)
    return Table("In a framework", note, ("network", "inference, ms", *named), cells)


def _chart(rows: list[dict[str, Any]]) -> Chart:
    panels = []
    for model in dict.fromkeys(row["model"] for row in rows):
        mine = [row for row in rows if row["model"] == model]
        bars = [Bars(way, [row[way] / row["inference"] for row in mine]) for way in WAYS]
        names = [row["arch"] for row in mine]
        panels.append(
            Panel(
                model, "", "explanation over inference", bars, names, log_y=True, guides=((0.01, "0.01x"), (2.0, "2x"))
            )
        )
    return Chart(TITLE, panels)
