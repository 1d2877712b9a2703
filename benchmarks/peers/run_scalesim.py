"""Time SCALE-Sim on layers: runs in SCALE-Sim's own environment, reads JSON on stdin, prints one JSON object.

Its traces are not written: with them it is slower, and nobody else here writes any. Buffers are the preset's, in words
of a byte as SCALE-Sim has them; bandwidth is calculated from demand, so that it never stalls.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import sys
import tempfile
import time
from unittest import mock

_CONFIG = """
[general]
run_name = run
[architecture_presets]
ArrayHeight = {rows}
ArrayWidth = {cols}
ifmapsramszkB = {input_kib}
filtersramszkB = {weight_kib}
ofmapsramszkB = {psum_kib}
IfmapOffset = 0
FilterOffset = 10000000
OfmapOffset = 20000000
Dataflow = {dataflow}
Bandwidth = 10
ReadRequestBuffer = 32
WriteRequestBuffer = 32
[layout]
IfmapCustomLayout = False
IfmapSRAMBankBandwidth = 10
IfmapSRAMBankNum = 10
IfmapSRAMBankPort = 2
FilterCustomLayout = False
FilterSRAMBankBandwidth = 10
FilterSRAMBankNum = 10
FilterSRAMBankPort = 2
[sparsity]
SparsitySupport = false
[run_presets]
InterfaceBandwidth = CALC
UseRamulatorTrace = False
"""


def clocks() -> tuple[float, float]:
    """Return the wall's and the processor's time."""
    return time.perf_counter(), time.process_time()


def passed(start: tuple[float, float]) -> dict[str, float]:
    """Return the time since then: ``seconds`` is the processor's where others on a busy machine made it wait."""
    wall, processor = (now - then for now, then in zip(clocks(), start, strict=True))
    return {"seconds": min(wall, processor), "wall_seconds": wall}


def write(path: str, text: str) -> str:
    """Write a file and return its path."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def topology(layer: dict) -> str:
    """Return a layer in SCALE-Sim's format: the input with its padding, as far as windows reach."""
    height, width = ((layer[o] - 1) * layer["stride"] + layer[f] for o, f in (("P", "R"), ("Q", "S")))
    sizes = (height, width, layer["R"], layer["S"], layer["C"], layer["K"], layer["stride"])
    return "Layer,H,W,R,S,C,K,stride,sparsity,\n" + ",".join([layer["name"], *map(str, sizes), "1:1", ""]) + "\n"


def run(layer: dict, config: str, folder: str) -> dict:
    """Time one layer: from its file to its report, and of that the loop over cycles, behind the demand matrices."""
    from scalesim.memory.double_buffered_scratchpad_mem import double_buffered_scratchpad
    from scalesim.scale_sim import scalesim

    loop = []
    service = double_buffered_scratchpad.service_memory_requests

    def timed(*arguments: object) -> None:
        begin = clocks()
        service(*arguments)
        loop.append(passed(begin)["seconds"])

    layout = write(os.path.join(folder, "layout.csv"), "Layer,\n")
    path = write(os.path.join(folder, "layer.csv"), topology(layer))
    start = clocks()
    simulation = scalesim(save_disk_space=True, verbose=False, config=config, topology=path, layout=layout)
    with mock.patch.object(double_buffered_scratchpad, "service_memory_requests", timed):
        simulation.run_scale(top_path=folder)
    times = passed(start)
    (simulated,) = simulation.runner.single_layer_sim_object_list
    with_prefetch, cycles = simulated.get_compute_report_items()[:2]
    counts = {"cycles": int(cycles), "cycles_with_prefetch": int(with_prefetch)}
    return {"name": layer["name"], **times, "loop_seconds": sum(loop), **counts}


def main() -> None:
    """Run every layer; the first, tiny one only warms the process up."""
    job = json.load(sys.stdin)
    tiny = {"name": "tiny", "C": 4, "K": 4, "P": 4, "Q": 4, "R": 1, "S": 1, "stride": 1}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        config = write(os.path.join(folder, "scale.cfg"), _CONFIG.format(**job["array"]))
        run(tiny, config, folder)
        layers = []
        for layer in job["layers"]:
            layers.append(run(layer, config, folder))
            print(f"scalesim {len(layers)}/{len(job['layers'])} {layers[-1]}", file=sys.stderr, flush=True)
    print(json.dumps({"version": importlib.metadata.version("scalesim"), "layers": layers}))


if __name__ == "__main__":
    main()
