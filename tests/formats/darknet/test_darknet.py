"""Darknet's files, against what OpenCV's reader makes of them, and against a plain reading of parser.c's order."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import pytest
from helpers import mutations

from bninspect import formats
from bninspect.errors import BninspectError, DamagedFile, UnreadableFile, UnsafeFile
from bninspect.formats import folder_models
from bninspect.records import graph as network

CFG = """
# A comment, as most files have
[net]
height=16
width=16
channels=3

[convolutional]
batch_normalize=1
filters=4
size=3
stride=2
pad=1
activation=leaky

[convolutional]
batch_normalize=1
filters=8
size=3
stride=1
pad=1
groups=2
activation=relu

[maxpool]
size=2
stride=2

[convolutional]
batch_normalize=1
filters=8
size=1
stride=1
pad=1
activation=leaky

[shortcut]
from=-2
activation=linear

[upsample]
stride=2

[route]
layers=-1,1

[convolutional]
filters=5
size=1
stride=1
pad=1
activation=linear
"""
BATCH_NORMS = {"0.convolutional": (3, 4, 3, 1), "1.convolutional": (4, 8, 3, 2), "3.convolutional": (8, 8, 1, 1)}
"""Inputs, outputs, size and groups of the sections with one."""
SEEN = struct.pack("<iii", 0, 2, 5) + struct.pack("<Q", 32013312)


def _stored() -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """Return the numbers of each section, as load_convolutional_weights reads them."""
    generator = np.random.default_rng(3)
    found = []
    for inputs, outputs, size, groups in BATCH_NORMS.values():
        found += [generator.uniform(0.5, 2, outputs).astype(np.float32) for _ in range(4)]
        found.append(generator.normal(size=(outputs, inputs // groups, size, size)).astype(np.float32))
    found.append(generator.normal(size=5).astype(np.float32))
    found.append(generator.normal(size=(5, 16, 1, 1)).astype(np.float32))
    return found


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "m.cfg").write_text(CFG)
    (tmp_path / "m.weights").write_bytes(SEEN + b"".join(one.tobytes() for one in _stored()))
    return tmp_path / "m.weights"


def test_either_file_gives_the_model(model: Path) -> None:
    by_weights, by_cfg = formats.read(model), formats.read(model.with_suffix(".cfg"))
    assert by_weights.sha256 == by_cfg.sha256
    assert [layer.name for layer in by_weights.layers] == list(BATCH_NORMS)
    stored = _stored()
    for place, layer in enumerate(by_weights.layers):
        for name, array in zip(("beta", "gamma", "moving_mean", "moving_variance"), stored[place * 5 :], strict=False):
            np.testing.assert_array_equal(layer.arrays[name], array)
        assert (layer.epsilon, layer.axis) == (None, (1,))
    assert "outside" not in by_weights.notes[0]
    assert "--epsilon 1e-5" in by_weights.notes[0]


def test_numbers_are_bit_for_bit_those_at_their_places(model: Path) -> None:
    """The file as load_convolutional_weights of parser.c reads it: 20 bytes, then five arrays of each section."""
    numbers, place = np.fromfile(model, "<f4", offset=20), 0
    layers = {layer.name: layer for layer in formats.read(model).layers}
    kernels = {node.name: node.kernel for node in formats.read_network(model).nodes if node.kernel is not None}
    for name, (inputs, outputs, size, groups) in BATCH_NORMS.items():
        for parameter in ("beta", "gamma", "moving_mean", "moving_variance"):
            np.testing.assert_array_equal(layers[name].arrays[parameter], numbers[place : place + outputs])
            place += outputs
        shape = (outputs, inputs // groups, size * size)
        weights = numbers[place : place + math.prod(shape)].reshape(shape)
        kernel = next(kernel for node, kernel in kernels.items() if node.startswith(name))
        np.testing.assert_array_equal(kernel.weights, weights.transpose(2, 1, 0))
        place += weights.size
    assert numbers.size - place == 5 + 5 * 16


def test_numbers_are_bit_for_bit_those_that_opencv_reads(model: Path) -> None:
    dnn = pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'opencv-python-headless<5'").dnn
    if not hasattr(dnn, "readNetFromDarknet"):
        pytest.skip("OpenCV 5 does not read Darknet any more: pip install 'opencv-python-headless<5'")
    net = dnn.readNetFromDarknet(str(model.with_suffix(".cfg")), str(model))
    found = formats.read_network(model)
    kernels = {node.name.partition(".")[0]: node.kernel for node in found.nodes if node.kernel is not None}
    assert list(kernels) == ["0", "1", "3", "7"]
    for place, kernel in kernels.items():
        assert kernel is not None
        stored = net.getLayer(net.getLayerId(f"conv_{place}")).blobs[0]
        np.testing.assert_array_equal(kernel.weights, network.convolution(stored, kernel.groups))
    for layer in formats.read(model).layers:
        blobs = net.getLayer(net.getLayerId(f"bn_{layer.name[0]}")).blobs
        for name, blob in zip(("moving_mean", "moving_variance", "gamma", "beta"), blobs, strict=True):
            np.testing.assert_array_equal(layer.arrays[name], blob.reshape(-1))


def test_network_is_wired_as_the_sections_say(model: Path) -> None:
    found = formats.read_network(model)
    made = found.producers()
    assert (found.inputs[0].shape, found.outputs[0].shape) == ((None, 3, 16, 16), (None, 5, 8, 8))
    (route,) = (node for node in found.nodes if node.name == "6.route.route")
    assert route.inputs == ("5.upsample", "1.convolutional")
    (last,) = (node for node in found.nodes if node.name == "7.convolutional.weights")
    assert (last.operation, last.inputs, last.kernel and last.kernel.bias is not None) == (
        "convolution",
        ("6.route",),
        True,
    )
    norm = made["0.convolutional.norm"]
    assert (norm.operation, norm.layer, norm.inputs) == (
        network.BATCH_NORM,
        "0.convolutional",
        ("0.convolutional.sum",),
    )


def test_dense_section_stores_its_batch_norm_last(tmp_path: Path) -> None:
    (tmp_path / "m.cfg").write_text("[net]\nheight=2\nwidth=2\nchannels=1\n[connected]\noutput=3\nbatch_normalize=1\n")
    numbers = np.arange(3 + 12 + 9, dtype=np.float32)
    # Version 0.1 counts the images in 4 bytes.
    (tmp_path / "m.weights").write_bytes(struct.pack("<iiii", 0, 1, 0, 7) + numbers.tobytes())
    (layer,) = formats.read(tmp_path / "m.cfg").layers
    np.testing.assert_array_equal(layer.arrays["beta"], [0, 1, 2])
    np.testing.assert_array_equal(layer.arrays["gamma"], [15, 16, 17])
    np.testing.assert_array_equal(layer.arrays["moving_variance"], [21, 22, 23])
    kernel = formats.read_network(tmp_path / "m.cfg").nodes[0].kernel
    assert kernel is not None
    np.testing.assert_array_equal(kernel.weights[0], numbers[3:15].reshape(3, 4).T)


def test_folder_holds_one_model(model: Path) -> None:
    assert folder_models.search({"path": str(model.parent)}, [], lambda _: None).models == (str(model),)


HOSTILE = {
    "another number of filters": ("filters=4", "filters=6", DamagedFile),
    "a billion filters": ("filters=4", "filters=1000000000", DamagedFile),
    "more digits than a size has": ("filters=4", f"filters={'9' * 5000}", DamagedFile),
    "filters that are a word": ("filters=4", "filters=four", DamagedFile),
    "a kernel without places": ("size=3", "size=0", UnreadableFile),
    "no filters": ("filters=4", "filters=0", UnreadableFile),
    "groups that do not divide": ("groups=2", "groups=3", UnreadableFile),
    "a later section": ("layers=-1,1", "layers=-1,60", DamagedFile),
    "a section before the first": ("layers=-1,1", "layers=-99", DamagedFile),
    "a section of another kind": ("[maxpool]", "[lstm]", UnreadableFile),
    "a line without a value": ("pad=1", "pad", DamagedFile),
    "weights that stay elsewhere": ("groups=2", "groups=2\ndontload=1", UnreadableFile),
    "an image of a billion": ("height=16", "height=999999999999", DamagedFile),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_sections_are_refused(model: Path, kind: str) -> None:
    mutations.is_refused(model, model.with_suffix(".cfg"), CFG, HOSTILE[kind])


@pytest.mark.parametrize(
    "change", [lambda data: data[:-4], lambda data: data[:-1], lambda data: data + bytes(4), lambda data: data[:14]]
)
def test_weights_of_another_length_are_refused(model: Path, change: object) -> None:
    assert callable(change)
    model.write_bytes(change(model.read_bytes()))
    with pytest.raises(DamagedFile):
        formats.read(model)


def test_companion_must_be_there_and_beside(model: Path) -> None:
    cfg = model.with_suffix(".cfg")
    cfg.unlink()
    with pytest.raises(DamagedFile, match=r"put m\.cfg back|no file m\.cfg"):
        formats.read(model)
    cfg.symlink_to("/etc/hostname")
    with pytest.raises(UnsafeFile):
        formats.read(model)


def test_more_text_than_a_model_has_is_not_read(model: Path) -> None:
    model.with_suffix(".cfg").write_text(CFG + "[dropout]\n" * 200_000)
    with pytest.raises(BninspectError, match="too large"):
        formats.read(model)


@mutations.exchanged
def test_changed_sections_are_read_or_refused(model: Path, place: int, new: bytes, length: int) -> None:
    mutations.is_read_or_refused(model, model.with_suffix(".cfg"), CFG.encode(), place, new, length)
