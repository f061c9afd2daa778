"""TFLite read without TensorFlow, against the interpreter's own view of the file that its converter wrote."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bninspect import formats
from bninspect.errors import BninspectError, DamagedFile
from bninspect.exporters import tflite as exporter
from bninspect.formats.encodings import flatbuffer
from bninspect.formats.tflite import format as container
from bninspect.formats.tflite import model
from bninspect.formats.tflite.schema import IDENTIFIER
from bninspect.records import BatchNorm, Checkpoint, Statistics
from bninspect.records import graph as network
from bninspect.records.graph import Network

pytestmark = pytest.mark.tensorflow


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _network(keras: Any) -> Any:
    layers = keras.layers
    x = inputs = layers.Input((8, 8, 3), batch_size=1)
    x = layers.BatchNormalization(name="first", epsilon=0.25)(x)
    x = layers.Conv2D(4, 3, name="conv")(layers.ReLU()(x))
    x = layers.ReLU()(layers.BatchNormalization(name="folded")(x))
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(x)
    x = layers.Conv2D(6, 3, groups=2, name="grouped", padding="same")(x)
    x = layers.Conv2DTranspose(5, 2, name="up")(x)
    outputs = layers.Dense(3, name="dense")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, outputs)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """Return a Keras model with random parameters, and the file that the converter made of it."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(4)
    built = _network(keras)
    generator = np.random.default_rng(1)
    for layer in built.layers:
        layer.set_weights([generator.uniform(0.5, 2, one.shape) for one in layer.get_weights()])
    path = tmp_path_factory.mktemp("tflite") / "m.tflite"
    with _quiet():
        path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(built).convert())
    return built, path


def _kernels(found: Network) -> dict[str, network.Kernel]:
    return {node.operation: node.kernel for node in found.nodes if node.kernel and not node.layer}


def test_surviving_scale_and_shift_is_counted_and_in_the_network(converted: tuple[Any, Path]) -> None:
    built, path = converted
    checkpoint = formats.read(path)
    assert (checkpoint.layers, checkpoint.unread) == ((), ())
    assert checkpoint.notes[0].startswith("1 scale and shift")
    (node,) = [one for one in container.read_network(path).nodes if one.operation == network.BATCH_NORM]
    gamma, beta, mean, variance = (one.astype(np.float64) for one in built.get_layer("first").get_weights())
    scale = gamma / np.sqrt(variance + 0.25)
    assert node.kernel is not None
    assert node.kernel.bias is not None
    np.testing.assert_allclose(node.kernel.weights.ravel(), scale, rtol=3e-7)
    np.testing.assert_allclose(node.kernel.bias, beta - mean * scale, rtol=0, atol=1e-6)


def _written_by_converter(path: Path, function: Any, shape: tuple[int | None, ...]) -> Checkpoint:
    import tensorflow as tf

    made = tf.function(function, input_signature=[tf.TensorSpec(shape)])
    with _quiet():
        converter = tf.lite.TFLiteConverter.from_concrete_functions([made.get_concrete_function()])
        (path / "m.tflite").write_bytes(converter.convert())
    return formats.read(path / "m.tflite")


_VARIANCES: dict[str, Callable[[Any, Any, list[int]], tuple[Any, Any]]] = {
    "moments": lambda tf, x, axes: tuple(tf.nn.moments(x, axes, keepdims=True)),
    "of-squares": lambda tf, x, axes: (
        tf.reduce_mean(x, axes, keepdims=True),
        tf.reduce_mean(x * x, axes, keepdims=True) - tf.reduce_mean(x, axes, keepdims=True) ** 2,
    ),
    "of-sums": lambda tf, x, axes: (
        tf.reduce_sum(x, axes, keepdims=True) / 32.0,
        tf.reduce_sum((x - tf.reduce_sum(x, axes, keepdims=True) / 32.0) ** 2, axes, keepdims=True) / 32.0,
    ),
}


@pytest.mark.parametrize("batch", [None, 1, 2])
@pytest.mark.parametrize("variance", _VARIANCES)
@pytest.mark.parametrize("parameters", [False, True], ids=["bare", "gamma"])
@pytest.mark.parametrize(
    ("axes", "expected"), [([0, 1, 2], 1), ([1, 2], 0), ([-1], 0)], ids=["batch", "instance", "layer"]
)
def test_moments_of_the_batch_are_a_batch_norm_in_training_mode(
    tmp_path: Path, axes: list[int], expected: int, parameters: bool, variance: str, batch: int | None
) -> None:
    import tensorflow as tf

    def normalised(x: Any) -> Any:
        mean, spread = _VARIANCES[variance](tf, x, axes)
        y = (x - mean) * tf.math.rsqrt(spread + 1e-3)
        return y * tf.constant([1.5, 0.5]) + tf.constant([0.25, 2.0]) if parameters else y

    found = _written_by_converter(tmp_path, normalised, (batch, 4, 4, 2))
    assert [one.statistics for one in found.layers] == [Statistics.BATCH] * expected
    assert found.unread == ()


