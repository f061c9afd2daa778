"""`bninspect lint` and `bninspect rule`, as users call them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.running import bninspect


@pytest.mark.parametrize(
    ("arguments", "code", "rules"),
    [
        (("broken_nan.h5",), 1, ["BN101"]),
        (("broken_negative_variance.h5",), 1, ["BN102"]),
        (("keras2_digits.h5",), 0, []),
        (("keras2_shared.h5",), 0, ["BN130"]),
        (("keras2_shared.h5", "--fail-on", "warning"), 1, ["BN130"]),
        (("keras2_shared.h5", "--fail-on", "warning", "--ignore", "BN13"), 0, []),
        (("broken_nan.h5", "--select", "BN102"), 0, []),
        (("keras2_digits_weights.h5", "--fail-on", "note"), 1, ["BN121"] * 4),
    ],
)
def test_findings_and_exit_codes(arguments: tuple[str, ...], code: int, rules: list[str], sample_models: Path) -> None:
    done = bninspect("lint", *arguments, "--json", cwd=sample_models)
    assert (done.returncode, done.stderr) == (code, "")
    document = json.loads(done.stdout)
    assert document["command"] == "lint"
    found = [f for m in document["models"] for one in m["layers"] for f in one["findings"]]
    assert [f["rule"] for f in found if f["ignored"] is None] == rules


def test_lint_shows_the_finding_and_what_to_do(sample_models: Path) -> None:
    done = bninspect("lint", "broken_nan.h5", cwd=sample_models)
    assert "BN101 batch_normalization_2: gamma is not finite in 1 channel: channel 5 holds nan" in done.stdout
    assert "hint: restore a checkpoint" in done.stdout


def test_a_rule_has_a_page_and_all_of_them_a_list() -> None:
    assert bninspect("rule", "bn102").stdout.startswith("BN102: a stored variance is negative\n\nNo variance is.")
    listed = bninspect("rule").stdout.splitlines()
    assert "BN113  in some channels the variance is smaller than epsilon" in listed
    wrong = bninspect("rule", "BN1O2")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("error: there is no rule BN1O2\n  hint: bninspect rule BN102\n")
