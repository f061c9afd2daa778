"""A file is read whole, or refused before a byte of it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from bninspect.errors import LimitExceeded, UnreadableFile
from bninspect.formats import whole_file


def test_a_file_of_just_the_limit_is_read(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"x" * 10)
    assert whole_file.read(tmp_path / "m", 10) == b"x" * 10


def test_one_byte_more_is_too_large(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"x" * 11)
    with pytest.raises(LimitExceeded, match="m is too large; 11 bytes, at most 10 are read"):
        whole_file.read(tmp_path / "m", 10)


def test_a_sparse_terabyte_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "m").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(LimitExceeded, match=f"at most {2 << 30} are read"):
        whole_file.read(tmp_path / "m")


def test_what_is_not_there_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="No such file"):
        whole_file.read(tmp_path / "a\nb")
    with pytest.raises(UnreadableFile, match="Is a directory"):
        whole_file.read(tmp_path)
