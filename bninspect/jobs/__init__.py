"""Many models: which there are, several at a time, in parts, resumed, against a baseline."""
