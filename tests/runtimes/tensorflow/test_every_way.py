"""Every operation that TensorFlow has for batch normalisation is a layer, or a call that is said not to be read."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bninspect import formats
from bninspect.records import Checkpoint, LayerStatus, Statistics
from bninspect.runtimes.runtime import RunSettings
from bninspect.runtimes.tensorflow import session as graphs
from bninspect.settings import Settings
from bninspect.verdicts import verify_task

pytestmark = pytest.mark.tensorflow

PARAMETERS = ("gamma", "beta", "moving_mean", "moving_variance")


@pytest.fixture(autouse=True)
def _quiet(prepared: None) -> Iterator[None]:
    """The interfaces of TF1 warn that they are old."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def constant(graph: Any, name: str, values: Any) -> None:
    import tensorflow as tf

    node = graph.node.add(name=name, op="Const")
    proto = tf.make_tensor_proto(np.asarray(values))
    node.attr["dtype"].type = proto.dtype
    node.attr["value"].tensor.CopyFrom(proto)


def graph_of(op: str, inputs: tuple[str, ...], **attributes: Any) -> Any:
    """Return a graph with constants for the parameters and one operation on an image, written node by node."""
    import tensorflow as tf

    graph = tf.compat.v1.GraphDef()
    image = graph.node.add(name="x", op="Placeholder")
    image.attr["dtype"].type = 1
    image.attr["shape"].shape.dim.extend(map(_length, (1, 4, 4, 3)))
    random = np.random.default_rng(0)
    for name in PARAMETERS:
        constant(graph, f"bn/{name}", random.uniform(0.5, 2, 3).astype(np.float32))
    constant(graph, "bn/moments_axes", np.array([0, 1, 2], np.int32))
    for name, source in (("bn/batch_mean", "x"), ("bn/batch_variance", "bn/square")):
        if source == "bn/square":
            square = graph.node.add(name="bn/square", op="Square", input=["x"])
            square.attr["T"].type = 1
        mean = graph.node.add(name=name, op="Mean", input=[source, "bn/moments_axes"])
        mean.attr["T"].type, mean.attr["Tidx"].type, mean.attr["keep_dims"].b = 1, 3, False
    node = graph.node.add(name="bn/out", op=op, input=list(inputs))
    node.attr["T"].type = 1
    for name, value in attributes.items():
        kind = "b" if isinstance(value, bool) else "f"
        setattr(node.attr[name], kind, value)
    return graph


def _length(number: int) -> Any:
    from tensorflow.core.framework.tensor_shape_pb2 import TensorShapeProto

    return TensorShapeProto.Dim(size=number)


def read(folder: Path, graph: Any) -> Checkpoint:
    path = folder / "graph.pb"
    path.write_bytes(graph.SerializeToString())
    return formats.read(path)


STORED = ("x", *(f"bn/{name}" for name in PARAMETERS))
COMPUTED = ("x", "bn/gamma", "bn/beta", "bn/batch_mean", "bn/batch_variance")
GLOBAL = ("x", "bn/moving_mean", "bn/moving_variance", "bn/beta", "bn/gamma")


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("FusedBatchNorm", STORED, {"is_training": False, "epsilon": 1e-3}),
        ("FusedBatchNormV2", STORED, {"is_training": False, "epsilon": 1e-3}),
        ("FusedBatchNormV3", STORED, {"is_training": False, "epsilon": 1e-3}),
        ("_FusedBatchNormEx", STORED, {"is_training": False, "epsilon": 1e-3}),
        (
            "BatchNormWithGlobalNormalization",
            GLOBAL,
            {"variance_epsilon": 1e-3, "scale_after_normalization": True},
        ),
    ],
)
def test_an_operation_that_is_a_layer(tmp_path: Path, op: str, inputs: tuple[str, ...], attributes: Any) -> None:
    checkpoint = read(tmp_path, graph_of(op, inputs, **attributes))
    (layer,) = checkpoint.layers
    assert set(layer.arrays) == set(PARAMETERS)
    assert layer.epsilon == pytest.approx(1e-3)
    assert checkpoint.unread == ()


@pytest.mark.parametrize(
    ("op", "inputs", "why"),
    [
        ("QuantizedBatchNormWithGlobalNormalization", STORED, "is not taken apart"),
        ("HorovodSyncBatchNorm", STORED, "is not taken apart"),
        ("_QuantizedFusedBatchNorm", STORED, "is not taken apart"),
    ],
)
def test_an_operation_that_is_no_layer_is_counted(tmp_path: Path, op: str, inputs: tuple[str, ...], why: str) -> None:
    checkpoint = read(tmp_path, graph_of(op, inputs, is_training=False))
    assert checkpoint.layers == ()
    (calls,) = checkpoint.unread
    assert (calls.where, calls.count) == ("bn/out", 1)
    assert why in calls.reason


