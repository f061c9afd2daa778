"""What people and programs get wrong: each module yields readings of the same parameters."""
