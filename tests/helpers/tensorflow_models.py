"""Models with batch norms in every way in which TensorFlow code writes them, built and saved by TensorFlow itself.

Each builder saves into a folder and returns what the layers must hold, as the framework held it when it saved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Truth = Mapping[str, Mapping[str, NDArray[Any]]]
"""Layer -> parameter by standard name -> value."""

_GENERATOR = np.random.default_rng(20)


def normal(*shape: int) -> NDArray[np.float32]:
    return _GENERATOR.standard_normal(shape).astype(np.float32)


def positive(*shape: int) -> NDArray[np.float32]:
    return _GENERATOR.uniform(0.2, 2, shape).astype(np.float32)


def variables(scope: str, channels: int, *, resource: bool = False) -> tuple[Any, Any, Any, Any]:
    """Return TF1 variables gamma, beta, moving_mean and moving_variance."""
    import tensorflow as tf

    v1 = tf.compat.v1
    values = {"gamma": normal, "beta": normal, "moving_mean": normal, "moving_variance": positive}
    with v1.variable_scope(scope, use_resource=resource):
        gamma, beta, mean, variance = (
            v1.get_variable(name, initializer=tf.constant(draw(channels))) for name, draw in values.items()
        )
    return gamma, beta, mean, variance


class Tf1:
    """A TF1 graph: `image` is its input, `out` its output; saved as SavedModel, checkpoint and frozen graph."""

    def __init__(self, folder: Path, build: Callable[[Any], Any], shape: tuple[int | None, ...]) -> None:
        import tensorflow as tf

        v1 = tf.compat.v1
        self.saved_model, self.prefix, self.frozen = folder / "saved", folder / "ck" / "model.ckpt", folder / "f.pb"
        with tf.Graph().as_default() as graph, v1.Session() as session:
            image = v1.placeholder("float32", shape, "image")
            out = tf.identity(build(image), "out")
            session.run([v1.global_variables_initializer(), v1.tables_initializer()])
            self.truth = _truth(session.run({one.op.name: one for one in v1.global_variables()}))
            signature = v1.saved_model.build_signature_def(
                {"image": v1.saved_model.build_tensor_info(image)}, {"y": v1.saved_model.build_tensor_info(out)}
            )
            builder = v1.saved_model.Builder(str(self.saved_model))
            builder.add_meta_graph_and_variables(
                session, ["serve"], {"serving_default": signature}, strip_default_attrs=True
            )
            builder.save()
            v1.train.Saver().save(session, str(self.prefix))
            constants = v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), ["out"])
            self.frozen.write_bytes(constants.SerializeToString())


def _truth(values: Mapping[str, NDArray[Any]]) -> Truth:
    layers: dict[str, dict[str, NDArray[Any]]] = {}
    for name, value in values.items():
        scope, _, parameter = name.rpartition("/")
        if parameter in ("gamma", "beta", "moving_mean", "moving_variance"):
            layers.setdefault(scope, {})[parameter] = value
    return layers


def public_resnet(image: Any) -> Any:
    """Write blocks as the public `tensorflow-resnet` code of 2016 names them, epsilon 0.001."""
    import tensorflow as tf

    y = image
    for block in ("scale1", "scale2/block1/A", "scale2/block1/shortcut"):
        with tf.compat.v1.variable_scope(block):
            weights = tf.compat.v1.get_variable("weights", initializer=tf.constant(normal(3, 3, 3, 3) / 3))
        gamma, beta, mean, variance = variables(block, 3)
        y = tf.nn.batch_normalization(tf.nn.conv2d(y, weights, 1, "SAME"), mean, variance, beta, gamma, 0.001)
        y = tf.nn.relu(y)
    return y


def fused_at_inference(image: Any) -> Any:
    """Write tf.nn.fused_batch_norm with the epsilon that the operation has by default, so that it is stripped."""
    import tensorflow as tf

    gamma, beta, mean, variance = variables("bn", 3)
    y = tf.compat.v1.nn.fused_batch_norm(image, gamma, beta, mean, variance, epsilon=1e-4, is_training=False)
    return y[0]


def fused_training(image: Any) -> Any:
    """Write a batch norm in training mode, whose averages move with and without zero debias, and one at inference."""
    import tensorflow as tf
    from tensorflow.python.training.moving_averages import assign_moving_average

    gamma, beta, mean, variance = variables("trained", 3)
    y, batch_mean, batch_variance = tf.compat.v1.nn.fused_batch_norm(image, gamma, beta, epsilon=1e-4)[:3]
    updates = [
        assign_moving_average(mean, batch_mean, 0.9, zero_debias=True),
        assign_moving_average(variance, batch_variance, 0.9, zero_debias=False),
    ]
    with tf.control_dependencies(updates):
        y = tf.identity(y)
    gamma, beta, mean, variance = variables("frozen", 3)
    return tf.compat.v1.nn.fused_batch_norm(y, gamma, beta, mean, variance, is_training=False)[0]


def moments(image: Any) -> Any:
    """Write tf.nn.moments of the batch into tf.nn.batch_normalization, and store them."""
    import tensorflow as tf

    gamma, beta, mean, variance = variables("bn", 3)
    batch_mean, batch_variance = tf.nn.moments(image, [0, 1, 2])
    y = tf.nn.batch_normalization(image, batch_mean, batch_variance, beta, gamma, 1e-3)
    v1 = tf.compat.v1
    with tf.control_dependencies([v1.assign(mean, batch_mean), v1.assign(variance, batch_variance)]):
        return tf.identity(y)


def averaged_moments(image: Any) -> Any:
    """Write the batch norm of the early tutorials: ExponentialMovingAverage over the moments, chosen by tf.cond."""
    import tensorflow as tf

    v1 = tf.compat.v1
    v1.disable_control_flow_v2()
    phase = v1.placeholder_with_default(False, (), "phase_train")
    with v1.variable_scope("bn", use_resource=False):
        beta, gamma = v1.Variable(normal(3), name="beta"), v1.Variable(normal(3), name="gamma")
        mean, variance = tf.nn.moments(image, [0, 1, 2], name="moments")
        average = tf.train.ExponentialMovingAverage(0.5)

        def updated() -> tuple[Any, Any]:
            with tf.control_dependencies([average.apply([mean, variance])]):
                return tf.identity(mean), tf.identity(variance)

        used = tf.cond(phase, updated, lambda: (average.average(mean), average.average(variance)))
        return tf.nn.batch_normalization(image, *used, beta, gamma, 1e-3)


def conditional(*, functional: bool) -> Callable[[Any], Any]:
    """Return a builder of a batch norm that a placeholder switches to training, by `If` or by Switch and Merge."""

    def build(image: Any) -> Any:
        import tensorflow as tf

        v1 = tf.compat.v1
        (v1.enable_control_flow_v2 if functional else v1.disable_control_flow_v2)()
        training = v1.placeholder("bool", (), "is_training")
        gamma, beta, mean, variance = variables("bn", 3, resource=True)

        def train() -> Any:
            y, batch_mean, batch_variance = v1.nn.fused_batch_norm(image, gamma, beta)[:3]
            pairs = ((mean, batch_mean), (variance, batch_variance))
            with tf.control_dependencies([v1.assign_sub(one, (one - new) * 0.1) for one, new in pairs]):
                return tf.identity(y)

        def infer() -> Any:
            with v1.colocate_with(image):
                return v1.nn.fused_batch_norm(image, gamma, beta, mean, variance, is_training=False)[0]

        return tf.nn.relu(tf.cond(training, train, infer))

    return build


def loop(*, functional: bool) -> Callable[[Any], Any]:
    """Return a builder of a batch norm inside a while loop, and of one behind it."""

    def build(image: Any) -> Any:
        import tensorflow as tf

        v1 = tf.compat.v1
        (v1.enable_control_flow_v2 if functional else v1.disable_control_flow_v2)()
        inner, outer = variables("inner", 3, resource=True), variables("outer", 3, resource=True)

        def normalised(x: Any, parameters: tuple[Any, Any, Any, Any]) -> Any:
            gamma, beta, mean, variance = parameters
            return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3)

        def body(step: Any, x: Any) -> tuple[Any, Any]:
            return step + 1, tf.tanh(normalised(x, inner))

        _, y = tf.while_loop(lambda step, _: step < 3, body, (tf.constant(0), image))
        return normalised(y, outer)

    return build


def chosen_by_data(image: Any) -> Any:
    """Write a batch norm into a branch that the data chooses."""
    import tensorflow as tf

    tf.compat.v1.enable_control_flow_v2()
    gamma, beta, mean, variance = variables("bn", 3, resource=True)
    return tf.cond(
        tf.reduce_sum(image) > 0,
        lambda: tf.nn.batch_normalization(image, mean, variance, beta, gamma, 1e-3),
        lambda: image,
    )


def by_hand(image: Any) -> Any:
    """Write the arithmetic in orders of its own."""
    import tensorflow as tf

    y = image
    for number, (write, _) in enumerate(BY_HAND):
        y = tf.tanh(write(y, *variables(f"bn{number}", 3)))
    return y


def _rsqrt(value: Any) -> Any:
    import tensorflow as tf

    return tf.math.rsqrt(value)


# Arithmetic on x, gamma, beta, mean and variance, and the epsilon in it.
BY_HAND: tuple[tuple[Callable[[Any, Any, Any, Any, Any], Any], float], ...] = (
    (lambda x, g, b, m, v: (x - m) * _rsqrt(v + 1e-3) * g + b, 1e-3),
    (lambda x, g, b, m, v: g * (x - m) / (v + 1e-4) ** 0.5 + b, 1e-4),
    (lambda x, g, b, m, v: x * (g * _rsqrt(v + 1e-3)) + (b - m * (g * _rsqrt(v + 1e-3))), 1e-3),
    (lambda x, g, b, m, v: g * ((x - m) * (v + 1e-3) ** -0.5) + b, 1e-3),
    (lambda x, g, b, m, v: b + (x - m) * (g / (1e-5 + v) ** 0.5), 1e-5),
)


def wrong(image: Any) -> Any:
    """Write epsilon outside the root, as Darknet does."""
    import tensorflow as tf

    gamma, beta, mean, variance = variables("bn", 3)
    return (image - mean) / (tf.sqrt(variance) + 1e-3) * gamma + beta


def reads_a_file(image: Any) -> Any:
    """Write a batch norm whose input depends on a file of the machine."""
    import tensorflow as tf

    gamma, beta, mean, variance = variables("bn", 3)
    length = tf.strings.length(tf.io.read_file(tf.constant("secret")))
    x = image + 0 * tf.cast(length, "float32")
    return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3)


def random(image: Any) -> Any:
    """Write noise behind a batch norm."""
    import tensorflow as tf

    gamma, beta, mean, variance = variables("bn", 3, resource=True)
    y = tf.nn.batch_normalization(image, mean, variance, beta, gamma, 1e-3)
    return y + tf.random.normal(tf.shape(y))


def partitioned(image: Any) -> Any:
    """Write parameters in two parts each."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with v1.variable_scope("bn", partitioner=v1.fixed_size_partitioner(2), use_resource=False):
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        gamma, beta, mean, variance = (
            tf.convert_to_tensor(v1.get_variable(name, (3,), initializer=v1.random_uniform_initializer(0.1, 2, seed=1)))
            for name in names
        )
    return tf.nn.batch_normalization(image, mean, variance, beta, gamma, 1e-3)


