"""Whether an in-toto statement is about these very files, and what it says of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bninspect.errors import BninspectError, LimitExceeded, UnreadableFile, UsageError
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
    models: int
    """How many models and exports were compared."""
    report: bool
    """Whether the report was."""
    others: int
    """How many further models and exports the statement is about."""

    @property
    def exit_code(self) -> int:
        """0 if all is as stated and the run had passed, otherwise 1."""
        return 1 if self.differences or self.result != "PASSED" else 0


def check(path: Path, files: Sequence[Path], digest_of_parts: Callable[[Path], str | None]) -> Checked:
    """Hold models, exports and the report as JSON against a statement.

    Args:
        path: the statement, bare or in a DSSE envelope or Sigstore bundle.
        files: subjects of the statement, in any order, at least one of which is not the report.
        digest_of_parts: returns the SHA-256 of a model in several files, None if it is not such a model.

    Raises:
        BninspectError: the statement is not one, or a file cannot be read.
    """
    found, signed = _read(path)
    reports = [file for file in files if _is_report(found, file)]
    models = {file: _of_model(found, file, digest_of_parts) for file in files if file not in reports}
    if not models:
        raise UsageError("no model was named", hint="name the model or export that the statement is about")
    differences = [
        f"{printable(str(model))} is not a subject of the statement: its SHA-256 is {', '.join(own) or 'not known'}"
        for model, own in models.items()
        if not own & _digests(found, intoto.MODEL, intoto.EXPORT)
    ]
    if not differences:
        differences += [line for report in reports for line in _report_differs(found, report, models)]
    given = {whole_file.digest(report) for report in reports}.union(*models.values())
    predicate = found["predicate"]
    return Checked(
        tuple(differences),
        printable(str(predicate["result"])),
        _command(predicate),
        signed,
        len(models),
        bool(reports),
        len(_digests(found, intoto.MODEL, intoto.EXPORT) - _digests(found, intoto.REPORT) - given),
    )


def _is_report(found: dict[str, Any], file: Path) -> bool:
    """Return whether a file is the report: by its digest, and where the roles were left out, by what is in it."""
    if not file.is_file() or (own := whole_file.digest(file)) not in _digests(found, intoto.REPORT):
        return False
    if own not in _digests(found, intoto.MODEL, intoto.EXPORT):
        return True
    try:
        json_document.read(file)
    except BninspectError:
        return False
    return True


def _of_model(found: dict[str, Any], model: Path, digest_of_parts: Callable[[Path], str | None]) -> set[str]:
    """Return the digest of a file, and that of a model in several files if the file by itself was not stated."""
    own = {whole_file.digest(model)} if model.is_file() else set[str]()
    if own & _digests(found, intoto.MODEL, intoto.EXPORT):
        return own
    parts = digest_of_parts(model)
    return own if parts is None else own | {parts}


def _report_differs(found: dict[str, Any], path: Path, models: Mapping[Path, set[str]]) -> Iterator[str]:
    again = intoto.statement(json_document.read(path), whole_file.digest(path))
    stated, reported = found["predicate"]["result"], again["predicate"]["result"]
    if stated != reported:
        yield f"the statement says {printable(str(stated))}, its report says {reported}"
    for model, own in models.items():
        if not own & _digests(again, intoto.MODEL, intoto.EXPORT):
            yield f"{printable(str(path))} is not about {printable(str(model))}"


def _command(predicate: dict[str, Any]) -> str:
    for part in predicate.get("configuration", ()):
        if part.get("name") == "bninspect":
            return printable(str(part["annotations"]["command"]))
    return "a command that it does not name"


def _digests(found: dict[str, Any], *roles: str) -> set[str]:
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
