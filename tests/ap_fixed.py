"""The ``ap_fixed`` headers of the HLS tools as an oracle of ``requant``: a generated C++ library, called by ctypes.

The headers (Apache-2.0, Xilinx) come inside the PyPI package ``hls4ml``, which is looked up, never imported.
Width, sign and modes are template parameters, so every conversion is instantiated and compiled once per session.
"""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import subprocess
from pathlib import Path

import numpy as np
from conversions import Conversion

from xaisim.ir.types import FixedPoint

HEADERS = "templates/vivado/ap_types"

SOURCE = """\
#include <ap_fixed.h>
#include <cstdint>

template <class From, class To> void convert(const int64_t* in, int64_t* out, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    From from;
    from.range() = static_cast<ap_ulong>(in[i]);
    To to = from;
    out[i] = static_cast<int64_t>(to.range().to_uint64());
  }
}

using Convert = void (*)(const int64_t*, int64_t*, int64_t);
static const Convert table[] = {
%s
};

extern "C" void run(int64_t row, const int64_t* in, int64_t* out, int64_t count) { table[row](in, out, count); }
"""


def missing() -> str | None:
    """Return why the oracle cannot be built here, or ``None``."""
    if shutil.which("g++") is None:
        return "needs a C++ compiler: g++"
    if headers() is None:
        return "needs the ap_fixed headers: pip install --no-deps hls4ml==1.3.0"
    return None


def headers() -> Path | None:
    """Return the folder of the headers, if ``hls4ml`` is installed; its dependencies need not be."""
    package = importlib.util.find_spec("hls4ml")
    folders = package.submodule_search_locations if package else None
    found = [Path(folder) / HEADERS for folder in folders or []]
    return next((folder for folder in found if (folder / "ap_fixed.h").is_file()), None)


def cpp_type(format: FixedPoint, *, modes: bool) -> str:
    """Return the C++ type; the second parameter counts the bits before the point."""
    how = f", AP_{format.rounding.name}, AP_{format.overflow.name}" if modes else ""
    return f"ap_{'' if format.signed else 'u'}fixed<{format.bits}, {format.bits - format.frac}{how}>"


class Oracle:
    """Compiled conversions; the work is split over ``parts`` compilers side by side."""

    def __init__(self, conversions: list[Conversion], folder: Path, parts: int = 2) -> None:
        self._place = {c: (n % parts, n // parts) for n, c in enumerate(conversions)}
        compilers = [self._compile(conversions[part::parts], folder / f"ap_fixed{part}") for part in range(parts)]
        for compiler in compilers:
            _, errors = compiler.communicate()
            assert compiler.returncode == 0, errors
        self._libraries = [ctypes.CDLL(str(folder / f"ap_fixed{part}.so")) for part in range(parts)]

    @staticmethod
    def _compile(conversions: list[Conversion], path: Path) -> subprocess.Popen[str]:
        """Start a compiler; without NDEBUG the headers refuse to drop more bits than there are."""
        rows = [f"  convert<{cpp_type(c.source, modes=False)}, {cpp_type(c.to, modes=True)}>," for c in conversions]
        path.with_suffix(".cpp").write_text(SOURCE % "\n".join(rows))
        options = ["-std=c++14", "-O1", "-DNDEBUG", "-w", "-shared", "-fPIC", "-isystem", str(headers())]
        command = ["g++", *options, str(path.with_suffix(".cpp")), "-o", str(path.with_suffix(".so"))]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def __call__(self, conversion: Conversion, values: np.ndarray) -> np.ndarray:
        """Return what ``ap_fixed`` makes of integers of the source format: int64, as the bits of the target read."""
        part, row = self._place[conversion]
        source, out = np.ascontiguousarray(values, np.int64), np.empty(values.shape, np.int64)
        pointers = [ctypes.c_void_p(a.ctypes.data) for a in (source, out)]
        self._libraries[part].run(ctypes.c_int64(row), *pointers, ctypes.c_int64(values.size))
        to = conversion.to
        return out - ((out >> (to.bits - 1)) << to.bits) if to.signed else out
