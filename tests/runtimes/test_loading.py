"""Files as frameworks want them, and their messages as people want them."""

from __future__ import annotations

import gc
import hashlib
from pathlib import Path

import pytest

from bninspect.errors import MissingPackage, UnreadableFile
from bninspect.records import Checkpoint
from bninspect.runtimes import loading


def _checkpoint(path: Path, sha256: str | None) -> Checkpoint:
    return Checkpoint(str(path), "keras-h5", "", (), sha256=sha256)


def test_changed_bytes_are_not_run(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    path.write_bytes(b"one" * 1_000_000)
    checkpoint = _checkpoint(path, hashlib.sha256(b"one" * 1_000_000).hexdigest())
    loading.same_bytes(checkpoint)
    assert loading.content(checkpoint) == path.read_bytes()
    path.write_bytes(b"one" * 999_999 + b"two")
    for check in (loading.same_bytes, loading.content):
        with pytest.raises(UnreadableFile, match="changed"):
            check(checkpoint)
    loading.same_bytes(_checkpoint(path, None))
    path.unlink()
    for check in (loading.same_bytes, loading.content):
        with pytest.raises(UnreadableFile, match="went away"):
            check(checkpoint)


@pytest.mark.parametrize(
    ("name", "head", "ending"),
    [
        ("m.h5", b"\x89HDF", "m.h5"),
        ("m.hdf5", b"\x89HDF", "m.hdf5"),
        ("m.keras", b"PK\x03\x04", "m.keras"),
        ("m.keras", b"\x89HDF", ".h5"),
        ("m.H5", b"\x89HDF", ".h5"),
        ("m.h5", b"PK\x03\x04", ".keras"),
        ("m", b"\x89HDF", ".h5"),
    ],
)
def test_the_content_decides_the_ending(tmp_path: Path, name: str, head: bytes, ending: str) -> None:
    path = tmp_path / name
    path.write_bytes(head + b"rest")
    with loading.named_as_expected(path) as given:
        assert given.endswith(ending)
        assert Path(given).read_bytes() == head + b"rest"
        assert Path(given).is_absolute()
    assert [one.name for one in tmp_path.iterdir()] == [name]
    assert Path(given).exists() == (Path(given) == path)


def test_a_relative_name_cannot_be_taken_for_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras downloads what begins with hf://, and TensorFlow knows gs:// and more."""
    monkeypatch.chdir(tmp_path)
    path = Path("hf:/x/m.h5")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\x89HDF")
    with loading.named_as_expected(path) as given:
        assert given.startswith("/")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            TypeError("Error when deserializing class 'X' using config={'a': 1}.\n\nException encountered: No 'b'"),
            "No 'b'",
        ),
        (ValueError("\n\n  first\nsecond"), "first"),
        (
            RuntimeError(
                "Exception encountered when calling Conv2D.call().\n\n\x1b[1mKernel too large\x1b[0m\nArguments: x"
            ),
            "Kernel too large",
        ),
        (ValueError("{{function_node __wrapped__Conv2D}} too small [Op:Conv2D] name: "), "too small"),
        (
            TypeError("Could not locate class 'Functional'. Make sure custom classes ... Full object config: {'a': 1}"),
            "Could not locate class 'Functional'",
        ),
        (KeyError("input_1"), "KeyError: 'input_1'"),
        (AssertionError(), "AssertionError"),
        (ValueError("layer \x1b[2J\u202e"), "layer \\x1b[2J\\u202e"),
        (
            ValueError(
                "Graph execution error:\n\nDetected at node 'r' defined at (most recent call last):\n"
                "Node: 'r'\nInput to reshape is a tensor with 1 values\n\t [[{{node r}}]]\n"
            ),
            "Input to reshape is a tensor with 1 values",
        ),
        (
            RuntimeError(
                "The following operation failed in the TorchScript interpreter.\n"
                "Traceback of TorchScript, serialized code (most recent call last):\n  ~~~ <--- HERE\n"
                "RuntimeError: shape '[1, 16]' is invalid for input of size 3\n"
            ),
            "shape '[1, 16]' is invalid for input of size 3",
        ),
    ],
)
def test_the_informative_line_of_a_message(error: Exception, line: str) -> None:
    assert loading.reason(error) == line


def test_a_reason_is_short() -> None:
    assert len(loading.reason(ValueError("x" * 100_000))) <= 200


@pytest.mark.parametrize("collects", [True, False])
def test_nothing_is_collected_while_a_framework_is_imported(collects: bool) -> None:
    before = gc.isenabled()
    (gc.enable if collects else gc.disable)()
    try:
        with loading.starting("this one", "extra"):
            assert not gc.isenabled()
        assert gc.isenabled() is collects
        with pytest.raises(MissingPackage), loading.starting("this one", "extra"):
            raise ImportError
        assert gc.isenabled() is collects
    finally:
        (gc.enable if before else gc.disable)()
