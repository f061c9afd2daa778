"""Keras 3 and tf-keras, which share all but their names."""
