"""Whatever a checkpoint holds comes out of every export, for the program of a stranger and for our own readers."""

from __future__ import annotations

import csv
import io
import json
import math
import struct
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Literal

import ml_dtypes
import numpy as np
import pytest
import safetensors
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bninspect.exporters import EXPORTERS
from bninspect.exporters.keys import keys
from bninspect.formats import bninspect_npz
from bninspect.formats import safetensors as safetensors_format
from bninspect.records import PARAMETERS, BatchNorm, Checkpoint, Statistics

if TYPE_CHECKING:
    from pathlib import Path

    from bninspect.exporters import Encode
    from bninspect.formats import Format
    from bninspect.records import Array

ENCODE: dict[str, Encode] = {exporter.name: exporter.encode for exporter in EXPORTERS}
READERS: dict[str, Format] = {"npz": bninspect_npz.FORMAT, "safetensors": safetensors_format.FORMAT}

BITS = {"float16": "u2", "bfloat16": "u2", "float32": "u4", "float64": "u8"}
HOSTILE = (
    "",
    "/",
    "../up",
    "/etc/passwd",
    "a//b",
    "C:\\x",
    "\x1b[2J",
    "=1+1",
    "\ud800",
    "\u202e",
    "x" * 500,
    "a~2",
    "%",
)

texts = st.text(st.characters(), max_size=12)
names = st.sampled_from(("bn", "bn1", "block/bn", *HOSTILE)) | texts
settings = st.floats(allow_nan=False) | st.none()


def _as_dtype(bits: Array, dtype: str) -> Array:
    """Take bits for floats, so that every NaN, infinity and subnormal occurs; bfloat16 as float32."""
    if dtype == "bfloat16":
        return np.asarray(bits.astype(np.uint32) << 16).view(np.float32)
    return bits.view(dtype)


@st.composite
def layers(draw: st.DrawFn) -> BatchNorm:
    dtype = draw(st.sampled_from(sorted(BITS)))
    shape = draw(st.sampled_from([(1,), (3,), (8,), (1, 2, 1, 3), (0,), ()]))
    order: Literal["<", ">"] = draw(st.sampled_from(("<", ">")))

    def array() -> Array | None:
        if draw(st.integers(0, 4)) == 0:
            return None
        found = _as_dtype(draw(hnp.arrays(BITS[dtype], shape)), dtype)
        return found.astype(found.dtype.newbyteorder(order))

    return BatchNorm(
        draw(names),
        array(),
        array(),
        array(),
        array(),
        epsilon=draw(settings),
        momentum=draw(settings),
        axis=draw(st.none() | st.lists(st.integers(-4, 4), max_size=3).map(tuple)),
        scale=draw(st.none() | st.booleans()),
        center=draw(st.none() | st.booleans()),
        dtype=dtype,
        location=draw(texts),
        class_name=draw(texts),
        statistics=draw(st.sampled_from(Statistics)),
        undecided=array(),
        epsilon_source=draw(st.none() | texts),
        notes=draw(st.lists(texts, max_size=2).map(tuple)),
    )


checkpoints = st.builds(
    Checkpoint,
    path=st.just("folder/model.h5"),
    format=st.just("keras-h5"),
    writer=texts,
    layers=st.lists(layers(), max_size=4).map(tuple),
    notes=st.lists(texts, max_size=2).map(tuple),
    sha256=st.none() | st.just("ab" * 32),
    bytes=st.integers(0, 1 << 40),
)

ODD = Checkpoint(
    "m.h5",
    "keras-h5",
    "",
    (
        BatchNorm("a", None, None, None, None),
        BatchNorm("a", None, None, None, None, epsilon=math.inf, momentum=-math.inf, dtype="float16+float32"),
        BatchNorm("a~2", None, None, np.arange(3), np.arange(3, dtype=np.uint8), epsilon=math.nan, dtype="int64+uint8"),
        BatchNorm(
            "f", np.asfortranarray(np.arange(6.0).reshape(2, 3)), None, np.arange(8.0)[::2], None, dtype="float64"
        ),
    ),
)


def _bits(array: Array) -> tuple[tuple[int, ...], str, bytes]:
    native = array.astype(array.dtype.newbyteorder("="))
    return native.shape, native.dtype.name, native.tobytes()


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return _bits(one) == _bits(other)
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    return type(one) is type(other) and bool(one == other)


def _arrays(layer: BatchNorm) -> dict[str, Array]:
    undecided = {} if layer.undecided is None else {"undecided": layer.undecided}
    return {**layer.arrays, **undecided}


