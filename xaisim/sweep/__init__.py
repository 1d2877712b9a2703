"""Design-space exploration: a space file is filled point by point into a store, and its Pareto front is shown.

found = sweep(load_space("space.yaml"), "store.sqlite")          # xaisim.sweep.run
"""
