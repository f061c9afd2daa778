"""The version, in a module of its own, so that nothing must import the face of the package for it."""

__version__ = "0.1.0"
