"""Supervised processes, in which files are parsed and frameworks run."""
