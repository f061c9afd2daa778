"""TensorFlow's graphs, run in a session of TensorFlow 1."""
