"""What comparing two reports finds. One function per rule; its docstring is its manual page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from bninspect.records import Finding, Severity


def worse(how: str, severity: Severity = Severity.ERROR) -> Finding:
    """BN601: a layer or model is worse than in the earlier report.

    Its status fell, its error grew by more than a factor of two beyond the limit, a finding was added, or the file
    can no longer be read. An error that stays within its limit is never worse: other processors round differently.

    What to do: look at the later report for the cause, and at what changed between the two runs.

    Severity: error; warning for an added finding that is one.
    """
    return Finding("BN601", severity, f"worse: {how}", {}, "see the later report for its cause")


def gone(what: str) -> Finding:
    """BN602: a layer or model of the earlier report is not in the later one.

    Nothing is known of it any more: it was renamed, removed, left out by an option, or its file was not found.

    What to do: if that is meant, keep the later report as the new baseline; otherwise name it again.

    Severity: error.
    """
    return Finding("BN602", Severity.ERROR, f"gone: {what}", {}, "if that is meant, keep the later report from now on")


def better(how: str) -> Finding:
    """BN603: a layer or model is better than in the earlier report.

    Its status rose, its error beyond the limit is less than half of what it was, or a finding has gone.

    What to do: nothing; keep the later report as the new baseline, so that a fall back to the old is seen.

    Severity: note.
    """
    return Finding("BN603", Severity.NOTE, f"better: {how}", {})


def new(what: str, *, right: bool) -> Finding:
    """BN604: a layer or model of the later report is not in the earlier one.

    It is an error if the later report itself is not content with it: what is new and wrong must not pass as new.

    What to do: if it is wrong, mend what the later report says of it.

    Severity: note; error if it is not right.
    """
    severity = Severity.NOTE if right else Severity.ERROR
    return Finding("BN604", severity, f"new: {what}", {}, "" if right else "mend what the later report says of it")


FINDINGS: Mapping[str, Callable[..., Finding]] = MappingProxyType(
    {"BN601": worse, "BN602": gone, "BN603": better, "BN604": new}
)
