"""Data to run a model on, a few samples at a time: arrays and images in files."""