def _called_norm() -> list[str]:
    """Return every operation of the installed TensorFlow that is a batch norm by its name, but for gradients."""
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session

    data = pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList())
    names = [operation.name for operation in op_def_pb2.OpList.FromString(bytes(data)).op]
    return [name for name in names if "BatchNorm" in name and "Grad" not in name]


def test_every_operation_of_tensorflow_is_seen(tmp_path: Path) -> None:
    operations = _called_norm()
    assert len(operations) >= 10
    for op in operations:
        inputs = GLOBAL if "Global" in op else STORED
        checkpoint = read(tmp_path, graph_of(op, inputs, is_training=False, scale_after_normalization=True))
        assert len(checkpoint.layers) + sum(calls.count for calls in checkpoint.unread) == 1, op


def test_statistics_that_the_graph_computes_are_those_of_a_layer(tmp_path: Path) -> None:
    checkpoint = read(tmp_path, graph_of("FusedBatchNormV3", COMPUTED, is_training=False))
    (layer,) = checkpoint.layers
    assert (layer.name, layer.statistics, set(layer.arrays)) == ("bn", Statistics.COMPUTED, {"gamma", "beta"})
    assert checkpoint.unread == ()
    model = verify_task.verify_checkpoint(checkpoint, Settings()).model
    (report,) = model.layers
    assert report.status is LayerStatus.UNVERIFIED
    assert "computed" in report.reason


def test_the_gradient_of_a_batch_norm_is_none(tmp_path: Path) -> None:
    checkpoint = read(tmp_path, graph_of("FusedBatchNormGradV3", STORED, is_training=True))
    assert (checkpoint.layers, checkpoint.unread) == ((), ())


def frozen(folder: Path, build: Any, batch: int | None = 1) -> Path:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session() as session:
        tf.identity(build(v1.placeholder("float32", (batch, 4, 4, 3), "x")), "out")
        session.run(v1.global_variables_initializer())
        constants = v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), ["out"])
    path = folder / "frozen.pb"
    path.write_bytes(constants.SerializeToString())
    return path


@pytest.mark.parametrize("needed", [False, True])
def test_an_operation_that_tensorflow_lacks_hinders_only_what_needs_it(tmp_path: Path, needed: bool) -> None:
    graph = graph_of("FusedBatchNorm", STORED, is_training=False, epsilon=1e-3)
    odd = graph.node.add(name="odd", op="NobodysOperation", input=["x"])
    behind = graph.node.add(name="behind", op="Relu", input=["odd"])
    odd.attr["T"].type = behind.attr["T"].type = 1
    if needed:
        next(node for node in graph.node if node.name == "bn/out").input[0] = "behind"
    (report,) = verify_task.verify_checkpoint(read(tmp_path, graph), Settings(trust=True)).model.layers
    assert report.status is (LayerStatus.UNVERIFIED if needed else LayerStatus.VERIFIED)


@pytest.mark.parametrize("trust", [False, True])
def test_of_a_graph_without_signatures_nothing_runs_that_does_more_than_compute(tmp_path: Path, trust: bool) -> None:
    import tensorflow as tf

    (tmp_path / "numbers").write_bytes(np.ones(3, np.float32).tobytes())

    def build(x: Any) -> Any:
        kept = tf.io.decode_raw(tf.io.read_file(str(tmp_path / "numbers")), tf.float32)
        return x * kept

    session = graphs.opened(formats.read(frozen(tmp_path, build)), RunSettings(trust=trust))
    assert session.outputs == ("out:0",)
    (x,) = session.inputs
    found = session.compute({x.name: np.ones((1, 4, 4, 3), np.float32)}, session.outputs)
    assert set(found) == ({"out:0"} if trust else set())


def variables() -> dict[str, Any]:
    import tensorflow as tf

    random = np.random.default_rng(1)
    with tf.compat.v1.variable_scope("bn"):
        return {
            name: tf.compat.v1.get_variable(name, initializer=tf.constant(random.uniform(0.5, 2, 3), tf.float32))
            for name in PARAMETERS
        }


