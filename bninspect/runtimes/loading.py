"""Getting a framework and a file together: imports, the same bytes, file endings, one-line reasons."""

from __future__ import annotations

import gc
import hashlib
import importlib
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bninspect.errors import MissingPackage, RuntimeFailure, UnreadableFile
from bninspect.records import Checkpoint
from bninspect.safe_text import printable

_NOWHERE = f"{os.devnull}/keras"


def framework(package: str) -> Any:
    """Import a framework on the TensorFlow backend, which is the one whose kernels we know, with its own defaults.

    Both Keras read ~/.keras/keras.json, which can change their backend and default type, or write it. The verdict on a
    file must not depend on the home of the user, so they are shown a folder that can never be there: an empty one would
    stay behind where the process is ended while it imports. `import tensorflow` imports Keras 3.

    Raises:
        MissingPackage: it or TensorFlow is not installed, or does not start.
    """
    with starting(package, "tensorflow"), _variables(KERAS_BACKEND="tensorflow", KERAS_HOME=_NOWHERE):
        importlib.import_module("tensorflow")
        return importlib.import_module(package)


def start(package: str, extra: str) -> Any:
    """Import a runtime, which an extra of ours installs. Raises MissingPackage, also where it does not start."""
    with starting(package, extra):
        return importlib.import_module(package)


@contextmanager
def starting(package: str, extra: str) -> Iterator[None]:
    """Raise MissingPackage for whatever an import raises."""
    try:
        with quiet(), _uncollected():
            yield
    except Exception as error:
        why = reason(error)
        raise MissingPackage(f"{package} does not start", why=why, hint=f"pip install 'bninspect[{extra}]'") from error


@contextmanager
def _uncollected() -> Iterator[None]:
    """Look for no garbage: an import makes hardly any, and each look at its million objects takes longer."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@contextmanager
def _variables(**values: str) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def failing_as(what: str) -> Iterator[None]:
    """Turn whatever a framework raises in the block into RuntimeFailure; MemoryError is for the supervisor."""
    try:
        yield
    except (RuntimeFailure, MemoryError):
        raise
    except Exception as error:
        raise RuntimeFailure(what, why=reason(error)) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore the warnings of a framework: they are about its own future, not about the model's numbers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def same_bytes(checkpoint: Checkpoint) -> None:
    """Raise UnreadableFile unless the file is still what our reader accepted."""
    if checkpoint.sha256 is None:
        return
    with _still_there(), Path(checkpoint.path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    require_digest(checkpoint, digest)


def content(checkpoint: Checkpoint, digest: Callable[[Path, bytes], str] | None = None) -> bytes:
    """Return the bytes of the file, of which `digest` makes what its reader does. Raises as `same_bytes`."""
    with _still_there():
        stored = Path(checkpoint.path).read_bytes()
        if checkpoint.sha256 is not None:
            own = digest(Path(checkpoint.path), stored) if digest is not None else hashlib.sha256(stored).hexdigest()
            require_digest(checkpoint, own)
    return stored


def require_digest(checkpoint: Checkpoint, digest: str) -> None:
    """Raise UnreadableFile unless this is the digest of what our reader accepted, as far as that is known."""
    if checkpoint.sha256 is not None and digest != checkpoint.sha256:
        raise UnreadableFile(
            "the file changed while it was being checked",
            why=f"SHA-256 is {digest[:12]}, it was {checkpoint.sha256[:12]} when it was read",
            hint="run it again when nothing writes to the file any more",
        )


@contextmanager
def _still_there() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnreadableFile("the file went away while it was being checked", why=str(error.strerror)) from error


@contextmanager
def named_as_expected(path: Path) -> Iterator[str]:
    """Give the file under a name from which the frameworks conclude its format: they look at the ending alone."""
    path = path.absolute()
    if path.is_dir():
        yield str(path)
        return
    with path.open("rb") as file:
        endings = (".keras",) if file.read(2) == b"PK" else (".h5", ".hdf5")
    if path.name.endswith(endings):
        yield str(path)
        return
    with tempfile.TemporaryDirectory(prefix="bninspect-") as folder:
        link = Path(folder) / f"model{endings[0]}"
        link.symlink_to(path)
        yield str(link)


_INTRODUCING = ("Exception encountered when calling", "Graph execution error", "Detected at node", "Node: ")
_OF_TORCHSCRIPT = "The following operation failed in the TorchScript interpreter"
_RAISED = re.compile(r"(?:[\w.]*Error|[\w.]*Exception): (.+)")
_CAUSE = "Exception encountered: "
_ADVICE = re.compile(r"\.? (Please|Make sure|If you|Full object config|See http).*$")
_BOLD = re.compile(r"\x1b\[[0-9;]*m")
_NODE = re.compile(r"^\{\{.*?\}\}\s*|\s*\[Op:[^\]]*\].*$")


def reason(error: BaseException) -> str:
    """Return the informative line of a framework's long message, fit to print."""
    text = _BOLD.sub("", str(error)).rpartition(_CAUSE)[2]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # "Exception encountered when calling Conv2D.call()." introduces the line that says what happened.
    while len(lines) > 1 and lines[0].startswith(_INTRODUCING):
        del lines[0]
    if lines and lines[0].startswith(_OF_TORCHSCRIPT):  # the way there comes first, what happened last
        lines = [found[1] for line in reversed(lines) if (found := _RAISED.match(line))] or lines
    line = _ADVICE.sub("", _NODE.sub("", lines[0])) if lines else ""
    if isinstance(error, KeyError) or len(line) < 3:
        line = f"{type(error).__name__}: {line}".rstrip(": ")
    return printable(line)
