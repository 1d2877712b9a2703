"""The studies by name; this is the one place where a study is added.

run("nuig", Setting(quick=True), Cells(None, ""))       calls ``study()`` of xaisim/studies/nuig.py
"""

from __future__ import annotations

from importlib import import_module

from xaisim.config import choose
from xaisim.studies.cells import Cells
from xaisim.studies.study import Progress, Setting, Study

STUDIES: dict[str, str] = {
    "nuig": "Non-uniform interpolation: points and cycles at equal completeness",
    "gradcam": "Static GradCAM: what explaining costs beside inference",
    "edge": "Saliency, DeconvNet and guided backprop on three boards",
    "smoothtaylor": "SmoothTaylor: noise, faithfulness and what they cost",
    "idg": "Integrated Decision Gradients beside its rivals",
}
"""Name and title."""


def run(name: str, setting: Setting, cells: Cells, progress: Progress) -> Study:
    """Run one study; raises ``UserError`` for an unknown one and for settings that it cannot use."""
    module = import_module(f"xaisim.studies.{choose('study', name, STUDIES)}")
    found: Study = module.study(setting, cells, progress)
    return found