@pytest.mark.parametrize("form", sorted(READERS))
@given(checkpoint=checkpoints)
@example(checkpoint=ODD)
def test_our_readers_give_the_checkpoint_back(
    tmp_path_factory: pytest.TempPathFactory, form: str, checkpoint: Checkpoint
) -> None:
    path = tmp_path_factory.mktemp("round") / "export"
    data = ENCODE[form](checkpoint, folded=False)
    assert data == ENCODE[form](checkpoint, folded=False)
    path.write_bytes(data)
    assert READERS[form].matches(path, data[:4096])
    found = READERS[form].read(path)

    assert (found.path, found.format) == (str(path), READERS[form].name)
    assert (found.writer, found.notes) == (checkpoint.writer, checkpoint.notes)
    assert len(found.layers) == len(checkpoint.layers)
    for stored, restored in zip(checkpoint.layers, found.layers, strict=True):
        for item in fields(BatchNorm):
            assert _same(getattr(stored, item.name), getattr(restored, item.name)), item.name
        assert all(not array.flags.writeable for array in _arrays(restored).values())


def _settings(layer: BatchNorm) -> dict[str, Any]:
    known = {name: getattr(layer, name) for name in ("epsilon", "momentum", "axis")}
    return {name: value for name, value in known.items() if value is not None}


@given(checkpoint=checkpoints)
@example(checkpoint=ODD)
def test_numpy_reads_npz(checkpoint: Checkpoint) -> None:
    with np.load(io.BytesIO(ENCODE["npz"](checkpoint, folded=False)), allow_pickle=False) as found:
        described = json.loads(str(found["__bninspect__"]))
        assert len(found) == 1 + sum(len(_arrays(layer)) + len(_settings(layer)) for layer in checkpoint.layers)
        for layer, entry in zip(checkpoint.layers, described["layers"], strict=True):
            assert entry["name"] == layer.name
            assert entry["arrays"].keys() == _arrays(layer).keys() | _settings(layer).keys()
            for name, value in _settings(layer).items():
                np.testing.assert_array_equal(found[entry["arrays"][name]], value)
            for name, array in _arrays(layer).items():
                assert _bits(found[entry["arrays"][name]]) == _bits(array)


def test_npz_is_in_c_order_which_every_reader_knows() -> None:
    data = ENCODE["npz"](ODD, folded=False)
    arrays = sum(len(_arrays(layer)) + len(_settings(layer)) for layer in ODD.layers)
    assert data.count(b"'fortran_order': False") == 1 + arrays


def test_ordinary_names_are_the_keys(checkpoint: Checkpoint) -> None:
    with np.load(io.BytesIO(ENCODE["npz"](checkpoint, folded=False)), allow_pickle=False) as found:
        names = (*PARAMETERS, "epsilon", "momentum", "axis")
        expected = [f"{layer}/{name}" for layer in ("bn1", "block1/bn") for name in names]
        assert list(found) == ["__bninspect__", *expected]
        assert [float(found[f"{layer.name}/epsilon"]) for layer in checkpoint.layers] == [
            layer.epsilon for layer in checkpoint.layers
        ]
        np.testing.assert_array_equal(found["bn1/gamma"], [0.5, 1.5])
        assert found["bn1/gamma"].dtype == np.float32


@given(checkpoint=checkpoints)
@example(checkpoint=ODD)
def test_safetensors_reads_safetensors(tmp_path_factory: pytest.TempPathFactory, checkpoint: Checkpoint) -> None:
    data = ENCODE["safetensors"](checkpoint, folded=False)
    path = tmp_path_factory.mktemp("library") / "export.safetensors"
    path.write_bytes(data)
    with safetensors.safe_open(path, framework="np") as file:
        described = json.loads(file.metadata()["bninspect"])
    tensors = dict(safetensors.deserialize(data))  # type: ignore[no-untyped-call]
    assert len(tensors) == sum(len(_arrays(layer)) for layer in checkpoint.layers)
    for layer, entry in zip(checkpoint.layers, described["layers"], strict=True):
        for name, array in _arrays(layer).items():
            tensor = tensors[entry["arrays"][name]]
            assert (tensor["dtype"] == "BF16") == (layer.dtype == "bfloat16")
            shape, dtype, values = _bits(array)
            if layer.dtype == "bfloat16":
                # The library gives the bytes; ml_dtypes, which TensorFlow and JAX use, knows what they mean.
                read = np.frombuffer(tensor["data"], ml_dtypes.bfloat16).astype(np.float32)
                np.testing.assert_array_equal(read, array.ravel())
            else:
                assert tensor["dtype"] == {"float": "F", "int": "I", "uint": "U"}[dtype.rstrip("0123456789")] + (
                    dtype.lstrip("abcdefghijklmnopqrstuvwxyz")
                )
                assert tensor["data"] == values
            assert tuple(tensor["shape"]) == shape


