"""Darknet, read without it: sections of text, and numbers without names in the order of the sections."""
