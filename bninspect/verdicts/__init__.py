"""Observations to a verdict on every layer."""
