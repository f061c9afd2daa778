"""Our .npz read back: what is not ours or not whole is called so. That whole ones come back: test_round_trips.py."""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bninspect.errors import BninspectError, DamagedFile, UnreadableFile, UnsafeFile
from bninspect.exporters import npz
from bninspect.formats import FORMATS
from bninspect.formats.bninspect_npz import FORMAT
from bninspect.records import BatchNorm, Checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VALUES = np.array([0.5, 1, 3], dtype=np.float32)
LAYER = BatchNorm("bn", VALUES, None, VALUES, VALUES, epsilon=0.001, momentum=0.99, axis=(-1,), scale=True)
CHECKPOINT = Checkpoint("m.h5", "keras-h5", "Keras 2.4.0", (LAYER,))


def _members() -> dict[str, Any]:
    with np.load(io.BytesIO(npz.encode(CHECKPOINT, folded=False))) as found:
        return dict(found)


def _read_changed(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> Checkpoint:
    """Read an export whose description and arrays `change` has changed, packed again as anyone could."""
    arrays = _members()
    described = json.loads(str(arrays.pop("__bninspect__")))
    change(described, arrays)
    np.savez(path, __bninspect__=np.array(json.dumps(described)), **arrays)
    return FORMAT.read(path)


def test_format_is_registered() -> None:
    assert FORMAT in FORMATS


def test_packed_again_by_numpy(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", **_members())
    (layer,) = FORMAT.read(tmp_path / "x.npz").layers
    assert layer.epsilon == 0.001
    assert layer.gamma is not None
    np.testing.assert_array_equal(layer.gamma, VALUES, strict=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda text, arrays: arrays.pop("bn/gamma"),
        lambda text, arrays: arrays.update(more=VALUES),
        lambda text, arrays: arrays.update({"bn/gamma": np.array(["x"])}),
        lambda text, arrays: arrays.update({"bn/gamma": np.array([True])}),
        lambda text, arrays: text.pop("layers"),
        lambda text, arrays: text.pop("source"),
        lambda text, arrays: text.update(layers={}),
        lambda text, arrays: text.update(layers=[7]),
        lambda text, arrays: text["source"].update(writer=7),
        lambda text, arrays: text["source"].update(notes="note"),
        lambda text, arrays: text["layers"].append(text["layers"][0]),
        lambda text, arrays: text["layers"][0].update(epsilon="0.001"),
        lambda text, arrays: text["layers"][0].update(epsilon=True),
        lambda text, arrays: text["layers"][0].update(epsilon=10**400),
        lambda text, arrays: text["layers"][0].update(epsilon=[]),
        lambda text, arrays: text["layers"][0].update(axis=-1),
        lambda text, arrays: text["layers"][0].update(axis=[1.0]),
        lambda text, arrays: text["layers"][0].update(scale=1),
        lambda text, arrays: text["layers"][0].update(statistics="guessed"),
        lambda text, arrays: text["layers"][0].update(name=None),
        lambda text, arrays: text["layers"][0].update(gamma={"array": 0}),
        lambda text, arrays: text["layers"][0].update(unknown=1),
        lambda text, arrays: text["layers"][0].update(arrays=["bn/gamma"]),
        lambda text, arrays: text["layers"][0]["arrays"].update(beta="bn/gamma"),
        lambda text, arrays: text["layers"][0]["arrays"].update(beta=["bn/gamma"]),
        lambda text, arrays: text["layers"][0]["arrays"].update(epsilon="bn/gamma"),
        lambda text, arrays: text["layers"][0].pop("name"),
        lambda text, arrays: text["layers"][0].pop("arrays"),
    ],
)
def test_contradictions(tmp_path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    with pytest.raises(DamagedFile, match="description"):
        _read_changed(tmp_path / "x.npz", change)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema_version": 2}, "upgrade"),
        ({"schema": "other"}, "upgrade"),
        ({"folded": True}, "without --folded"),
        ({"folded": 0}, "without --folded"),
    ],
)
def test_what_is_not_read(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(UnreadableFile) as caught:
        _read_changed(tmp_path / "x.npz", lambda text, _arrays: text.update(change))
    assert words in caught.value.hint


def test_folded_export(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(npz.encode(CHECKPOINT, folded=True))
    with pytest.raises(UnreadableFile, match="scale and shift"):
        FORMAT.read(tmp_path / "x.npz")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"schema": 1, "schema": 1}',
        '{"schema": NaN}',
        '{"a": ' + "1" * 5000 + "}",
    ],
    ids=lambda text: text[:10],
)
def test_description_that_is_no_json(tmp_path: Path, text: str) -> None:
    np.savez(tmp_path / "x.npz", __bninspect__=np.array(text or " "))
    with pytest.raises(DamagedFile):
        FORMAT.read(tmp_path / "x.npz")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000], ids=lambda text: text[:10])
def test_description_that_is_nested_too_deep(tmp_path: Path, text: str) -> None:
    np.savez(tmp_path / "x.npz", __bninspect__=np.array(text))
    with pytest.raises(UnsafeFile, match="nested too deep"):
        FORMAT.read(tmp_path / "x.npz")


@pytest.mark.parametrize("description", [None, np.array(["{}"]), np.array(b"{}"), np.zeros(2)])
def test_npz_of_another_program(tmp_path: Path, description: Any) -> None:
    others = {} if description is None else {"__bninspect__": description}
    np.savez(tmp_path / "x.npz", weights=VALUES, **others)
    assert FORMAT.matches(tmp_path / "x.npz", (tmp_path / "x.npz").read_bytes()[:4096])
    with pytest.raises(UnreadableFile, match=r"'__bninspect__', which would hold epsilon.*'weights'") as caught:
        FORMAT.read(tmp_path / "x.npz")
    assert "bninspect export" in caught.value.hint


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", __bninspect__=np.array("{}"), x=np.array([print], dtype=object))
    with pytest.raises(UnsafeFile):
        FORMAT.read(tmp_path / "x.npz")


def test_other_zips_are_left_to_others(tmp_path: Path) -> None:
    for name in ("config.json", "archive/data.pkl", "x.npy.txt"):
        with zipfile.ZipFile(tmp_path / "other", "w") as archive:
            archive.writestr(name, "text")
        assert not FORMAT.matches(tmp_path / "other", (tmp_path / "other").read_bytes())
    for head in (b"", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"\x93NUMPY"):
        assert not FORMAT.matches(tmp_path, head)


def _same_or_error(path: Path) -> None:
    try:
        found = FORMAT.read(path)
    except BninspectError:
        return
    (layer,) = found.layers
    assert (layer.name, layer.epsilon, layer.momentum, layer.axis) == ("bn", 0.001, 0.99, (-1,))
    assert layer.arrays.keys() == LAYER.arrays.keys()
    for name, array in layer.arrays.items():
        np.testing.assert_array_equal(array, LAYER.arrays[name], strict=True)


def test_every_truncation_is_an_error(tmp_path: Path) -> None:
    data = npz.encode(CHECKPOINT, folded=False)
    for size in range(0, len(data), 7):
        (tmp_path / "cut.npz").write_bytes(data[:size])
        with pytest.raises(BninspectError):
            FORMAT.read(tmp_path / "cut.npz")


def test_a_flipped_bit_never_changes_a_value(tmp_path: Path) -> None:
    data = npz.encode(CHECKPOINT, folded=False)
    for position in range(0, len(data), 3):
        changed = bytearray(data)
        changed[position] ^= 1 << (position % 8)
        (tmp_path / "flipped.npz").write_bytes(changed)
        _same_or_error(tmp_path / "flipped.npz")
