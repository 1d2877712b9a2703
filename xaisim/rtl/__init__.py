"""The systolic array as hardware: RTL from an architecture's array, held bit for bit and cycle for cycle to the model.

    design_of(load_architecture("edge_systolic_16_ws"))      # what is generated
    write_rtl(design, folder)                                # array.v, testbench.v, README.md and a product to run

What makes and simulates hardware is in Amaranth, the extra ``xaisim[rtl]``; nothing here imports it before it must.
"""

from xaisim.rtl.design import Design, design_of

__all__ = ["Design", "design_of"]
