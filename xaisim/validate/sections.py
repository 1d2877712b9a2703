"""The sections in the order of the page; this is the one place where a section is added.

run("closed_forms")         calls ``section()`` of xaisim/validate/closed_forms.py
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from xaisim.config import choose
from xaisim.validate.section import Section


class Listed(NamedTuple):
    """A section before it is run."""

    title: str
    extra: str | None = None
    """The optional dependencies that it needs: ``xaisim[rtl]``."""


SECTIONS: dict[str, Listed] = {
    "closed_forms": Listed("Closed forms of arrays"),
    "executor": Listed("Schedules on modelled memories"),
    "rtl": Listed("The array in RTL", extra="rtl"),
    "scalesim": Listed("ResNet18 in SCALE-Sim 3.0.0"),
    "eyeriss": Listed("Eyeriss: AlexNet on the chip"),
    "eyeriss_energy": Listed("Eyeriss: energy by part"),
    "gemmini": Listed("Gemmini: layers on its RTL"),
    "dram": Listed("DRAM timings"),
    "fpga": Listed("DSP blocks of an FPGA accelerator"),
    "energy": Listed("Energy of single events"),
}


def chosen(names: Sequence[str]) -> list[str]:
    """Return the named sections in the order of the page, all of them for no names; raise ``UserError``."""
    wanted = {choose("section", name, SECTIONS) for name in names} or set(SECTIONS)
    return [name for name in SECTIONS if name in wanted]


def run(name: str) -> Section:
    """Run one section; where a package of its extra is not installed, the section says so and nothing else."""
    listed = SECTIONS[name]
    try:
        section: Section = import_module(f"xaisim.validate.{name}").section()
    except ModuleNotFoundError as error:
        if listed.extra is None or (error.name or "").split(".")[0] == "xaisim":
            raise  # our own mistake, not the user's choice
        verdict = f"not run: {error.name} is not installed (pip install 'xaisim[{listed.extra}]')"
        return Section(listed.title, "", (), (), "", verdict)
    return section
