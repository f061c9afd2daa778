"""The task of the reading process."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from bninspect.errors import UnknownFormat
from bninspect.formats import read_task


def test_the_size_of_a_folder_counts_what_can_be_opened(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "inner" / "b").write_bytes(b"123")
    (tmp_path / "gone").symlink_to("nowhere")
    # No system has a name of this length: looking there is an error of its own.
    (tmp_path / "long").symlink_to("x" * 300)
    assert read_task.size(tmp_path) == 8


def test_a_folder_with_such_a_link_is_read(sample_models: Path, tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(sample_models / "keras3_digits.keras") as archive:
        archive.extractall(tmp_path)
    (tmp_path / "long").symlink_to("x" * 300)
    found = read_task.read({"path": str(tmp_path), "digest": True}, [], lambda _: None)
    assert len(found.layers) == 4
    assert found.bytes > 1000


def test_of_a_file_that_is_refused_no_digest_is_computed(tmp_path: Path) -> None:
    path = tmp_path / "zeros.onnx"
    with path.open("wb") as file:
        file.truncate(200 * 2**30)  # takes no room, and a digest takes minutes
    with pytest.raises(UnknownFormat, match="is not of a format") as caught:
        read_task.read({"path": str(path), "digest": True}, [], lambda _: None)
    assert caught.value.why == "it is nothing but zero bytes, as an interrupted download leaves"
    assert caught.value.hint == "download the file again"


def test_the_digest_is_that_of_the_whole_file(sample_models: Path) -> None:
    path = sample_models / "keras2_digits.h5"
    found = read_task.read({"path": str(path), "digest": True}, [], lambda _: None)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