def test_safetensors_are_aligned(checkpoint: Checkpoint) -> None:
    odd = [
        BatchNorm(dtype, np.ones(3, dtype), None, None, None, dtype=dtype)
        for dtype in ("float16", "float64", "float32")
    ]
    mixed = replace(checkpoint, layers=(*checkpoint.layers, *odd))
    data = ENCODE["safetensors"](mixed, folded=False)
    (length,) = struct.unpack_from("<Q", data)
    assert length % 8 == 0
    header = json.loads(data[8 : 8 + length])
    sizes = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
    for name, tensor in header.items():
        if name != "__metadata__":
            assert tensor["data_offsets"][0] % sizes[tensor["dtype"]] == 0


def test_a_float32_is_never_narrowed_to_bfloat16() -> None:
    wrong = BatchNorm("bn", np.array([0.1], dtype=np.float32), None, None, None, dtype="bfloat16")
    data = ENCODE["safetensors"](Checkpoint("m", "f", "", (wrong,)), folded=False)
    assert b'"dtype":"F32"' in data
    assert np.array([0.1], dtype=np.float32).tobytes() in data


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not strict JSON")


def _numbers(value: Any) -> Any:
    return [_numbers(entry) for entry in value] if isinstance(value, list) else float(value)


@given(checkpoint=checkpoints)
@example(checkpoint=ODD)
def test_json_holds_every_number_exactly(checkpoint: Checkpoint) -> None:
    text = ENCODE["json"](checkpoint, folded=False).decode("ascii")
    document = json.loads(text, parse_constant=_refuse)
    assert document["source"]["writer"] == checkpoint.writer
    assert document["source"]["file"] == checkpoint.path.rpartition("/")[2]
    assert document["source"]["notes"] == list(checkpoint.notes)
    for layer, entry in zip(checkpoint.layers, document["layers"], strict=True):
        assert entry["parameters"].keys() == _arrays(layer).keys()
        for name, array in _arrays(layer).items():
            # Python's own parser to doubles; NaN and Infinity come from their texts.
            read = np.array(_numbers(entry["parameters"][name]), dtype=np.float64).reshape(array.shape)
            with np.errstate(invalid="ignore"):  # signalling NaNs
                expected = array.astype(np.float64)
            np.testing.assert_array_equal(read, expected, strict=True)
            np.testing.assert_array_equal(np.signbit(read[read == 0]), np.signbit(array[array == 0]))
        for name in ("name", "dtype", "location", "class_name", "scale", "center", "epsilon_source"):
            assert entry[name] == getattr(layer, name)
        for name in ("epsilon", "momentum"):
            value = getattr(layer, name)
            assert entry[name] is None if value is None else _same(float(entry[name]), float(value))
        assert entry["axis"] == (None if layer.axis is None else list(layer.axis))
        assert entry["statistics"] == layer.statistics.value
        assert entry["notes"] == list(layer.notes)


def test_json_is_for_people(checkpoint: Checkpoint) -> None:
    lines = ENCODE["json"](checkpoint, folded=False).decode().splitlines()
    assert '        "gamma": [0.5, 1.5],' in lines
    assert '      "epsilon": 0.001,' in lines
    assert '  "formula": "gamma * (x - moving_mean) / sqrt(moving_variance + epsilon) + beta",' in lines


def _rows(data: bytes) -> list[dict[str, str]]:
    text = data.decode("utf-8")
    assert text.count("\n") == text.count("\r\n")
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


@given(checkpoint=checkpoints)
@example(checkpoint=ODD)
def test_csv_has_a_row_per_channel(checkpoint: Checkpoint) -> None:
    rows = iter(_rows(ENCODE["csv"](checkpoint, folded=False)))
    for layer in checkpoint.layers:
        arrays = _arrays(layer)
        count = max((array.size for array in arrays.values()), default=0)
        for channel in range(count) if count else [None]:
            row = next(rows)
            assert row["channel"] == ("" if channel is None else str(channel))
            for name in (*PARAMETERS, "undecided"):
                if channel is None or name not in arrays or channel >= arrays[name].size:
                    assert row[name] == ""
                else:
                    assert _same(float(row[name]), float(arrays[name].ravel()[channel]))
            assert row["dtype"] == layer.dtype
            assert row["epsilon"] == "" if layer.epsilon is None else _same(float(row["epsilon"]), layer.epsilon)
            assert row["scale"] == {None: "", True: "true", False: "false"}[layer.scale]
    assert next(rows, None) is None


