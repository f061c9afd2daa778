"""Getting a framework and a file together: imports, the same bytes, file endings, one-line reasons."""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bninspect.errors import MissingPackage, UnreadableFile
from bninspect.names import printable
from bninspect.records import Checkpoint

INSTALL = "pip install 'bninspect[tensorflow]'"


def framework(package: str) -> Any:
    """Import a framework on the TensorFlow backend, which is the one whose kernels we know.

    `import tensorflow` imports Keras 3, so the backend is chosen before either of them.

    Raises:
        MissingPackage: it or TensorFlow is not installed, or does not start.
    """
    before = os.environ.get("KERAS_BACKEND")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    try:
        with quiet():
            importlib.import_module("tensorflow")
            return importlib.import_module(package)
    except Exception as error:
        raise MissingPackage(f"{package} does not start", why=reason(error), hint=INSTALL) from error
    finally:
        if before is None:
            del os.environ["KERAS_BACKEND"]
        else:
            os.environ["KERAS_BACKEND"] = before


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore the warnings of a framework: they are about its own future, not about the model's numbers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def installed_version(package: str) -> str:
    """Return the version of an installed package; empty if it does not say."""
    for name in (package, package.replace("_", "-"), f"{package}-cpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return ""


def same_bytes(checkpoint: Checkpoint) -> None:
    """Raise UnreadableFile unless the file is still what our reader accepted."""
    if checkpoint.sha256 is None:
        return
    with Path(checkpoint.path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != checkpoint.sha256:
        raise UnreadableFile(
            "the file changed while it was being checked",
            why=f"SHA-256 is {digest[:12]}, it was {checkpoint.sha256[:12]} when it was read",
            hint="run it again when nothing writes to the file any more",
        )


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


_CAUSE = "Exception encountered: "
_BOLD = re.compile(r"\x1b\[[0-9;]*m")
_NODE = re.compile(r"^\{\{.*?\}\}\s*|\s*\[Op:[^\]]*\].*$")


def reason(error: BaseException) -> str:
    """Return the informative line of a framework's long message, fit to print."""
    text = _BOLD.sub("", str(error)).rpartition(_CAUSE)[2]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # "Exception encountered when calling Conv2D.call()." introduces the line that says what happened.
    if len(lines) > 1 and lines[0].startswith("Exception encountered when calling"):
        del lines[0]
    line = _NODE.sub("", lines[0]) if lines else ""
    if isinstance(error, KeyError) or len(line) < 3:
        line = f"{type(error).__name__}: {line}".rstrip(": ")
    return printable(line)
