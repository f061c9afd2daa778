"""A statement holds for the bits of the model and of the report that it was written about, and for no others."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers.running import bninspect

MODEL = "keras2_digits.h5"


@dataclass(frozen=True)
class Stated:
    model: Path
    report: Path
    statement: Path

    def check(self, *, model: Path | None = None, report: Path | None = None) -> tuple[int, str]:
        done = bninspect("check-statement", self.statement, model or self.model, report or self.report)
        return done.returncode, done.stdout

    def edit(self, change: Callable[[dict[str, Any]], Any]) -> None:
        document = json.loads(self.statement.read_text())
        change(document)
        self.statement.write_text(json.dumps(document))


@pytest.fixture
def stated(sample_models: Path, tmp_path: Path) -> Stated:
    found = Stated(tmp_path / "m.h5", tmp_path / "r.json", tmp_path / "s.json")
    shutil.copy(sample_models / MODEL, found.model)
    done = bninspect("lint", found.model, "-o", f"intoto={found.statement}", "-o", f"json={found.report}")
    assert done.returncode == 0, done.stderr
    return found


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_it_holds_for_what_it_was_written_about(stated: Stated) -> None:
    code, said = stated.check()
    assert code == 0
    assert said.startswith("PASS  the model and the report are as stated, and `bninspect lint` had passed\n")
    assert "not signed" in said


@pytest.mark.parametrize("place", [0, 5000, -1])
@pytest.mark.parametrize("which", ["model", "report"])
def test_one_bit_ends_it(which: str, place: int, stated: Stated) -> None:
    flip(getattr(stated, which), place)
    code, said = stated.check()
    assert code == 1
    assert said.startswith(f"FAIL  {getattr(stated, which)} is not ")


def test_a_report_that_was_not_given_is_said_to_be_not_compared(stated: Stated) -> None:
    done = bninspect("check-statement", stated.statement, stated.model)
    assert done.returncode == 0
    assert "note: the report was not given, and not compared" in done.stdout


def test_a_verdict_that_was_edited_is_not_that_of_the_report(sample_models: Path, tmp_path: Path) -> None:
    stated = Stated(sample_models / "broken_nan.h5", tmp_path / "r.json", tmp_path / "s.json")
    done = bninspect("lint", stated.model, "-o", f"intoto={stated.statement}", "-o", f"json={stated.report}")
    assert done.returncode == 1
    assert stated.check() == (
        1,
        "FAIL  the files are those of the statement, and it says FAILED of `bninspect lint`\n"
        "note: the statement is not signed: anybody may have changed it\n",
    )
    stated.edit(lambda document: document["predicate"].update(result="PASSED"))
    code, said = stated.check()
    assert code == 1
    assert "the statement says PASSED, its report says FAILED" in said


def test_a_subject_that_was_added_is_none_of_the_report(stated: Stated, sample_models: Path) -> None:
    from hashlib import sha256

    stranger = sample_models / "broken_nan.h5"
    subject = {
        "name": "x",
        "digest": {"sha256": sha256(stranger.read_bytes()).hexdigest()},
        "annotations": {"role": "model"},
    }
    stated.edit(lambda document: document["subject"].append(subject))
    code, said = stated.check(model=stranger)
    assert code == 1
    assert f"is not about {stranger}" in said


def test_a_model_and_its_export_are_held_against_it_together(sample_models: Path, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("m.h5", "e.h5", "r.json")]
    for file in files[:2]:
        shutil.copy(sample_models / ("keras3_digits.h5" if file.name == "e.h5" else MODEL), file)
    statement = tmp_path / "s.json"
    assert bninspect("lint", *files[:2], "-o", f"intoto={statement}", "-o", f"json={files[2]}").returncode == 0
    done = bninspect("check-statement", statement, *files[::-1])
    assert (done.returncode, done.stdout.splitlines()[0][:52]) == (
        0,
        "PASS  2 models and exports and the report are as sta",
    )
    done = bninspect("check-statement", statement, files[0])
    assert "note: 1 other subject not given, and not compared" in done.stdout
    assert bninspect("check-statement", statement, files[2]).returncode == 2
    flip(files[1], 5000)
    done = bninspect("check-statement", statement, *files)
    assert (done.returncode, done.stdout.splitlines()[0][:12]) == (1, "FAIL  " + str(files[1])[:6])


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_signed_envelope_is_opened_and_its_signatures_said_to_be_not_verified(stated: Stated, wrapped: bool) -> None:
    document = json.loads(stated.statement.read_text())
    for subject in document["subject"]:
        del subject["annotations"]  # as whoever signs may write them anew
    payload = base64.b64encode(json.dumps(document).encode()).decode()
    envelope = {"payloadType": "application/vnd.in-toto+json", "payload": payload, "signatures": [{"sig": "x"}]}
    stated.statement.write_text(json.dumps({"dsseEnvelope": envelope} if wrapped else envelope))
    code, said = stated.check()
    assert code == 0
    assert "note: the signatures of the envelope were not verified" in said
    flip(stated.report, -1)
    assert stated.check()[0] == 1


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "[" * 10**5, '{"payload": 3}', '{"_type": "x", "predicateType": "y"}']
)
def test_what_is_not_a_statement_is_refused(text: str, stated: Stated) -> None:
    stated.statement.write_text(text)
    done = bninspect("check-statement", stated.statement, stated.model)
    assert done.returncode == 3
    assert "is not a statement of bninspect" in done.stderr


def test_a_statement_needs_its_report(stated: Stated, tmp_path: Path) -> None:
    done = bninspect("lint", stated.model, "-o", f"intoto={tmp_path / 'alone.json'}")
    assert done.returncode == 2
    assert "needs json= beside it" in done.stderr


def test_a_statement_about_a_report_that_was_not_written_is_not_written(stated: Stated, tmp_path: Path) -> None:
    missing, alone = tmp_path / "no" / "folder", tmp_path / "alone.json"
    done = bninspect("lint", stated.model, "-o", f"intoto={alone}", "-o", f"json={missing}")
    assert done.returncode == 3
    assert not alone.exists()
    assert "the JSON report that the statement is about could not be written" in done.stderr
