"""Files with some bytes exchanged: whatever comes of it, a reader reads them or refuses them, and never fails."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bninspect import formats
from bninspect.errors import BninspectError


def exchanged(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test on many changes: at `place`, counted around, `length` bytes become `new`."""
    changes = given(
        place=st.integers(0, 10**6),
        new=st.one_of(st.text(max_size=6).map(_bytes), st.binary(max_size=6)),
        length=st.integers(0, 6),
    )
    return settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])(changes(test))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def is_refused(path: Path, target: Path, right: str, change: tuple[str, str, type[BninspectError]]) -> None:
    """Write `right` to `target` with its first `old` as `new`, and read the model at `path`: the error must come."""
    old, new, error = change
    assert old in right
    target.write_text(right.replace(old, new, 1))
    with pytest.raises(error):
        formats.read(path)


def is_read_or_refused(path: Path, target: Path, right: bytes, place: int, new: bytes, length: int) -> None:
    """Write `right`, changed, to `target`, and read the model at `path`: any other error than ours fails the test."""
    start = place % len(right)
    target.write_bytes(right[:start] + new + right[start + length :])
    for act in (formats.read, formats.read_network):
        with contextlib.suppress(BninspectError):
            act(path)