def randomise(layers: Any) -> Iterator[tuple[str, Mapping[str, NDArray[Any]]]]:
    """Give Keras batch-norm layers random parameters; yield the path and what each of them holds then."""
    for path, layer in layers:
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        held = {name: getattr(layer, name) for name in names if getattr(layer, name, None) is not None}
        for name, variable in held.items():
            draw = positive if "variance" in name else normal
            variable.assign(draw(*variable.shape).astype(variable.numpy().dtype))
        yield path, {name: variable.numpy() for name, variable in held.items()}


def keras_model(keras: Any) -> tuple[Any, Truth]:
    """Return a model of either Keras with layers of many kinds side by side, and what they hold."""
    layers = keras.layers
    norm, legacy = layers.BatchNormalization, keras.__name__ == "tf_keras"
    image, row = keras.Input((6, 6, 4), name="image"), keras.Input((5, 4), name="row")
    norms: dict[str, Any] = {
        "last": norm(name="last", epsilon=1e-4, momentum=0.9),
        "first": norm(name="first", axis=1),
        "noscale": norm(name="noscale", scale=False),
        "nocenter": norm(name="nocenter", center=False),
        "mixed": norm(name="mixed", dtype="mixed_float16"),
        "brain": norm(name="brain", dtype="mixed_bfloat16"),
        "shared": norm(name="shared", scale=False),
        "sequence": norm(name="sequence"),
        "steps": norm(name="steps", axis=1),
        "wide": norm(name="wide", dtype="float64"),
    }
    inner = keras.Sequential([keras.Input((6, 6, 4)), norm(name="deep")], name="inner")
    wrapped = norm(name="wrapped")
    if legacy:
        norms["both"] = norm(name="both", axis=[1, 3])
        norms["renorm"] = norm(name="renorm", renorm=True)
        norms["unfused"] = norm(name="unfused", fused=False)
        norms["sync"] = layers.experimental.SyncBatchNormalization(name="sync")
    on_image = [one for name, one in norms.items() if name not in ("shared", "sequence", "steps", "wide")]
    convolved = layers.Conv2D(4, 3, padding="same")(image)
    outputs = [layers.ReLU()(one(convolved)) for one in on_image]
    outputs += [inner(convolved), norms["wide"](convolved)]
    outputs.append(layers.Add()([norms["shared"](convolved), norms["shared"](layers.ReLU()(convolved))]))
    outputs += [norms["sequence"](row), norms["steps"](row), layers.TimeDistributed(wrapped, name="td")(row)]
    # None of these is a batch norm.
    outputs += [layers.LayerNormalization()(row), layers.GroupNormalization(2)(image), layers.UnitNormalization()(row)]
    model = keras.Model([image, row], outputs)
    named = {**norms, "inner/deep": inner.layers[-1], "td/wrapped": wrapped}
    return model, dict(randomise(named.items()))


