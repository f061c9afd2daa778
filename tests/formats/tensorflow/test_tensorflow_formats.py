"""Which files the three readers take for theirs, which graph of several, and what they say of what they refuse."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from helpers.tensorflow_files import (
    Value,
    const,
    function,
    graph,
    message,
    node,
    shape,
    tensor_info,
    write_bundle,
    write_saved_model,
)
from hypothesis import given
from hypothesis import strategies as st

from bninspect import formats
from bninspect.errors import BninspectError, DamagedFile, LimitExceeded, UnknownFormat, UnreadableFile
from bninspect.formats.tensorflow import files
from bninspect.records import Array

FLOAT = np.dtype("float32")
ARRAYS: dict[str, Array] = {
    f"bn/{name}": np.array([1, 2, 3], np.float32) for name in ("gamma", "beta", "moving_mean", "moving_variance")
}


def frozen(epsilon: float = 1e-3, mean: bytes | None = None) -> bytes:
    """Return a graph with one fused batch norm of constants; `mean` replaces one of them."""
    names = [f"bn/{name}" for name in ("gamma", "beta", "mean", "variance")]
    constants = {name: const(name, np.ones(3, np.float32)) for name in names}
    return graph(
        node("x", "Placeholder", dtype=FLOAT),
        *{**constants, **({"bn/mean": mean} if mean else {})}.values(),
        node("y", "FusedBatchNormV3", "x", *names, T=FLOAT, is_training=False, epsilon=float(np.float32(epsilon))),
    )


def test_a_frozen_graph_is_known_by_its_content(tmp_path: Path) -> None:
    for name in ("model.pb", "weights.h5", "x"):
        (tmp_path / name).write_bytes(frozen())
        checkpoint = formats.read(tmp_path / name)
        assert (checkpoint.format, [layer.name for layer in checkpoint.layers]) == ("tf-graph", ["bn"])


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a\x05\x0a\x03abc",
        b"\x0a\x09\x0a\x01a\x12\x04a b!",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\n\n\n\n\n\n\n",
        b"\x0a",
    ],
)
def test_what_only_begins_like_a_graph_is_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.pb").write_bytes(data)
    with pytest.raises(UnknownFormat):
        formats.read(tmp_path / "x.pb")


def test_a_graph_that_is_cut_off_is_damaged(tmp_path: Path) -> None:
    data = frozen()
    (tmp_path / "x.pb").write_bytes(data[:-3])
    with pytest.raises(DamagedFile, match="goes beyond its message"):
        formats.read(tmp_path / "x.pb")


@pytest.mark.parametrize(
    ("proto", "words"),
    [
        ([(1, 1), (2, shape(2**40)), (4, b"1234")], "too large"),
        ([(1, 1), (2, shape(3)), (4, b"1234")], "takes 12 bytes, not 4"),
        ([(1, 1), (2, shape(-1)), (4, b"1234")], "no valid shape"),
        ([(1, 1), (2, shape(1)), (5, 1.0), (5, 2.0)], "2 values for shape"),
    ],
)
def test_a_constant_that_contradicts_itself_is_refused(
    tmp_path: Path, proto: list[tuple[int, Value]], words: str
) -> None:
    value = message((1, "value"), (2, message((8, message(*proto)))))
    (tmp_path / "x.pb").write_bytes(frozen(mean=message((1, "bn/mean"), (2, "Const"), (5, value))))
    with pytest.raises(UnreadableFile, match=words):
        formats.read(tmp_path / "x.pb")


@pytest.mark.parametrize(
    "proto",
    [
        [(1, 1), (2, shape(3)), (5, 1.5), (5, 2.5)],
        [(1, 1), (2, shape(3)), (5, np.array([1.5, 2.5, 2.5], "<f4").tobytes())],
        [(1, 19), (2, shape(3)), (13, 0x3E00), (13, 0x4100)],
        [(1, 14), (2, shape(3)), (13, 0x3FC0), (13, 0x4020)],
    ],
)
def test_values_one_by_one_of_which_the_last_fills_the_rest(tmp_path: Path, proto: list[tuple[int, Value]]) -> None:
    value = message((1, "value"), (2, message((8, message(*proto)))))
    (tmp_path / "x.pb").write_bytes(frozen(mean=message((1, "bn/mean"), (2, "Const"), (5, value))))
    (layer,) = formats.read(tmp_path / "x.pb").layers
    assert layer.moving_mean is not None
    assert layer.moving_mean.tolist() == [1.5, 2.5, 2.5]


def test_a_saved_model_is_its_folder_or_its_graph(tmp_path: Path) -> None:
    folder = write_saved_model(tmp_path / "weights.keras", frozen(), {"y": "y:0"})
    for path in (folder, folder / "saved_model.pb"):
        checkpoint = formats.read(path)
        assert (checkpoint.format, checkpoint.writer, checkpoint.path) == (
            "saved-model",
            "TensorFlow 2.99.0",
            str(path),
        )
        assert [layer.name for layer in checkpoint.layers] == ["bn"]


def meta_graph(epsilon: float, *tags: str) -> bytes:
    output = message((1, "serving_default"), (2, message((2, message((1, "y"), (2, tensor_info("y:0")))))))
    return message((1, message(*((4, tag) for tag in tags))), (2, frozen(epsilon=epsilon)), (5, output))


@pytest.mark.parametrize(
    ("graphs", "epsilon"),
    [
        ([meta_graph(0.1, "serve", "tpu"), meta_graph(0.2, "train"), meta_graph(0.3, "serve")], 0.3),
        ([meta_graph(0.1, "train"), meta_graph(0.2, "serve", "gpu")], 0.2),
        ([meta_graph(0.1, "train"), meta_graph(0.2)], 0.1),
    ],
)
def test_the_graph_to_serve_is_read(tmp_path: Path, graphs: list[bytes], epsilon: float) -> None:
    (tmp_path / "saved_model.pb").write_bytes(message((1, 1), *((2, one) for one in graphs)))
    checkpoint = formats.read(tmp_path)
    assert [layer.epsilon for layer in checkpoint.layers] == [epsilon]
    assert checkpoint.notes[0].startswith(f"of {len(graphs)} graphs the one tagged ")


@pytest.mark.parametrize("content", [b"", b"\x08\x01", b"\x08\x02\x12\x00"])
def test_a_saved_model_without_a_graph_is_damaged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(DamagedFile, match="holds no graph"):
        formats.read(tmp_path)


def test_the_text_form_is_named(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pbtxt").write_text("saved_model_schema_version: 1")
    with pytest.raises(UnknownFormat, match="text form"):
        formats.read(tmp_path)


def test_variables_without_a_checkpoint_are_missing_and_said_to_be(tmp_path: Path) -> None:
    names = [f"bn/{name}" for name in ("gamma", "beta", "mean", "variance")]
    reads = [node(f"{name}/read", "ReadVariableOp", name) for name in names]
    fused = node("y", "FusedBatchNormV3", "x", *(f"{name}/read" for name in names), T=FLOAT, is_training=False)
    handles = [node(name, "VarHandleOp") for name in names]
    contents = graph(node("x", "Placeholder", dtype=FLOAT), *handles, *reads, fused)
    (layer,) = formats.read(write_saved_model(tmp_path, contents, {"y": "y:0"})).layers
    assert layer.arrays == {}
    assert "the file holds no values for its moving_mean: bn/mean" in layer.notes


@pytest.mark.parametrize(
    "stated", ["ck", "./ck", "/somewhere/else/ck", "../../ck", "C:\\\\training\\\\ck", '/with a \\"quote\\"/ck']
)
def test_a_state_file_means_its_sibling_whatever_path_it_says(tmp_path: Path, stated: str) -> None:
    write_bundle(tmp_path / "ck", ARRAYS)
    write_bundle(tmp_path / "other", {})
    (tmp_path / "checkpoint").write_text(f'model_checkpoint_path: "{stated}"\nall_model_checkpoint_paths: "x"\n')
    for path in (tmp_path, tmp_path / "checkpoint"):
        assert [layer.name for layer in formats.read(path).layers] == ["bn"]


@pytest.mark.parametrize("stated", ["", "..", "/", "gone", "a/.."])
def test_a_state_file_that_names_no_sibling_is_refused(tmp_path: Path, stated: str) -> None:
    write_bundle(tmp_path / "ck", ARRAYS)
    (tmp_path / "checkpoint").write_text(f'model_checkpoint_path: "{stated}"\n')
    with pytest.raises(UnknownFormat, match=r"does not name a checkpoint|there is no checkpoint 'gone'"):
        formats.read(tmp_path / "checkpoint")


def test_a_checkpoint_outside_the_folder_is_never_read(tmp_path: Path) -> None:
    write_bundle(tmp_path / "ck", ARRAYS)
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "checkpoint").write_text(f'model_checkpoint_path: "{tmp_path / "ck"}"\n')
    with pytest.raises(UnknownFormat, match="there is no checkpoint 'ck'"):
        formats.read(inner)


def test_the_only_checkpoint_of_a_folder_is_read(tmp_path: Path) -> None:
    write_bundle(tmp_path / "ck", ARRAYS)
    assert len(formats.read(tmp_path).layers) == 1
    write_bundle(tmp_path / "ck2", ARRAYS)
    with pytest.raises(UnknownFormat, match="a folder with TensorFlow checkpoints"):
        formats.read(tmp_path)


def test_a_checkpoint_of_names_says_nothing_of_epsilon(tmp_path: Path) -> None:
    averages: dict[str, Array] = {"bn/gamma/ExponentialMovingAverage": np.ones(3, np.float32)}
    (layer,) = formats.read(write_bundle(tmp_path / "ck", {**ARRAYS, **averages})).layers
    assert (layer.epsilon, layer.epsilon_source, layer.axis, layer.momentum) == (None, None, None, None)
    assert (layer.scale, layer.center, layer.location) == (None, None, "bn")
    assert "exponential moving averages" in layer.notes[0]


def test_a_digest_covers_every_file(tmp_path: Path) -> None:
    write_bundle(tmp_path / "ck", ARRAYS)
    before = formats.read(tmp_path / "ck")
    shard = tmp_path / "ck.data-00000-of-00001"
    assert before.bytes == shard.stat().st_size + (tmp_path / "ck.index").stat().st_size
    shard.write_bytes(shard.read_bytes() + b"\0")
    assert formats.read(tmp_path / "ck").sha256 != before.sha256


def test_a_graph_larger_than_any_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_BYTES", 100)
    (tmp_path / "x.pb").write_bytes(frozen())
    with pytest.raises(LimitExceeded, match="at most 100 are read"):
        formats.read(tmp_path / "x.pb")


def test_a_prefix_of_nothing_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="no such file"):
        formats.read(tmp_path / "model.ckpt")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    write_bundle(tmp_path / "ck", ARRAYS)
    shard = tmp_path / "ck.data-00000-of-00001"
    shard.unlink()
    os.mkfifo(shard)
    # The reader must not open it to compute its digest either.
    with pytest.raises(UnreadableFile, match="is not a file"):
        formats.read(tmp_path / "ck")


@given(st.data())
def test_any_damage_is_an_error_of_ours_or_changes_only_what_it_says(data: st.DataObject) -> None:
    changed = bytearray(MODEL)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(changed) - 1))
        changed[position : position + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    with TemporaryDirectory() as folder:
        (Path(folder) / "saved_model.pb").write_bytes(changed)
        try:
            layers = formats.read(Path(folder)).layers
        except BninspectError:
            return
        assert all(array.size < 1000 for layer in layers for array in layer.arrays.values())


BRANCHES = [
    function(name, ["a"], {"r": "n:y:0"}, [node("n", op, "a")]) for name, op in (("then", "Relu"), ("other", "Tanh"))
]
CONDITIONAL = [
    node("p", "Placeholder", dtype=np.dtype("bool")),
    node("if", "If", "p", "y", then_branch=("func", "then"), else_branch=("func", "other")),
    node("switch", "Switch", "if", "p"),
    node("out", "Merge", "switch", "switch:1"),
]
MODEL = message(
    (1, 1),
    (
        2,
        message(
            (1, message((4, "serve"))),
            (2, frozen() + graph(*CONDITIONAL, functions=BRANCHES)),
            (5, message((1, "serving_default"), (2, message((2, message((1, "y"), (2, tensor_info("out:0")))))))),
        ),
    ),
)
