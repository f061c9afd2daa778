"""Every finding has a manual page, and the manual in docs/ is the one that the rules make."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bninspect.errors import UsageError
from bninspect.inspection import rules
from bninspect.reports import manual

REPOSITORY = Path(__file__).parents[2]


def test_docs_hold_the_manual() -> None:
    path = REPOSITORY / "docs" / "rules.md"
    assert path.read_text(encoding="utf-8") == manual.markdown(), "bninspect rule --markdown > docs/rules.md"


def test_every_code_in_the_package_has_a_page() -> None:
    package = REPOSITORY / "bninspect"
    used = {code for path in package.rglob("*.py") for code in re.findall(r'"(BN\d{3})"', path.read_text("utf-8"))}
    assert used <= set(manual.pages())
    assert set(rules.RULES) <= used


def test_every_page_says_what_to_do_and_how_bad_it_is() -> None:
    for code, page in manual.pages().items():
        assert page.code == code
        assert page.title[0].islower() or page.title[0].isdigit()
        assert any(paragraph.startswith("What to do: ") for paragraph in page.paragraphs)
        assert re.fullmatch(
            r"Severity: (error|warning|note)(, or warning from .*|; (error|warning) (for|if) .*)?\.",
            page.paragraphs[-1],
        )


def test_codes_are_in_order() -> None:
    assert list(manual.pages()) == sorted(manual.pages())


def test_pages_are_found_in_any_case_and_a_typo_is_helped() -> None:
    assert manual.page(" bn102 ").title == "a stored variance is negative"
    assert manual.page("BN102").text.startswith("BN102: a stored variance is negative\n\nNo variance is.")
    assert max(map(len, manual.page("BN102").text.splitlines())) <= 100
    with pytest.raises(UsageError, match="there is no rule BN1022") as caught:
        manual.page("BN1022")
    assert caught.value.hint == "bninspect rule BN102"
    for typed, meant in (("BN1O2", "BN102"), ("bn3oi", "BN301"), ("BN13", "BN130"), ("NB304", "BN304")):
        with pytest.raises(UsageError) as caught:
            manual.page(typed)
        assert caught.value.hint == f"bninspect rule {meant}"
    with pytest.raises(UsageError, match=r"no rule \\x1b"):
        manual.page("\x1b")
