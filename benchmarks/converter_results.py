"""What came of each cell: right, wrong, refused ..., and whether bninspect says the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from converter_cells import Cell

RIGHT, WRONG, BROKEN, REFUSED, UNRUN = "right", "wrong", "broken", "refused", "not run"
CUT_OFF = "cut off"
"""In what bninspect says of numbers beyond a range."""
VERDICTS = {0: "proved", 1: "failed", 3: "unverified"}


@dataclass(frozen=True)
class Result:
    """What came of a cell."""

    cell: Cell
    measured: str
    """right or wrong by its outputs, broken if its runtime does not load it, refused, or not run."""
    ratio: float | None = None
    """Largest difference of the outputs as a part of what is allowed."""
    why: str = ""
    """What converter or runtime said."""
    verdict: str = ""
    """proved, failed or unverified by bninspect; empty if it was not asked."""
    said: str = ""
    """Its first reason; of what it passes, what it says is cut off."""
    halved: float | None = None
    """The same ratio for the inputs halved, where the whole ones are wrong."""

    @property
    def is_cut(self) -> bool:
        """Whether it is right but for what its range cuts off, and bninspect passes it and says what that is."""
        inside = self.measured == WRONG and self.halved is not None and self.halved <= 1
        return inside and self.verdict == "proved" and CUT_OFF in self.said

    @property
    def disagrees(self) -> bool:
        """Whether bninspect passes what is wrong, or fails what is right."""
        passed = self.measured in {WRONG, BROKEN} and self.verdict == "proved" and not self.is_cut
        return passed or (self.measured == RIGHT and self.verdict == "failed")


def result(cell: Cell) -> Result | None:
    """Return what came of a cell; None if nobody has tried, or there was nothing to take."""
    return classified(cell, cell.told("conversion"), cell.told("outputs"), cell.told("verdict"))


def classified(
    cell: Cell, conversion: Mapping[str, Any], outputs: Mapping[str, Any], verdict: Mapping[str, Any]
) -> Result | None:
    """Return what the steps of a cell come to."""
    if not conversion or conversion.get("absent"):
        return None
    if "file" not in conversion:
        return Result(cell, REFUSED, why=str(conversion["error"]))
    words = verdict.get("said") or ("",)
    asked = VERDICTS.get(verdict["code"], "unverified") if verdict else ""
    said = str(words[0])
    if not outputs:
        return Result(cell, UNRUN, verdict=asked, said=said)
    if "error" in outputs:
        shape = str(outputs["error"]).startswith("returns the shape")
        return Result(cell, WRONG if shape else BROKEN, None, str(outputs["error"]), asked, said)
    measured = RIGHT if outputs["right"] else WRONG
    return Result(cell, measured, outputs["ratio"], "", asked, said, outputs.get("halved"))
