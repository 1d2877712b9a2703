"""What a column is called on an axis: the key of the space file or the output, with its unit.

label_of("latency_ms") == ("latency", "ms"), label_of("fidelity.spearman") == ("Spearman", "")
"""

from __future__ import annotations

from collections.abc import Sequence

_UNITS = {
    "ms": "ms", "us": "µs", "ns": "ns", "s": "s", "pj": "pJ", "nj": "nJ", "uj": "µJ", "mj": "mJ", "j": "J", "w": "W",
    "mw": "mW", "mm2": "mm²", "um2": "µm²", "db": "dB", "pct": "%", "mhz": "MHz", "bits": "bits", "bytes": "bytes",
    "kib": "KiB", "mib": "MiB", "gbps": "GB/s", "mb": "MB", "per_s": "1/s",
}  # fmt: skip
_NAMES = {"sqnr": "SQNR", "spearman": "Spearman", "pearson": "Pearson", "ssim": "SSIM", "nrmse": "NRMSE", "edp": "EDP",
          "macs": "MACs", "topk": "top-k", "lut": "LUT", "dsp": "DSP", "bram": "BRAM", "dram": "DRAM"}  # fmt: skip
_IN_UNITS = {"edp": "mJ·ms", "seconds": "s"}


def label_of(name: str) -> tuple[str, str]:
    """Return an output's words and unit. What stands before the last dot stays in front, but for "fidelity"."""
    *before, last = name.split(".")
    place = " ".join(part for part in before if part != "fidelity")
    words, unit = last, _IN_UNITS.get(last, "")
    for suffix, text in sorted(_UNITS.items(), key=lambda item: -len(item[0])):
        if last.endswith("_" + suffix):
            words, unit = last.removesuffix("_" + suffix), text
            break
    spoken = " ".join(_NAMES.get(word, word) for word in words.split("_"))
    return f"{place} {spoken}".strip(), unit


def short_names(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return inputs by the last two parts of their keys, by the whole key where those are not unique; no units."""
    short = {name: ".".join(name.split(".")[-2:]) for name in names}
    taken = list(short.values())
    return {name: (text if taken.count(text) == 1 else name, "") for name, text in short.items()}