def test_a_feature_of_the_deviations_of_a_batch_is_none(tmp_path: Path) -> None:
    """As discriminators of generative networks have it: nothing is divided by it."""
    import tensorflow as tf

    def deviating(x: Any) -> Any:
        spread = tf.sqrt(tf.reduce_mean(tf.square(x - tf.reduce_mean(x, 0, keepdims=True)), 0) + 1e-8)
        return tf.concat([x, tf.reduce_mean(spread) * tf.ones_like(x[..., :1])], -1)

    found = _written_by_converter(tmp_path, deviating, (4, 3, 3, 2))
    assert (found.layers, found.unread) == ((), ())


@pytest.mark.parametrize("batch", [None, 1, 4])
@pytest.mark.parametrize("shape", [(6,), (5, 6), (4, 4, 6)], ids=["vectors", "series", "maps"])
def test_layer_normalization_by_the_kernel_of_a_batch_norm_is_none(
    tmp_path: Path, shape: tuple[int, ...], batch: int | None
) -> None:
    import tensorflow as tf
    import tf_keras

    inputs = tf_keras.layers.Input(shape, batch_size=batch)
    built = tf_keras.Model(inputs, tf_keras.layers.LayerNormalization()(inputs))
    generator = np.random.default_rng(2)
    built.set_weights([generator.uniform(0.5, 2, one.shape) for one in built.get_weights()])
    with _quiet():
        (tmp_path / "m.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(built).convert())
    found = formats.read(tmp_path / "m.tflite")
    assert (found.layers, found.unread) == ((), ())


def test_of_one_sample_whose_norm_has_no_gamma_nobody_can_tell(tmp_path: Path) -> None:
    import tensorflow as tf

    def normalised(x: Any) -> Any:
        reshaped = tf.reshape(x, (1, 5, 6, 1))
        mean, spread = tf.nn.moments(reshaped, [0, 2, 3], keepdims=True)
        return (reshaped - mean) * tf.math.rsqrt(spread + 1e-3)

    found = _written_by_converter(tmp_path, normalised, (1, 5, 6))
    assert [one.statistics for one in found.layers] == [Statistics.SAMPLE]


def test_a_variance_that_is_still_a_variable_is_not_read(tmp_path: Path) -> None:
    import tensorflow as tf

    class Norm(tf.Module):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.variance = tf.Variable([1.5, 0.5])

        @tf.function(input_signature=[tf.TensorSpec((2, 4, 4, 2))])  # type: ignore[untyped-decorator, unused-ignore]
        def normalised(self, x: Any) -> Any:
            normal = (x - 0.5) * tf.math.rsqrt(self.variance + 1e-3)
            self.variance.assign(tf.math.square(x[0, 0, 0]))  # or the converter makes a constant of it
            return normal

    module = Norm()
    with _quiet():
        converter = tf.lite.TFLiteConverter.from_concrete_functions([module.normalised.get_concrete_function()], module)
        converter.experimental_enable_resource_variables = True
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
        (tmp_path / "m.tflite").write_bytes(converter.convert())
    assert [one.count for one in formats.read(tmp_path / "m.tflite").unread] == [1]


@pytest.mark.parametrize(
    ("name", "count"), [("odml.batch_norm", 1), ("aten.native_batch_norm.default", 1), ("odml.rms_norm", 0)]
)
def test_a_composite_that_is_called_so_is_counted(tmp_path: Path, name: str, count: int) -> None:
    import flatbuffers  # type: ignore[import-untyped, unused-ignore]
    import tensorflow as tf
    from tensorflow.lite.python import schema_py_generated as schema

    _written_by_converter(tmp_path, tf.nn.relu, (1, 4, 4, 2))
    model_of = schema.ModelT.InitFromPackedBuf((tmp_path / "m.tflite").read_bytes())
    code = model_of.operatorCodes[0]
    code.deprecatedBuiltinCode, code.builtinCode = 127, schema.BuiltinOperator.STABLEHLO_COMPOSITE
    operator = model_of.subgraphs[0].operators[0]
    operator.builtinOptions, operator.builtinOptionsType = None, 0
    operator.builtinOptions2Type = schema.BuiltinOptions2.StableHLOCompositeOptions
    operator.builtinOptions2 = schema.StableHLOCompositeOptionsT()
    operator.builtinOptions2.name, operator.builtinOptions2.decompositionSubgraphIndex = name, 1
    builder = flatbuffers.Builder(1024)
    builder.Finish(model_of.Pack(builder), IDENTIFIER)
    (tmp_path / "m.tflite").write_bytes(bytes(builder.Output()))
    found = formats.read(tmp_path / "m.tflite")
    assert (found.layers, sum(calls.count for calls in found.unread)) == ((), count)


def test_what_an_accelerator_compiled_is_not_passed_over(tmp_path: Path) -> None:
    import flatbuffers
    import tensorflow as tf
    from tensorflow.lite.python import schema_py_generated as schema

    _written_by_converter(tmp_path, tf.nn.relu, (1, 4, 4, 2))
    model_of = schema.ModelT.InitFromPackedBuf((tmp_path / "m.tflite").read_bytes())
    code = model_of.operatorCodes[0]
    code.deprecatedBuiltinCode, code.builtinCode = schema.BuiltinOperator.CUSTOM, schema.BuiltinOperator.CUSTOM
    code.customCode = "edgetpu-custom-op"
    builder = flatbuffers.Builder(1024)
    builder.Finish(model_of.Pack(builder), IDENTIFIER)
    (tmp_path / "m.tflite").write_bytes(bytes(builder.Output()))
    (hidden,) = formats.read(tmp_path / "m.tflite").unread
    assert (hidden.where, hidden.count) == ("custom operator edgetpu-custom-op", 0)


def test_roots_in_the_graphs_of_a_condition_are_counted(tmp_path: Path) -> None:
    import tensorflow as tf

    def chosen(x: Any) -> Any:
        def normalised() -> Any:
            mean, variance = tf.nn.moments(x, [0, 1, 2], keepdims=True)
            return (x - mean) * tf.math.rsqrt(variance + 1e-3)

        return tf.cond(tf.reduce_sum(x) > 0, normalised, lambda: x)

    found = _written_by_converter(tmp_path, chosen, (2, 4, 4, 2))
    assert (found.layers, [calls.count for calls in found.unread]) == ((), [1])


def test_a_signalling_nan_is_read_as_it_is(tmp_path: Path) -> None:
    two = np.array([1, 2], np.float32)
    layer = BatchNorm("bn", two, np.array([0.5, 12345], np.float32), two * 0, two, epsilon=0.0, axis=(-1,))
    data = exporter.encode(Checkpoint("m.h5", "keras-h5", "", (layer,)), folded=False)
    (tmp_path / "m.tflite").write_bytes(data.replace(np.float32(12345).tobytes(), b"\x01\x00\xa0\x7f"))
    (found,) = formats.read(tmp_path / "m.tflite").layers
    assert found.arrays["beta"].tobytes() == np.float32(0.5).tobytes() + b"\x01\x00\xa0\x7f"


@pytest.mark.parametrize(("scales", "axis"), [(3, 0), (2, 1), (1000, 2), (2, 9), (2, -1)])
def test_scales_that_do_not_fit_are_not_repeated(scales: int, axis: int) -> None:
    data, ones = np.zeros(2, np.uint8), np.ones(scales)
    tensor = model.TfliteTensor(0, "w", (2, 1, 1), (2, 1, 1), "int8", data, ones, ones, axis)
    with pytest.raises(DamagedFile, match=rf"has {scales} scales along axis {axis}"):
        _ = tensor.values


def test_weights_in_our_order(converted: tuple[Any, Path]) -> None:
    built, path = converted
    kernels = _kernels(container.read_network(path))
    up, dense = kernels[network.TRANSPOSED], kernels[network.DENSE]
    weights, bias = built.get_layer("up").get_weights()  # (height, width, outputs, inputs)
    np.testing.assert_array_equal(up.weights, weights.transpose(0, 1, 3, 2).reshape(4, 6, 5))
    np.testing.assert_array_equal(up.bias, bias)
    np.testing.assert_array_equal(dense.weights[0], built.get_layer("dense").get_weights()[0])
    depthwise = built.get_layer("depthwise").get_weights()[0]  # (height, width, inputs, multiplier)
    np.testing.assert_array_equal(kernels[network.DEPTHWISE].weights, depthwise.reshape(9, 1, 8))
    assert kernels[network.DEPTHWISE].groups == 4


def test_grouped_convolution(converted: tuple[Any, Path]) -> None:
    built, path = converted
    truth = built.get_layer("grouped").get_weights()[0].reshape(9, 4, 6)
    found = [node.kernel for node in container.read_network(path).nodes if node.kernel and node.kernel.outputs == 6]
    # Converters may write a grouped convolution as one, or as several behind a split.
    kernel = next(one for one in found if one.weights.shape == truth.shape)
    np.testing.assert_array_equal(kernel.weights, truth)
    assert kernel.groups == 2


def test_every_constant_is_what_the_interpreter_holds(converted: tuple[Any, Path]) -> None:
    import tensorflow as tf

    _, path = converted
    with _quiet():
        interpreter = tf.lite.Interpreter(str(path))
    interpreter.allocate_tensors()
    graph = model.parse(path.read_bytes())
    constants = {one.index: one for node in graph.operators for one in node.inputs if one and one.is_constant}
    assert len(constants) > 10
    for index, constant in constants.items():
        np.testing.assert_array_equal(constant.stored, interpreter.get_tensor(index), strict=True)
    described = {one["index"]: one for one in interpreter.get_input_details() + interpreter.get_output_details()}
    for one in (*graph.inputs, *graph.outputs):
        assert (one.name, one.shape) == (described[one.index]["name"], tuple(described[one.index]["shape"]))


def test_activation_is_part_of_the_operation(converted: tuple[Any, Path]) -> None:
    first = next(node for node in container.read_network(converted[1]).nodes if node.operation == network.CONVOLUTION)
    assert first.activation == "relu"


def test_quantised_weights_are_multiples_of_their_step(converted: tuple[Any, Path], tmp_path: Path) -> None:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(converted[0])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    generator = np.random.default_rng(0)
    converter.representative_dataset = lambda: (
        [generator.normal(size=(1, 8, 8, 3)).astype(np.float32)] for _ in range(4)
    )
    with _quiet():
        (tmp_path / "q.tflite").write_bytes(converter.convert())
    found = container.read_network(tmp_path / "q.tflite")
    float_kernels = _kernels(container.read_network(converted[1]))
    for kind, kernel in _kernels(found).items():
        assert kernel.weight_step is not None
        whole = kernel.weights / kernel.weight_step
        np.testing.assert_allclose(whole, np.round(whole), atol=1e-6)
        if kernel.weights.shape == float_kernels[kind].weights.shape:
            difference = np.abs(kernel.weights - float_kernels[kind].weights)
            assert (difference <= 0.5 * kernel.weight_step * (1 + 1e-5)).all(), kind


def test_float16_weights_are_seen_through(converted: tuple[Any, Path], tmp_path: Path) -> None:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(converted[0])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    with _quiet():
        (tmp_path / "h.tflite").write_bytes(converter.convert())
    exact = _kernels(container.read_network(converted[1]))
    rounded = _kernels(container.read_network(tmp_path / "h.tflite"))
    assert rounded.keys() == exact.keys()
    for kind, kernel in rounded.items():
        assert (kernel.dtype, exact[kind].dtype) == ("float16", "float32")
        np.testing.assert_array_equal(kernel.weights, exact[kind].weights.astype(np.float16))


def test_real_files(shared_models: Path) -> None:
    found = container.read_network(shared_models / "mlperf-tiny" / "pretrainedResnet.tflite")
    kernels = [node.kernel for node in found.nodes if node.kernel]
    assert len(kernels) == 10
    assert sum(kernel.outputs for kernel in kernels) == 16 * 3 + 32 * 3 + 64 * 3 + 10
    assert found.inputs[0].shape == (None, 32, 32, 3)


def test_every_cut_is_an_error(converted: tuple[Any, Path], tmp_path: Path) -> None:
    data = converted[1].read_bytes()
    for length in range(0, len(data) - 64, 97):
        (tmp_path / "cut.tflite").write_bytes(data[:length])
        with pytest.raises(BninspectError):
            container.read_network(tmp_path / "cut.tflite")


@given(st.data())
def test_any_changed_bytes_are_an_error_or_a_model(converted: tuple[Any, Path], data: st.DataObject) -> None:
    changed = bytearray(converted[1].read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(changed) - 1), min_size=1, max_size=8)):
        changed[place] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
    path = converted[1].with_name("changed.tflite")
    path.write_bytes(changed)
    try:
        container.read_network(path)
        container.FORMAT.read(path)
    except BninspectError:
        pass


def test_offsets_that_lead_out() -> None:
    for data in (b"", b"\xff\xff\xff\xffTFL3", b"\x08\0\0\0TFL3\0\0\0\x80", b"\x08\0\0\0TFL3\x04\0\0\0"):
        with pytest.raises(DamagedFile):
            flatbuffer.root(data).tables(2)
