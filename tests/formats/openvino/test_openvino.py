"""OpenVINO IR read without OpenVINO, against what OpenVINO itself reads of the files that it wrote."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import mutations
from helpers import openvino_files as build

from bninspect import formats
from bninspect.errors import DamagedFile, UnreadableFile, UnsafeFile
from bninspect.formats import folder_models
from bninspect.formats.openvino import format as container
from bninspect.records import Checkpoint, Statistics
from bninspect.records import graph as network
from bninspect.records.graph import Geometry, Network

pytest.importorskip("openvino", reason="openvino is not installed: pip install 'bninspect[openvino]'")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build.write(tmp_path_factory.mktemp("ir") / "m.xml")


@pytest.fixture
def copied(written: Path, tmp_path: Path) -> Path:
    for path in (written, written.with_suffix(".bin")):
        shutil.copy(path, tmp_path)
    return tmp_path / "m.xml"


@pytest.mark.parametrize("narrow", [False, True])
def test_constants_are_bit_for_bit_those_that_openvino_reads(tmp_path: Path, narrow: bool) -> None:
    path = build.write(tmp_path / "m.xml", compress_to_fp16=narrow)
    known = build.constants(path)
    graph = container.parsed(path)[1]
    own = {one.name: one.stored.values for one in graph.operations if one.stored is not None}
    assert own.keys() == known.keys()
    assert {"float16" if narrow else "float32", "int64"} == {one.dtype.name for one in own.values()}
    for name, values in own.items():
        assert values.dtype == known[name].dtype
        np.testing.assert_array_equal(values, known[name])


def test_layers_are_those_of_the_model(written: Path) -> None:
    checkpoint = formats.read(written)
    (node,) = checkpoint.layers
    assert checkpoint.notes[0].startswith("1 scale and shift per channel, no batch norms by themselves")
    assert checkpoint.writer == "OpenVINO"  # only the converters say which one
    assert checkpoint.bytes == sum(one.stat().st_size for one in (written, written.with_suffix(".bin")))
    assert (node.name, node.epsilon, node.axis, node.statistics) == ("norm", build.EPSILON, (1,), Statistics.MOVING)
    for name, array in build.PARAMETERS.items():
        np.testing.assert_array_equal(node.arrays[name], array)
    pair = formats.read_network(written).nodes[3]
    assert (pair.layer, pair.kernel is not None) == ("pair", True)
    assert pair.kernel is not None
    assert pair.kernel.bias is not None
    np.testing.assert_array_equal(pair.kernel.weights.reshape(-1), build.SCALE.reshape(-1))
    np.testing.assert_array_equal(pair.kernel.bias, build.SHIFT.reshape(-1))


def test_file_of_the_default_type_says_float16(tmp_path: Path) -> None:
    path = build.write(tmp_path / "m.xml", compress_to_fp16=True)
    (node,) = formats.read(path).layers
    pair = formats.read_network(path).nodes[3].kernel
    assert pair is not None
    assert (node.dtype, pair.dtype) == ("float16", "float16")
    np.testing.assert_array_equal(pair.weights.reshape(-1), build.SCALE.reshape(-1).astype(np.float16))


def test_first_order_of_inputs_is_read_as_it_is(copied: Path) -> None:
    """In opset1 the data comes third."""
    text = copied.read_text()
    assert text.count('type="BatchNormInference" version="opset5"') == 1
    text = text.replace('type="BatchNormInference" version="opset5"', 'type="BatchNormInference" version="opset1"')
    node = _rewired(copied, text)
    for name, array in build.PARAMETERS.items():
        np.testing.assert_array_equal(node[name], array)


def _rewired(path: Path, text: str) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    import re

    (key,) = re.findall(r'<layer id="(\d+)" name="norm"', text)
    order = {"0": "2", "1": "0", "2": "1", "3": "3", "4": "4"}
    pattern = rf'to-layer="{key}" to-port="(\d)"'
    path.write_text(re.sub(pattern, lambda found: f'to-layer="{key}" to-port="{order[found[1]]}"', text))
    return formats.read(path).layers[0].arrays


def test_network_has_kernels_in_our_order(written: Path) -> None:
    found = formats.read_network(written)
    (image,) = found.inputs
    assert (image.name, image.shape, image.dtype) == ("image", (None, 4, 6, 6), "float32")
    assert [node.operation for node in found.nodes] == [
        network.BATCH_NORM,
        network.CONVOLUTION,
        "relu",
        network.BATCH_NORM,
        "mean",
        network.DENSE,
    ]
    conv = next(node for node in found.nodes if node.name == "conv")
    assert conv.kernel is not None
    assert (conv.kernel.groups, conv.padded) == (2, True)
    assert conv.geometry == Geometry((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), (), 1)
    for group, output, taken, place in np.ndindex(2, 2, 2, 9):
        expected = build.KERNEL[group, output, taken].reshape(-1)[place]
        assert conv.kernel.weights[place, taken, group * 2 + output] == expected


def test_quantised_weights_are_what_they_stand_for(tmp_path: Path) -> None:
    from openvino import Model
    from openvino import opset15 as ops

    whole = np.arange(-12, 12, dtype=np.int8).reshape(2, 3, 2, 2)
    scale, zero = np.array([0.5, 0.25], np.float32).reshape(2, 1, 1, 1), np.array(3, np.float32)
    x = ops.parameter([1, 3, 5, 5], np.float32, name="x")
    wide = ops.convert(ops.constant(whole), "f32")
    weights = ops.multiply(ops.subtract(wide, ops.constant(zero)), ops.constant(scale))
    conv = ops.convolution(x, weights, [1, 1], [0, 0], [0, 0], [1, 1], name="conv")
    path = build.write(tmp_path / "m.xml", Model([conv], [x], "q"))
    (node,) = formats.read_network(path).nodes
    assert node.kernel is not None
    assert node.kernel.weight_step is not None
    np.testing.assert_array_equal(node.kernel.weight_step, [0.5, 0.25])
    expected = (whole.astype(np.float64) - 3) * scale
    np.testing.assert_array_equal(node.kernel.weights, network.convolution(expected))


def test_batch_norm_in_a_loop_is_not_passed_over(tmp_path: Path) -> None:
    import openvino
    from openvino import Model
    from openvino import opset15 as ops

    inner = ops.parameter([1, 4], np.float32)
    arrays = [ops.constant(array) for array in build.PARAMETERS.values()]
    body = Model([ops.batch_norm_inference(inner, *arrays, 0.1, name="inside")], [inner], "body")
    x = ops.parameter([3, 4], np.float32)
    loop = ops.tensor_iterator()
    loop.set_body(body)
    loop.set_sliced_input(inner, x.output(0), 0, 1, 1, -1, 0)
    out = loop.get_concatenated_slices(body.get_results()[0].output(0), 0, 1, 1, -1, 0)
    openvino.save_model(Model([out], [x], "loop"), str(tmp_path / "m.xml"))
    checkpoint = formats.read(tmp_path / "m.xml")
    assert not checkpoint.layers
    assert [one.count for one in checkpoint.unread] == [1]


def _made(path: Path, computes: Callable[[Any, Any], Any], shape: Sequence[int] = (-1, 4, 6, 6)) -> Checkpoint:
    from openvino import Model
    from openvino import opset15 as ops

    x = ops.parameter(list(shape), np.float32, name="x")
    return formats.read(build.write(path / "m.xml", Model([ops.result(computes(ops, x))], [x], "made")))


def _by_moments(ops: Any, x: Any, axes: Sequence[int]) -> Any:
    over = ops.constant(np.array(axes, np.int64))
    mean = ops.reduce_mean(x, over, keep_dims=True)
    variance = ops.reduce_mean(ops.squared_difference(x, mean), over, keep_dims=True)
    root = ops.sqrt(ops.add(variance, ops.constant(np.array(1e-3, np.float32))))
    return ops.divide(ops.subtract(x, mean), root)


@pytest.mark.parametrize(
    ("axes", "count"), [([0, 2, 3], 1), ([0], 1), ([2, 3], 0), ([1, 2, 3], 0), ([-1], 0), ([0, 1, 2, 3], 0)]
)
@pytest.mark.parametrize("kind", ["mvn", "spelt out"])
def test_moments_of_the_batch_are_a_batch_norm_in_training_mode(
    tmp_path: Path, kind: str, axes: list[int], count: int
) -> None:
    def computes(ops: Any, x: Any) -> Any:
        if kind == "mvn":
            return ops.mvn(x, ops.constant(np.array(axes, np.int64)), True, 1e-3, "inside_sqrt")
        return _by_moments(ops, x, axes)

    found = _made(tmp_path, computes)
    assert [layer.statistics for layer in found.layers] == [Statistics.BATCH] * count
    assert found.unread == ()


def test_what_scales_its_input_is_no_batch_norm(tmp_path: Path) -> None:
    found = _made(
        tmp_path, lambda ops, x: ops.add(ops.multiply(x, ops.constant(build.SCALE)), ops.constant(build.SHIFT))
    )
    assert (found.layers, found.unread) == ((), ())
    assert "1 scale and shift per channel" in found.empty


def test_parameters_that_the_net_computes_are_said_to_be(tmp_path: Path) -> None:
    def computes(ops: Any, x: Any) -> Any:
        gamma, beta, _, variance = (ops.constant(array) for array in build.PARAMETERS.values())
        scaled = ops.reduce_mean(x, ops.constant(np.array([0, 2, 3])), keep_dims=False)
        return ops.batch_norm_inference(x, gamma, beta, scaled, variance, 0.25, name="norm")

    (layer,) = _made(tmp_path, computes).layers
    assert (layer.statistics, layer.moving_mean) == (Statistics.COMPUTED, None)


@pytest.mark.parametrize("outside", [False, True])
def test_the_root_of_a_stored_variance_is_counted(tmp_path: Path, outside: bool) -> None:
    def computes(ops: Any, x: Any) -> Any:
        mean, variance = (
            ops.constant(build.PARAMETERS[name].reshape(1, 4, 1, 1)) for name in ("moving_mean", "moving_variance")
        )
        epsilon = ops.constant(np.array(1e-3, np.float32))
        root = ops.add(ops.sqrt(variance), epsilon) if outside else ops.sqrt(ops.add(variance, epsilon))
        return ops.divide(ops.subtract(x, mean), root)

    found = _made(tmp_path, computes)
    assert found.layers == ()
    assert [calls.count for calls in found.unread] == [1]


def test_folder_holds_the_model_and_no_other_xml(copied: Path) -> None:
    (copied.parent / "pom.xml").write_text('<?xml version="1.0"?>\n<project><net version="11"/></project>')
    found = folder_models.search({"path": str(copied.parent)}, [], lambda _: None)
    assert found.models == (str(copied),)


HOSTILE = {
    "entities": ("<net ", '<!DOCTYPE net [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><net ', UnsafeFile),
    "other file": ("<net ", '<!DOCTYPE net SYSTEM "file:///etc/hostname"><net ', UnsafeFile),
    "cut off": ("</layers>", "", DamagedFile),
    "old version": ('version="11"', 'version="7"', UnreadableFile),
    "offset beyond the weights": ('offset="0"', 'offset="999999999999"', DamagedFile),
    "negative offset": ('offset="0"', 'offset="-16"', DamagedFile),
    "a number of many digits": ('offset="0"', f'offset="{"9" * 5000}"', DamagedFile),
    "size of another shape": ('size="16"', 'size="12"', DamagedFile),
    "a shape of a billion": ('shape="4"', 'shape="1000000000,1000000000"', DamagedFile),
    "a shape that is a word": ('shape="4"', 'shape="four"', DamagedFile),
    "edge from nowhere": ('from-layer="0"', 'from-layer="77"', DamagedFile),
    "two layers of one id": ('<layer id="1"', '<layer id="0"', DamagedFile),
    "no epsilon but a word": ('epsilon="0.25"', 'epsilon="much"', DamagedFile),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_file_is_refused(copied: Path, kind: str) -> None:
    mutations.is_refused(copied, copied, copied.read_text(), HOSTILE[kind])


def test_circle_of_operations_is_refused(copied: Path) -> None:
    import re

    text = copied.read_text()
    ids = dict(reversed(one) for one in re.findall(r'<layer id="(\d+)" name="([a-z]+)"', text))
    edge = f'from-layer="{ids["image"]}" from-port="0"'
    assert edge in text
    copied.write_text(text.replace(edge, f'from-layer="{ids["pair"]}" from-port="2"'))
    with pytest.raises(DamagedFile, match="in a circle"):
        formats.read(copied)


def test_more_layers_than_a_model_has_are_refused(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bninspect.formats.encodings.xml_text.MOST_ELEMENTS", 40)
    with pytest.raises(UnsafeFile, match="at most 40"):
        formats.read(copied)


def test_weights_that_are_cut_off_elsewhere_or_not_there(copied: Path) -> None:
    weights = copied.with_suffix(".bin")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-8])
    with pytest.raises(DamagedFile, match="cut off"):
        formats.read(copied)
    weights.write_bytes(b"")
    with pytest.raises(DamagedFile, match="cut off"):
        formats.read(copied)
    weights.unlink()
    with pytest.raises(DamagedFile, match="there is no file"):
        formats.read(copied)
    weights.symlink_to("/etc/hostname")
    with pytest.raises(UnsafeFile):
        formats.read(copied)


@mutations.exchanged
def test_changed_file_is_read_or_refused(copied: Path, written: Path, place: int, new: bytes, length: int) -> None:
    mutations.is_read_or_refused(copied, copied, written.read_bytes(), place, new, length)


def _rounded(tmp_path: Path, low: Any, high: Any, out: float = 1.0, levels: int = 255) -> Network:
    """Return the network of a FakeQuantize between two ends, whose output ends are `out` times those."""
    from openvino import Model, Type
    from openvino import opset15 as ops

    x = ops.parameter([1, 3, 2, 2], Type(np.dtype(np.float32)), name="x")
    ends = [np.asarray(one, np.float32).reshape(1, -1, 1, 1) for one in (low, high)]
    given = [ops.constant(one) for one in (*ends, *(one * np.float32(out) for one in ends))]
    made = ops.fake_quantize(x, *given, levels, name="rounded")
    path = build.write(tmp_path / "r.xml", Model([ops.result(made, name="end")], [x], "test"))
    return formats.read_network(path)


def test_floats_on_even_steps_are_quantised_channel_by_channel(tmp_path: Path) -> None:
    read = _rounded(tmp_path, [-1, -2, 0], [1, 2, 254])
    (made,) = read.quantised.values()
    assert read.nodes[0].operation == "identity"
    assert (made.axis, made.levels) == (1, 255)
    np.testing.assert_allclose(made.scale, [2 / 254, 4 / 254, 1], rtol=1e-6)
    np.testing.assert_allclose(made.zero, [127, 127, 0], rtol=1e-6)


def test_fake_quantize_that_moves_its_ends_is_no_quantisation(tmp_path: Path) -> None:
    read = _rounded(tmp_path, [-1], [1], out=0.5)
    assert (read.quantised, read.nodes[0].operation) == ({}, "fakequantize")
