"""Data against the stored statistics of a model, and statistics computed anew from data."""
