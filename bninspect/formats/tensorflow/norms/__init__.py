"""Where in a graph of TensorFlow are batch norms."""
