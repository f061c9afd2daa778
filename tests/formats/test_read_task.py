"""The task of the reading process."""

from __future__ import annotations

from pathlib import Path

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
