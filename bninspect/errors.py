"""What can go wrong, as a tree. Each class carries the exit code that the command line ends with.

BninspectError                  3
 +- UsageError                  2   the call or the configuration is wrong
 +- NothingToCheck              5   no batch-norm layer, no model
 +- UnreadableFile              3   the file cannot be read
 |   +- UnknownFormat               it is of no kind that we read
 |   +- DamagedFile                 it is truncated or contradicts itself
 |   |   +- MissingSibling          a file that belongs to it is not beside it
 |   +- UnsafeFile                  it would make a reader do what a reader must not
 +- LimitExceeded               3   over the time or memory limit
 +- MissingPackage              3   a framework or extra is not installed
 +- RuntimeFailure              3   the framework could not load or run the model
 +- WorkerDied                  3   the supervised process ended without an answer
 +- Unreachable                 3   a cluster does not answer
 +- UnlikeWorker                3   a worker of a cluster is of other versions

Every message answers three questions, one line each: `what` happened, `why`, and as `hint` the exact command or
value to use. Texts may hold names from files: whoever prints them passes them through `names.printable`.
"""

from __future__ import annotations

from typing import ClassVar


class BninspectError(Exception):
    """Base of all errors that bninspect raises on purpose.

    Args:
        what: the problem in one line.
        why: what was found that makes it one.
        hint: the exact command or value to use; empty where there is none.
    """

    exit_code: ClassVar[int] = 3

    def __init__(self, what: str, *, why: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.hint = hint

    def __str__(self) -> str:
        return "; ".join(part for part in (self.what, self.why) if part)


class UsageError(BninspectError):
    """The call or the configuration is wrong."""

    exit_code = 2


class NothingToCheck(BninspectError):
    """There is no batch-norm layer, or no model at all."""

    exit_code = 5


class UnreadableFile(BninspectError):
    """The file cannot be read as a model."""


class UnknownFormat(UnreadableFile):
    """The file is of no kind that bninspect reads."""


class DamagedFile(UnreadableFile):
    """The file is truncated, half-written or contradicts itself."""


class MissingSibling(DamagedFile):
    """A file that belongs to the model is not beside it."""


class UnsafeFile(UnreadableFile):
    """The file would make a reader leave the file, run code or exhaust the machine."""


class LimitExceeded(BninspectError):
    """The time or memory limit was reached."""


class MissingPackage(BninspectError):
    """A framework or another optional package is not installed."""


class RuntimeFailure(BninspectError):
    """The framework could not load or run the model."""


class WorkerDied(BninspectError):
    """The supervised process ended without an answer."""


class Unreachable(BninspectError):
    """A cluster does not answer."""


class UnlikeWorker(BninspectError):
    """A worker of a cluster has other versions or another processor, so that its results are those of another run."""


def by_name(name: str) -> type[BninspectError]:
    """Return the error class called `name`, as a worker process reports it; `BninspectError` if there is none."""
    found = globals().get(name)
    return found if isinstance(found, type) and issubclass(found, BninspectError) else BninspectError
