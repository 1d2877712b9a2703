"""Schedules of commands: a loop nest run by an accelerator that unrolls tiles into loads, products and stores.

nest = parse_nest("L3[WIO] K8 - L2[WI] K16X - L1[O] C4 P8 C16X - L0[W] P16", layer)
tiles = lower_nest(nest, load_soc("gemmini_16"))          # a TileGraph for the clock
"""
