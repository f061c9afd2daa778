"""Output files: each is replaced whole or not at all, and an input is never an output."""

from __future__ import annotations

import errno
import os
import secrets
import shlex
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from bninspect.errors import BninspectError, UsageError
from bninspect.safe_text import printable

if TYPE_CHECKING:
    from pathlib import Path

Data: TypeAlias = bytes | Iterable[bytes] | Callable[[BinaryIO], None]

NO_ROOM = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
"""What a system says where a disk, a file or a share of a disk is full."""
_MAKE_ROOM = "make room there, or name a file on another disk"
# What the caller can put right by another path or --force; a full disk, for instance, is not among them.
_MISTAKES = {
    errno.EACCES,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}


def write_whole(path: Path, data: Data, *, force: bool, inputs: Iterable[Path] = ()) -> None:
    """Write `data` to the file `path`, which then holds all of it or, after any failure, what it held before.

    The bytes go to a new file in the same folder, are synced to the disk and take the name in one step.
    Without `force` that step cannot replace a file, even one that appeared a moment ago. A symbolic link is
    itself replaced; what it points at is never touched. A replaced file passes its permissions on.

    Args:
        path: the file to write.
        data: the bytes, an iterable of their parts, or a function that writes them to the handle it is given.
        force: whether a file of that name may be replaced.
        inputs: the files that are being read and must therefore not be written.

    Raises:
        UsageError: the file exists and `force` is off, it is an input, a folder or a device, or its folder is
            missing or may not be written.
        BninspectError: the system could not write, for instance to a full disk.
    """
    mode = _check(path, force=force, inputs=inputs)
    try:
        with _scratch_file(path.parent) as (handle, scratch):
            if callable(data):
                data(handle)
            else:
                handle.writelines((data,) if isinstance(data, bytes) else data)
            handle.flush()
            os.fsync(handle.fileno())
            handle.close()
            if mode is not None:
                scratch.chmod(mode)
            if force:
                scratch.replace(path)
            else:
                _take_name(scratch, path)
    except OSError as error:
        raise _explained(path, error) from error


def copy_folder(source: Path, path: Path, changed: Mapping[str, bytes]) -> None:
    """Write a copy of a folder in which some files are others; the copy takes its name when it is whole.

    Args:
        source: the folder.
        path: the copy, which must not exist.
        changed: the content of files, by their paths in the folder.

    Raises:
        UsageError, BninspectError: as `write_whole`.
    """
    _check(path, force=False, inputs=())
    if source.resolve() in path.resolve().parents:
        raise UsageError(f"cannot write '{printable(str(path))}'", why="it would be inside the folder that is read")
    scratch = path.parent / f".bninspect-{secrets.token_hex(8)}.tmp"
    try:
        shutil.copytree(source, scratch)
        for name, content in changed.items():
            (scratch / name).write_bytes(content)
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        scratch.rename(path)
    except OSError as error:
        raise _explained(path, error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def check_target(path: Path, *, force: bool, inputs: Iterable[Path] = ()) -> None:
    """Raise what `write_whole` would raise, as far as it can be told beforehand: no work is done in vain."""
    _check(path, force=force, inputs=inputs)


def _check(path: Path, *, force: bool, inputs: Iterable[Path]) -> int | None:
    """Return the permissions of the file that is to be replaced, `None` if there is none."""
    if "\0" in str(path):
        raise UsageError(f"cannot write '{printable(str(path))}'", why="a path cannot hold a NUL character")
    try:
        target = _status(path)
        if target is not None and any(_same(target, _status(source)) for source in inputs):
            raise UsageError(
                f"cannot write '{printable(str(path))}'",
                why="it is the file that is being read",
                hint="give the output another name",
            )
        if target is not None and not stat.S_ISREG(target.st_mode):
            kind = "a folder" if stat.S_ISDIR(target.st_mode) else "not a regular file"
            raise UsageError(f"cannot write '{printable(str(path))}'", why=f"it is {kind}", hint="name a file")
        if not force and os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        if not path.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if not os.access(path.parent, os.W_OK | os.X_OK):
            number = errno.EROFS if _is_read_only(path.parent) else errno.EACCES
            raise OSError(number, os.strerror(number))
    except OSError as error:
        raise _explained(path, error) from error
    return None if target is None else stat.S_IMODE(target.st_mode) & 0o777


def _is_read_only(folder: Path) -> bool:
    """Return whether a folder is on a file system that is mounted read-only, where the system can tell."""
    return hasattr(os, "statvfs") and bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _same(one: os.stat_result, other: os.stat_result | None) -> bool:
    return other is not None and os.path.samestat(one, other)


@contextmanager
def _scratch_file(folder: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Open a new file in `folder` that is gone at the end, unless it has taken another name by then."""
    # A name of its own, not one made from the target's: that may already be as long as names can be.
    scratch = folder / f".bninspect-{secrets.token_hex(8)}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(scratch, flags, 0o666)  # less the umask, as any new file
    try:
        with os.fdopen(descriptor, "wb") as handle:
            yield handle, scratch
    finally:
        scratch.unlink(missing_ok=True)


def _take_name(scratch: Path, path: Path) -> None:
    """Give `scratch` the name `path` in one step, or raise FileExistsError if the name is taken."""
    try:
        path.hardlink_to(scratch)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links (FAT, some network shares): claim the name, then replace the claim.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        try:
            scratch.replace(path)
        except BaseException:
            path.unlink()
            raise


def _explained(path: Path, error: OSError) -> BninspectError:
    what = f"cannot write '{printable(str(path))}'"
    folder = path.parent
    if isinstance(error, FileExistsError):
        return UsageError(what, why="it exists", hint="name another file, or replace it with --force")
    if isinstance(error, FileNotFoundError):
        missing = f"the folder '{printable(str(folder))}' does not exist"
        return UsageError(what, why=missing, hint=f"mkdir -p {shlex.quote(printable(str(folder)))}")
    why = error.strerror or type(error).__name__
    if error.errno in _MISTAKES:
        return UsageError(what, why=why, hint="name a file in a folder that you may write to")
    return BninspectError(what, why=why, hint=_MAKE_ROOM if error.errno in NO_ROOM else "")
