"""What the detective answers: the causes that fit, and what it looked at."""

from bninspect.records import Cause, Explanation

__all__ = ["Cause", "Explanation"]
