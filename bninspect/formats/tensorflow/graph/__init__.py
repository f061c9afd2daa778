"""Nodes and functions, flattened into the graph that a signature computes."""
