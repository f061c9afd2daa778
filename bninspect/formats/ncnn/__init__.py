"""ncnn, read without it: lines of text, and numbers without names in the order of the lines."""
