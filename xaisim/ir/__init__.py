"""The graph: types, operators, SSA nodes and the one evaluator that gives them their meaning."""