def test_epsilon_outside_the_root_is_said(tmp_path: Path) -> None:
    import tensorflow as tf

    def build(x: Any) -> Any:
        of = variables()
        return (x - of["moving_mean"]) / (tf.sqrt(of["moving_variance"]) + 1e-5) * of["gamma"] + of["beta"]

    checkpoint = formats.read(frozen(tmp_path, build))
    (layer,) = checkpoint.layers
    assert (layer.name, set(layer.arrays)) == ("bn", set(PARAMETERS))
    assert layer.epsilon == pytest.approx(1e-5)
    assert layer.notes == ("epsilon is outside the square root: sqrt(variance) + 1e-05",)
    assert layer.outside_root
    assert checkpoint.unread == ()
    (report,) = verify_task.verify_checkpoint(checkpoint, Settings()).model.layers
    assert report.status is LayerStatus.MISMATCH
    assert report.explanation is not None
    assert [cause.name for cause in report.explanation.causes] == ["epsilon-outside"]


def test_what_normalises_by_its_own_input_is_none(tmp_path: Path) -> None:
    import tensorflow as tf

    def build(x: Any) -> Any:
        of = variables()
        mean, variance = tf.nn.moments(x, [1, 2, 3], keepdims=True)
        y = (x - mean) * tf.math.rsqrt(variance + 1e-3) * of["gamma"] + of["beta"]
        samples = tf.reshape(x, (1, 2, 48, 1))  # as Keras computes LayerNormalization: its channels are the samples
        one, none = tf.ones(2), tf.zeros(2)
        normalised = tf.compat.v1.nn.fused_batch_norm(samples, one, none, epsilon=1e-3, data_format="NCHW")[0]
        return tf.reshape(normalised, (2, 4, 4, 3)) + y

    checkpoint = formats.read(frozen(tmp_path, build, batch=2))
    assert (checkpoint.layers, checkpoint.unread) == ((), ())


def test_what_normalises_by_its_batch_is_a_layer_without_parameters(tmp_path: Path) -> None:
    import tensorflow as tf

    def build(x: Any) -> Any:
        return tf.compat.v1.nn.fused_batch_norm(x, tf.ones(3), tf.zeros(3), epsilon=1e-3)[0]

    checkpoint = formats.read(frozen(tmp_path, build))
    (layer,) = checkpoint.layers
    assert (layer.statistics, dict(layer.arrays), checkpoint.unread) == (Statistics.BATCH, {}, ())
    (report,) = verify_task.verify_checkpoint(checkpoint, Settings()).model.layers
    assert report.status is LayerStatus.UNVERIFIED


@pytest.mark.parametrize("keras", ["keras", "tf_keras"])
def test_the_normalization_of_keras_is_none(tmp_path: Path, keras: str) -> None:
    """It scales the input by constants of the data, and has no gamma, beta or epsilon under the root."""
    framework = pytest.importorskip(keras)
    layer = framework.layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[0.5, 1.0, 2.0])
    adapted = framework.layers.Normalization()
    adapted.adapt(np.random.default_rng(0).normal(size=(16, 4, 4, 3)).astype(np.float32))
    model = framework.Sequential([framework.Input((4, 4, 3)), layer, adapted, framework.layers.Conv2D(2, 1)])
    paths = [tmp_path / "m.h5", tmp_path / "m.keras", tmp_path / "m.weights.h5"]
    model.save(paths[0])
    model.save(paths[1])
    model.save_weights(paths[2])
    saved = tmp_path / "saved"
    model.export(saved)
    for path in (*paths, saved):
        checkpoint = formats.read(path)
        assert (checkpoint.layers, checkpoint.unread) == ((), ()), path.name


def test_a_batch_norm_that_was_folded_lacks_nothing(tmp_path: Path) -> None:
    import tensorflow as tf
    from tensorflow.python.tools.optimize_for_inference_lib import optimize_for_inference

    def build(x: Any) -> Any:
        of = variables()
        y = tf.nn.conv2d(x, tf.ones((3, 3, 3, 3)), 1, "SAME")
        y = tf.compat.v1.nn.fused_batch_norm(
            y, of["gamma"], of["beta"], of["moving_mean"], of["moving_variance"], epsilon=1e-3, is_training=False
        )[0]
        return tf.nn.relu(y)

    path = frozen(tmp_path, build)
    graph = tf.compat.v1.GraphDef.FromString(path.read_bytes())
    folded = optimize_for_inference(graph, ["x"], ["out"], tf.float32.as_datatype_enum)
    checkpoint = read(tmp_path, folded)
    (layer,) = checkpoint.layers
    assert layer.notes[0].startswith("it was folded into")
    model = verify_task.verify_checkpoint(checkpoint, Settings()).model
    (report,) = model.layers
    assert (report.status, report.findings) == (LayerStatus.UNVERIFIED, ())
    assert report.reason.startswith("it was folded into")
