"""Encodings that several formats share, read without trust."""
