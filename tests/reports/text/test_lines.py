"""Lines at a terminal's width: what follows a label stays to the right of it."""

from __future__ import annotations

import pytest

from bninspect.reports import Looks
from bninspect.reports.text.lines import line, shown


@pytest.mark.parametrize(
    ("label", "hanging"),
    [("FAIL  ", 6), ("ERROR ", 6), ("error   ", 8), ("      cause      ", 17), ("        hint: ", 14), ("", 6)],
)
def test_what_does_not_fit_goes_on_below_the_words(label: str, hanging: int) -> None:
    words = "set epsilon=0.001 in the code that exports, then export again"
    rows = shown([line((label, "red"), words)], Looks(width=40)).splitlines()
    assert len(rows) > 1
    assert max(map(len, rows)) <= 40
    assert {len(row) - len(row.lstrip()) for row in rows[1:]} == {hanging}
    assert " ".join(" ".join(rows).split()) == f"{label.strip()} {words}".strip()


def test_what_fits_and_what_goes_into_a_pipe_stays_as_it_is() -> None:
    table = "batch_normalization           8   0.0237 .. 0.077         -"
    assert shown([line(table)], Looks(width=len(table))) == f"{table}\n"
    assert shown([line(table * 9)], Looks()) == f"{table * 9}\n"
