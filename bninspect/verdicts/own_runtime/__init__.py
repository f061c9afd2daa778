"""Runtimes of people's own: test vectors for them, and the verdict on what they returned."""
