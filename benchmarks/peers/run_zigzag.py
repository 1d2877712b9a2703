"""Time ZigZag on layers: runs in ZigZag's own environment, reads JSON on stdin, prints one JSON object.

The machine is ZigZag's own ``tpu_like`` (32×32 weight stationary), the search its default (loma, uneven, limit 6), for
latency. Layers are written as its ONNX parser would write them.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import logging
import sys
import tempfile
import time
from pathlib import Path


def layer_data(number: int, layer: dict) -> dict:
    """Return a convolution or a matrix product in ZigZag's format."""
    data = {
        "id": number,
        "name": layer["name"],
        "operator_type": "Conv",
        "equation": "O[b][g][k][oy][ox]+=W[g][k][c][fy][fx]*I[b][g][c][iy][ix]",
        "loop_dims": ["B", "K", "G", "OX", "OY", "C", "FX", "FY"],
        "loop_sizes": [1, layer["K"], 1, layer["Q"], layer["P"], layer["C"], layer["S"], layer["R"]],
        "dimension_relations": [f"ix={layer['stride']}*ox+1*fx", f"iy={layer['stride']}*oy+1*fy"],
        "pr_loop_dims": ["IX", "IY"],
        "pr_loop_sizes": [layer["W"], layer["H"]],
        "padding": [[layer["padding"]] * 2] * 2,
    }
    if layer["H"] == layer["R"] == 1:
        data = {
            "id": number,
            "name": layer["name"],
            "operator_type": "Gemm",
            "equation": "O[d][k]+=I[d][c]*W[c][k]",
            "loop_dims": ["C", "D", "K"],
            "loop_sizes": [layer["C"], 1, layer["K"]],
            "dimension_relations": [],
        }
    source = {"W": number, "I": number}  # nobody's output: each layer is by itself
    return {**data, "operand_precision": {"W": 8, "I": 8, "O": 16, "O_final": 8}, "operand_source": source}


def main() -> None:
    """Search and evaluate all layers in one call."""
    layers = json.load(sys.stdin)["layers"]
    with contextlib.redirect_stdout(sys.stderr):
        import zigzag.inputs
        from zigzag.api import get_hardware_performance_zigzag

        logging.disable(logging.INFO)
        inputs = Path(next(iter(zigzag.inputs.__path__)))
        with tempfile.TemporaryDirectory() as folder:
            start, processor = time.perf_counter(), time.process_time()
            _, latency, results = get_hardware_performance_zigzag(
                [layer_data(number, layer) for number, layer in enumerate(layers)],
                str(inputs / "hardware" / "tpu_like.yaml"),
                str(inputs / "mapping" / "tpu_like.yaml"),
                opt="latency",
                dump_folder=folder,
                loma_show_progress_bar=False,
            )
            wall, processor = time.perf_counter() - start, time.process_time() - processor
    found = [{"name": r[0].layer.name, "cycles": float(r[0].latency_total2)} for r in results[0][1]]
    version = importlib.metadata.version("zigzag-dse")
    times = {"seconds": min(wall, processor), "wall_seconds": wall}  # the processor's if others made it wait
    print(json.dumps({"version": version, **times, "cycles": float(latency), "layers": found}))


if __name__ == "__main__":
    main()