def hard_wired(keras: Any) -> tuple[Any, Truth]:
    """Return a model that calls one of two layers with training=True."""
    image = keras.Input((5, 5, 3), name="image")
    bad, good = (keras.layers.BatchNormalization(name=name) for name in ("bad", "good"))
    model = keras.Model(image, good(bad(image, training=True)))
    return model, dict(randomise([("bad", bad), ("good", good)]))


def recurrent(keras: Any) -> tuple[Any, Truth]:
    """Return a model with a batch norm in the cell of a recurrent layer."""
    layers = keras.layers

    class Cell(layers.Layer):  # type: ignore[misc,name-defined]  # a class of whichever Keras
        def __init__(self) -> None:
            super().__init__()
            self.state_size = self.output_size = 4
            self.norm = layers.BatchNormalization(name="norm")

        def build(self, shape: tuple[int, ...]) -> None:
            self.norm.build((shape[0], 4))
            self.built = True

        def call(self, x: Any, states: list[Any], training: bool = False) -> tuple[Any, list[Any]]:
            h = self.norm(x + states[0])
            return h, [h]

    row = keras.Input((5, 4), name="row")
    cell, after = Cell(), layers.BatchNormalization(name="after")
    model = keras.Model(row, after(layers.RNN(cell)(row)))
    return model, dict(randomise([("norm", cell.norm), ("after", after)]))


def module() -> Any:
    """Return a tf.Module that normalises, one layer in use and one that is not."""
    import tensorflow as tf

    class Norm(tf.Module):  # type: ignore[misc]  # TensorFlow is untyped
        def __init__(self) -> None:
            super().__init__()
            self.gamma, self.beta = tf.Variable(normal(3)), tf.Variable(normal(3))
            self.moving_mean = tf.Variable(normal(3), trainable=False)
            self.moving_variance = tf.Variable(positive(3), trainable=False)

    class Net(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare = Norm(), Norm()

        @tf.function  # type: ignore[untyped-decorator]
        def __call__(self, x: Any, training: bool = False) -> Any:
            one = self.used
            if training:
                y, mean, variance = tf.compat.v1.nn.fused_batch_norm(x, one.gamma, one.beta)[:3]
                one.moving_mean.assign(mean)
                one.moving_variance.assign(variance)
                return y
            return tf.compat.v1.nn.fused_batch_norm(
                x, one.gamma, one.beta, one.moving_mean, one.moving_variance, is_training=False
            )[0]

    return Net()
