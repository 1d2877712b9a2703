"""``python -m xaisim`` is ``xaisim``."""

from xaisim.cli import main

main(prog_name="xaisim")