@given(checkpoint=checkpoints)
def test_no_cell_of_csv_is_a_formula(checkpoint: Checkpoint) -> None:
    text = ENCODE["csv"](checkpoint, folded=False).decode("utf-8")
    for row in csv.reader(io.StringIO(text, newline="")):
        for cell in row:
            assert cell.isprintable()
            if cell.startswith(tuple("=+-@＝＋－＠")):
                float(cell)


def test_csv_as_a_spreadsheet_sees_it() -> None:
    mean = np.array([[-1.5, np.nan]], dtype=np.float32)
    layer = BatchNorm(
        '=cmd;"x"',
        None,
        None,
        mean,
        None,
        epsilon=1e-3,
        axis=(1, 3),
        notes=("one", "two"),
        class_name="@BN",
        scale=False,
    )
    data = ENCODE["csv"](Checkpoint("m", "f", "Keras 2.4.0", (layer,)), folded=False)
    header, first, second, end = data.decode().split("\r\n")
    assert end == ""
    assert header == (
        '"layer","channel","gamma","beta","moving_mean","moving_variance","undecided","epsilon","momentum","axis",'
        '"scale","center","dtype","location","class_name","statistics","wired",'
        '"epsilon_source","notes","shape","writer"'
    )
    rest = '0.001,"","1 3","false","","float32","","\'@BN","moving","false","","one; two","1 2","Keras 2.4.0"'
    assert first == f'"\'=cmd;""x""",0,"","",-1.5,"","",{rest}'
    assert second == f'"\'=cmd;""x""",1,"","","NaN","","",{rest}'


@pytest.mark.parametrize("form", sorted(ENCODE))
def test_an_export_does_not_tell_where_it_was_made(form: str, checkpoint: Checkpoint, tmp_path: Path) -> None:
    elsewhere = replace(checkpoint, path=str(tmp_path / "model.h5"))
    assert ENCODE[form](elsewhere, folded=False) == ENCODE[form](replace(checkpoint, path="model.h5"), folded=False)


@given(st.lists(names, max_size=6))
def test_keys_are_different_and_inert(layer_names: list[str]) -> None:
    found = keys(layer_names)
    assert len(found) == len(layer_names) == len(set(found))
    for key in found:
        assert key.isprintable()
        assert not set(key) & set("\\:")
        assert not {"", ".", ".."} & set(key.split("/"))
        assert len(key.encode()) < 250


@given(st.lists(names, max_size=6, unique=True))
def test_a_key_does_not_depend_on_other_layers(layer_names: list[str]) -> None:
    natural = [name for name in layer_names if "~" not in name and len(name) < 50]
    assert keys(natural) == [keys([name])[0] for name in natural]


def test_known_keys() -> None:
    expected = {
        "bn1": "bn1",
        "block1/bn": "block1/bn",
        "Schicht é 1": "Schicht é 1",
        "../x": "%2E%2E/x",
        "a/./b": "a/%2E/b",
        "/etc/x": "%/etc/x",
        "": "%",
        "a\\b": "a%5Cb",
        "C:x": "C%3Ax",
        "\x00\u202e": "%00%E2%80%AE",
        "\ud800": "%ED%A0%80",
        "100%": "100%25",
        "...": "...",
    }
    assert keys(expected) == list(expected.values())
    assert keys(["a", "a", "a~2", "a"]) == ["a", "a~2", "a~2~2", "a~3"]


def test_hostile_names_stay_inside_when_unzipped(tmp_path: Path) -> None:
    import zipfile

    values = np.arange(2.0)
    layers = tuple(BatchNorm(name, values, None, None, None, dtype="float64") for name in HOSTILE)
    data = ENCODE["npz"](Checkpoint("m", "f", "", layers), folded=False)
    inside = tmp_path / "deep" / "inside"
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(inside)
        names = {name.removesuffix(".npy") for name in archive.namelist()}
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == len(HOSTILE) + 1
    # Python's zip leaves out what is dangerous; nothing was left out, so nothing was dangerous.
    assert {path.relative_to(inside).with_suffix("").as_posix() for path in files} == names
