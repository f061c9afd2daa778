"""Atomic writing: whatever goes wrong, the old file is whole and nothing else lies about."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pytest

from bninspect.atomic_files import check_target, write_whole
from bninspect.errors import BninspectError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

posix = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")


def _listing(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def _parts() -> Iterator[bytes]:
    yield b"one "
    yield b"two"


def _writer(handle: BinaryIO) -> None:
    handle.write(b"one two")


@pytest.mark.parametrize(
    "data", [b"one two", [b"one ", b"two"], _parts(), _writer], ids=["bytes", "parts", "generator", "function"]
)
def test_every_kind_of_data(tmp_path: Path, data: bytes) -> None:
    write_whole(tmp_path / "new", data, force=False)
    assert (tmp_path / "new").read_bytes() == b"one two"
    assert _listing(tmp_path) == ["new"]


def test_existing_file_needs_force(tmp_path: Path) -> None:
    target = tmp_path / "old"
    target.write_bytes(b"old")
    with pytest.raises(UsageError) as caught:
        write_whole(target, b"new", force=False)
    assert caught.value.exit_code == 2
    assert "--force" in caught.value.hint
    assert "exists" in caught.value.why
    assert target.read_bytes() == b"old"

    write_whole(target, b"new", force=True)
    assert target.read_bytes() == b"new"
    assert _listing(tmp_path) == ["old"]


def test_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "target"

    def race(handle: BinaryIO) -> None:
        handle.write(b"ours")
        target.write_bytes(b"theirs")

    with pytest.raises(UsageError, match="exists"):
        write_whole(target, race, force=False)
    assert target.read_bytes() == b"theirs"
    assert _listing(tmp_path) == ["target"]


@pytest.mark.parametrize("appears", [False, True])
def test_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, appears: bool) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    target = tmp_path / "target"

    def race(handle: BinaryIO) -> None:
        handle.write(b"ours")
        if appears:
            target.write_bytes(b"theirs")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    if appears:
        with pytest.raises(UsageError, match="exists"):
            write_whole(target, race, force=False)
    else:
        write_whole(target, race, force=False)
    assert target.read_bytes() == (b"theirs" if appears else b"ours")
    assert _listing(tmp_path) == ["target"]


def test_failed_claim_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(UsageError):
        write_whole(tmp_path / "new", b"new", force=False)
    assert _listing(tmp_path) == []


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, UsageError])
def test_exception_in_the_middle(tmp_path: Path, failure: type[BaseException], exists: bool) -> None:
    target = tmp_path / "target"
    if exists:
        target.write_bytes(b"old")

    def fail(handle: BinaryIO) -> None:
        handle.write(b"half" * 100_000)
        raise failure("in the middle")

    with pytest.raises(failure, match="in the middle"):
        write_whole(target, fail, force=True)
    assert _listing(tmp_path) == (["target"] if exists else [])
    assert not exists or target.read_bytes() == b"old"


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    target = tmp_path / "target"
    target.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BninspectError, match="No space left") as caught:
        write_whole(target, b"new", force=True)
    assert caught.value.exit_code == 3
    assert target.read_bytes() == b"old"
    assert _listing(tmp_path) == ["target"]


_SCRIPT = """
import sys
from pathlib import Path
from bninspect.errors import BninspectError
from bninspect.atomic_files import write_whole

def limited():
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
    try:
        write_whole(Path(sys.argv[2]), [b"x" * 65536] * 4, force=True)
    except BninspectError as error:
        print(type(error).__name__, error.why)

def slow():
    def write(handle):
        handle.write(b"x" * 65536)
        print("writing", flush=True)
        sys.stdin.read()
    write_whole(Path(sys.argv[2]), write, force=True)

globals()[sys.argv[1]]()
"""


@posix
def test_system_that_takes_no_more_bytes(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"old")
    command = [sys.executable, "-c", _SCRIPT, "limited", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1) == ["BninspectError", "File too large\n"]
    assert target.read_bytes() == b"old"
    assert _listing(tmp_path) == ["target"]


@posix
def test_killed_in_the_middle(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"old")
    command = [sys.executable, "-c", _SCRIPT, "slow", str(target)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert target.read_bytes() == b"old"


def test_input_is_never_written(tmp_path: Path) -> None:
    source = tmp_path / "model.h5"
    source.write_bytes(b"model")
    (tmp_path / "linked.h5").hardlink_to(source)
    (tmp_path / "symbolic.h5").symlink_to(source)
    for name in ("model.h5", "linked.h5", "symbolic.h5", "../" + tmp_path.name + "/model.h5"):
        with pytest.raises(UsageError, match="being read"):
            write_whole(tmp_path / name, b"new", force=True, inputs=[tmp_path / "absent", source])
    assert source.read_bytes() == b"model"
    write_whole(tmp_path / "other", b"new", force=True, inputs=[source])


def test_target_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cases = {
        tmp_path: "folder",
        tmp_path / "file" / "below": "Not a directory",
        tmp_path / "missing" / "new": "does not exist",
        tmp_path / ("n" * 300): "too long",
        tmp_path / "a\0b": "NUL",
    }
    for target, why in cases.items():
        for act in (check_target, lambda path, **options: write_whole(path, b"", **options)):
            with pytest.raises(UsageError, match=why) as caught:
                act(target, force=True)
            assert caught.value.hint or why == "NUL"
    assert _listing(tmp_path) == ["file"]


def test_hint_for_a_missing_folder_is_a_command(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        check_target(tmp_path / "two words" / "new", force=False)
    assert caught.value.hint == f"mkdir -p '{tmp_path / 'two words'}'"


@posix
def test_devices_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "null").symlink_to("/dev/null")
    os.mkfifo(tmp_path / "pipe")
    # Never the device itself: were the check broken, the test would replace it on this very machine.
    for target in (tmp_path / "null", tmp_path / "pipe"):
        with pytest.raises(UsageError, match="not a regular file"):
            write_whole(target, b"new", force=True)
    assert (tmp_path / "null").is_symlink()
    assert (tmp_path / "pipe").is_fifo()


@posix
@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(UsageError, match="Permission denied"):
            write_whole(tmp_path / "new", b"new", force=True)
    finally:
        tmp_path.chmod(0o755)


@posix
def test_read_only_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UsageError, match="Read-only file system"):
        write_whole(tmp_path / "new", b"new", force=False)


def test_symbolic_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"untouched")
    for name, points_at in (("link", elsewhere), ("dangling", tmp_path / "nowhere")):
        link = tmp_path / name
        link.symlink_to(points_at)
        with pytest.raises(UsageError, match="exists"):
            write_whole(link, b"new", force=False)
        write_whole(link, b"new", force=True)
        assert not link.is_symlink()
        assert link.read_bytes() == b"new"
    assert elsewhere.read_bytes() == b"untouched"
    assert _listing(tmp_path) == ["dangling", "elsewhere", "link"]


@posix
def test_permissions(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "new", b"new", force=False)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640

    (tmp_path / "new").chmod(0o600)
    write_whole(tmp_path / "new", b"newer", force=True)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600


def test_names_in_messages_are_inert(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        check_target(tmp_path / "missing\x1b[2J" / "new", force=True)
    assert "\x1b" not in caught.value.what + caught.value.why + caught.value.hint
