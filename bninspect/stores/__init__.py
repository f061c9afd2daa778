"""Models that are not on this machine: where they are, what of them is fetched, and what a server must not do to us."""
