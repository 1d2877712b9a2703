"""What the simulator is held against, as sections of one page: closed forms, RTL, measured chips.

for section in (run(name) for name in SECTIONS):
    print(section.title, section.verdict)
"""

from xaisim.validate.section import Scatter, Section
from xaisim.validate.sections import SECTIONS, chosen, run

__all__ = ["SECTIONS", "Scatter", "Section", "chosen", "run"]
