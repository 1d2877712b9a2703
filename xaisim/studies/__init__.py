"""Studies that regenerate the headline comparison of a published system, each with a better point beside it.

xaisim study nuig --quick
"""

from xaisim.studies.listed import STUDIES, run

__all__ = ["STUDIES", "run"]
