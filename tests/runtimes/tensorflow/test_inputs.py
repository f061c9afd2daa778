"""What a graph has to be fed: no more than its batch norms need, of a kind that it can take."""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import tensorflow_models as models
from helpers.outcomes import verified

from bninspect import formats
from bninspect.records import LayerStatus

pytestmark = pytest.mark.tensorflow


@pytest.fixture(autouse=True)
def _quiet(prepared: None) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def assert_verified(path: Path, **options: Any) -> None:
    model = verified(path, **options)
    assert [(layer.status, layer.reason) for layer in model.layers] == [(LayerStatus.VERIFIED, "")]


def frozen(folder: Path, build: Callable[[], Any]) -> Path:
    """Return a frozen graph of what `build` returns."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session() as session:
        tf.identity(build(), "out")
        session.run(v1.global_variables_initializer())
        constants = v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), ["out"])
    path = folder / "frozen.pb"
    path.write_bytes(constants.SerializeToString())
    return path


def normalised(x: Any) -> Any:
    import tensorflow as tf

    gamma, beta, mean, variance = models.variables("bn", x.shape[-1])
    return tf.compat.v1.nn.fused_batch_norm(x, gamma, beta, mean, variance, epsilon=1e-3, is_training=False)[0]


def placeholder(name: str, shape: Any, dtype: str = "float32") -> Any:
    import tensorflow as tf

    return tf.compat.v1.placeholder(dtype, shape, name)


def test_a_scalar_keeps_what_a_dropout_keeps(tmp_path: Path) -> None:
    import tensorflow as tf

    def build() -> Any:
        image, keep = placeholder("image", (None, 4, 4, 3)), placeholder("keep_prob", ())
        return normalised(tf.compat.v1.nn.dropout(image, keep_prob=keep))

    assert_verified(frozen(tmp_path, build))


def test_a_placeholder_that_no_batch_norm_needs_is_not_asked_for(tmp_path: Path) -> None:
    def build() -> Any:
        return normalised(placeholder("image", (None, 4, 4, 3))) * placeholder("lr", None)

    assert_verified(frozen(tmp_path, build))


def test_an_input_of_a_wholly_open_shape_takes_the_one_that_is_given(tmp_path: Path) -> None:
    import tensorflow as tf

    def build() -> Any:
        return normalised(tf.reshape(placeholder("image", None), (-1, 4, 4, 3)))

    path = frozen(tmp_path, build)
    (layer,) = verified(path).layers
    assert layer.status is LayerStatus.UNVERIFIED
    assert "--input-shape image=" in layer.reason
    assert_verified(path, input_shapes={"image": (2, 48)})


@pytest.mark.parametrize("channels", [1, -1])
def test_a_sound_is_encoded_as_the_graph_decodes_it(tmp_path: Path, channels: int) -> None:
    import tensorflow as tf

    def build() -> Any:
        sound = tf.audio.decode_wav(placeholder("wav", (), "string"), channels, 160)
        return normalised(tf.reshape(sound.audio, (1, 4, 40, 1)))

    assert_verified(frozen(tmp_path, build))


@pytest.mark.parametrize("decode", ["decode_jpeg", "decode_png", "decode_image"])
def test_an_image_is_encoded_as_the_graph_decodes_it(tmp_path: Path, decode: str) -> None:
    import tensorflow as tf

    def build() -> Any:
        image = getattr(tf.io, decode)(placeholder("file", (), "string"), 3)
        return normalised(tf.ensure_shape(tf.cast(image, "float32")[None], (1, None, None, 3)))

    assert_verified(frozen(tmp_path, build))


@pytest.mark.parametrize("encoded", [False, True])
def test_images_are_decoded_in_a_loop(tmp_path: Path, encoded: bool) -> None:
    """As graphs have it that are served: a batch of files, in Base64 or as they are."""
    import tensorflow as tf

    def decode(text: Any) -> Any:
        image = tf.io.decode_jpeg(tf.io.decode_base64(text) if encoded else text, 3)
        return tf.image.resize(image, (4, 4))

    def build() -> Any:
        files = placeholder("files", (None,), "string")
        images = tf.map_fn(decode, files, fn_output_signature=tf.float32)
        return normalised(tf.ensure_shape(images, (None, 4, 4, 3)))

    assert_verified(frozen(tmp_path, build))


def test_values_that_fail_say_which_option_gives_others(tmp_path: Path) -> None:
    import tensorflow as tf

    def build() -> Any:
        flat, size = placeholder("flat", (None,)), placeholder("size", (), "int32")
        return normalised(tf.reshape(flat, [size, 4, 4, 3]))

    path = frozen(tmp_path, build)
    (layer,) = verified(path).layers
    assert "Input to reshape is a tensor with" in layer.reason
    assert "--input gives it other values" in layer.reason
    numbers = np.random.default_rng(1).normal(size=96).astype(np.float32)
    np.savez(tmp_path / "given.npz", flat=numbers, size=np.int32(2))
    assert_verified(path, input=str(tmp_path / "given.npz"))


def test_lengths_that_fail_say_which_option_chooses_others(tmp_path: Path) -> None:
    import tensorflow as tf

    def build() -> Any:
        image = placeholder("image", (None, None, 3))
        return normalised(tf.reshape(image, (-1, 7, 11, 3)))

    (layer,) = verified(frozen(tmp_path, build)).layers
    assert "--input-shape" in layer.reason
    assert_verified(frozen(tmp_path, build), input_shapes={"image": (1, 77, 3)})


def saved(folder: Path) -> models.Tf1:
    return models.Tf1(folder, models.fused_at_inference, (None, 5, 5, 3))


def test_shapes_that_a_graph_states_wrongly_are_not_believed(tmp_path: Path) -> None:
    """Training graphs of TensorFlow 1.10 state shapes of gradients that TensorFlow 2 refuses."""
    import tensorflow as tf

    prefix = saved(tmp_path).prefix
    path = prefix.with_name(f"{prefix.name}.meta")
    meta = tf.compat.v1.MetaGraphDef.FromString(path.read_bytes())
    (norm,) = (node for node in meta.graph_def.node if node.op.startswith("FusedBatchNorm"))
    wrong = norm.attr["_output_shapes"].list.shape
    for _ in range(6 if norm.op.endswith("V3") else 5):
        wrong.add().dim.add().size = 7
    path.write_bytes(meta.SerializeToString())
    assert_verified(prefix)


def test_a_checkpoint_without_a_name(tmp_path: Path) -> None:
    prefix = saved(tmp_path).prefix
    nameless = tmp_path / "nameless"
    nameless.mkdir()
    for path in prefix.parent.glob(f"{prefix.name}.*"):
        shutil.copy(path, nameless / path.name.removeprefix(prefix.name))
    for path in (nameless, nameless / ".index", nameless / ".meta"):
        assert [layer.name for layer in formats.read(path).layers] == ["bn"]
        assert_verified(path)


def test_a_state_file_that_names_a_path_elsewhere(tmp_path: Path) -> None:
    prefix = saved(tmp_path).prefix
    state = prefix.with_name("checkpoint")
    state.write_text(re.sub(r'"[^"]*"', f'"C:\\\\\\\\runs\\\\\\\\{prefix.name}"', state.read_text()))
    assert_verified(prefix.parent)


def test_a_scalar_of_the_user_is_taken(tmp_path: Path) -> None:
    def build() -> Any:
        return normalised(placeholder("image", (None, 4, 4, 3)) / placeholder("scale", ()))

    path = frozen(tmp_path, build)
    np.savez(tmp_path / "x.npz", image=np.ones((1, 4, 4, 3), np.float32), scale=np.float32(255))
    assert_verified(path, input=str(tmp_path / "x.npz"))
