"""Whether an in-toto statement is about these very files, and what it says of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bninspect.errors import BninspectError, LimitExceeded, UnreadableFile
from bninspect.formats import whole_file
from bninspect.reports import intoto, json_document
from bninspect.safe_text import printable

_LARGEST = 64 << 20
"""Bytes of a statement: one of 100,000 layers has some 10 MB."""


@dataclass(frozen=True)
class Checked:
    """What came of a check."""

    differences: tuple[str, ...]
    """What is not as the statement says; empty if all is."""
    result: str
    """PASSED, WARNED or FAILED, as the statement says."""
    command: str
    """Which command the statement says had that result: `lint` alone proves less than `verify`."""
    signed: bool
    """Whether it came in an envelope with signatures. They are not verified here."""

    @property
    def exit_code(self) -> int:
        """0 if all is as stated and the run had passed, otherwise 1."""
        return 1 if self.differences or self.result != "PASSED" else 0


def check(path: Path, model: Path, report: Path | None, digest_of_parts: Callable[[Path], str | None]) -> Checked:
    """Hold a model, and a report as JSON, against a statement.

    Args:
        path: the statement, bare or in a DSSE envelope or Sigstore bundle.
        model: the file, one of the statement's subjects.
        report: the report in JSON; None if it is not at hand.
        digest_of_parts: returns the SHA-256 of a model in several files, None if it is not such a model.

    Raises:
        BninspectError: the statement is not one, or a file cannot be read.
    """
    found, signed = _read(path)
    own = {None if model.is_dir() else whole_file.digest(model), *_of_parts(found, model, digest_of_parts)} - {None}
    differences = []
    if not own & _digests(found, intoto.MODEL, intoto.EXPORT):
        shown = ", ".join(map(str, own)) or "not known"
        differences.append(f"{printable(str(model))} is not a subject of the statement: its SHA-256 is {shown}")
    elif report is not None:
        differences += _report_differs(found, report, own)
    predicate = found["predicate"]
    return Checked(tuple(differences), printable(str(predicate["result"])), _command(predicate), signed)


def _of_parts(found: dict[str, Any], model: Path, digest_of_parts: Callable[[Path], str | None]) -> set[str | None]:
    """Return the digest of a model in several files, if the file by itself is not what was stated."""
    known = model.is_file() and whole_file.digest(model) in _digests(found, intoto.MODEL, intoto.EXPORT)
    return set() if known else {digest_of_parts(model)}


def _report_differs(found: dict[str, Any], path: Path, model: set[str | None]) -> Iterator[str]:
    own = whole_file.digest(path)
    if own not in _digests(found, intoto.REPORT):
        yield f"{printable(str(path))} is not the report of the statement: its SHA-256 is {own}"
        return
    again = intoto.statement(json_document.read(path), own)
    stated, reported = found["predicate"]["result"], again["predicate"]["result"]
    if stated != reported:
        yield f"the statement says {printable(str(stated))}, its report says {reported}"
    if not model & _digests(again, intoto.MODEL, intoto.EXPORT):
        yield f"{printable(str(path))} is not about this model"


def _command(predicate: dict[str, Any]) -> str:
    for part in predicate.get("configuration", ()):
        if part.get("name") == "bninspect":
            return printable(str(part["annotations"]["command"]))
    return "a command that it does not name"


def _digests(found: dict[str, Any], *roles: str) -> set[str | None]:
    """Return the digests of the subjects of these roles. Who signs may leave roles out: a subject is then either."""
    subjects = [(one.get("annotations", {}).get("role"), str(one["digest"]["sha256"])) for one in found["subject"]]
    return {digest for role, digest in subjects if role in (*roles, None)}


def _read(path: Path) -> tuple[dict[str, Any], bool]:
    """Return the statement in a file, and whether it came in an envelope with signatures."""
    label = printable(str(path))
    try:
        if path.stat().st_size > _LARGEST:
            raise LimitExceeded(
                f"{label} is too large", why=f"{path.stat().st_size:,} bytes, at most {_LARGEST:,} are read"
            )
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnreadableFile(f"{label} cannot be read", why=error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:
        raise _not_a_statement(label, str(error)) from error
    try:
        envelope = document.get("dsseEnvelope", document)
        signed = bool(envelope.get("signatures"))
        found = json.loads(base64.b64decode(envelope["payload"])) if "payload" in envelope else envelope
        kinds = (found["_type"], found["predicateType"])
        if kinds != (intoto.STATEMENT, intoto.PREDICATE):
            raise _not_a_statement(label, f"its types are {kinds[0]} and {kinds[1]}")
        _ = _digests(found), found["predicate"]["result"], _command(found["predicate"])
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise _not_a_statement(label, f"{type(error).__name__}: {error}") from error
    return found, signed


def _not_a_statement(label: str, why: str) -> BninspectError:
    return UnreadableFile(
        f"{label} is not a statement of bninspect",
        why=printable(why, 300),
        hint="write both in one run: -o json=REPORT -o intoto=FILE",
    )
