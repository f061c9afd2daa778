"""The formula, how far a correct kernel may be from it, and the comparison element by element."""
