"""Who uses which epsilon, momentum and variance: defaults of frameworks, as read in their sources or measured.

`momentum` is always the share of the old value, `new = momentum * old + (1 - momentum) * batch`, as Keras writes it;
frameworks that write the other share are converted. Layers may be built with other values: these are the defaults.
"""

from __future__ import annotations

from dataclasses import dataclass

from bninspect.records import Estimator

__all__ = ["CLAMP", "CONVENTIONS", "Convention", "Estimator", "with_epsilon"]

CLAMP = 1.001e-5
"""The least epsilon of tf.nn.fused_batch_norm up to TensorFlow 2.11, whatever it was called with."""


@dataclass(frozen=True)
class Convention:
    """What one framework does unless it is told otherwise. None = it has no such setting, or it is not known."""

    framework: str
    epsilon: float | None
    momentum: float | None
    written: str
    """How its own setting for the momentum reads."""
    stored: Estimator | None
    """The variance that goes into the moving variance."""
    single: str
    """What becomes of a batch with one value per channel."""
    source: str


_SAFE = "variance 0"

CONVENTIONS = (
    Convention(
        "Keras 3", 1e-3, 0.99, "momentum=0.99", Estimator.BIASED, _SAFE, "measured, Keras 3.15; sources of 3.0 to 3.15"
    ),
    Convention(
        "tf_keras, fused (4-D and 5-D input)",
        1e-3,
        0.99,
        "momentum=0.99",
        Estimator.UNBIASED,
        "not corrected on the CPU, NaN on a GPU",
        "measured, tf_keras 2.21; tensorflow#34062, tensorflow#55545",
    ),
    Convention(
        "tf_keras, not fused (2-D and 3-D input)",
        1e-3,
        0.99,
        "momentum=0.99",
        Estimator.BIASED,
        _SAFE,
        "measured, tf_keras 2.21",
    ),
    Convention(
        "Keras 2.1.6 to 2.3.1",
        1e-3,
        0.99,
        "momentum=0.99",
        Estimator.OVERCORRECTED,
        _SAFE,
        "keras/layers/normalization.py; keras#10443",
    ),
    Convention(
        "tf.nn.fused_batch_norm",
        1e-3,
        None,
        "exponential_avg_factor=1.0",
        Estimator.UNBIASED,
        "not corrected on the CPU, NaN on a GPU",
        "measured, TensorFlow 2.21. The raw op has epsilon 1e-4 and is_training=True",
    ),
    Convention("TF-Slim", 1e-3, 0.999, "decay=0.999", None, "", "tf_slim/layers/layers.py"),
    Convention(
        "PyTorch",
        1e-5,
        0.9,
        "momentum=0.1",
        Estimator.UNBIASED,
        "refused with an error",
        "measured, torch 2.13; pytorch#106366",
    ),
    Convention(
        "ONNX", 1e-5, 0.9, "momentum=0.9", Estimator.BIASED, _SAFE, "operator BatchNormalization, opset 14 and 15"
    ),
    Convention("Flax", 1e-5, 0.99, "momentum=0.99", Estimator.BIASED, _SAFE, "measured, flax 0.12"),
    Convention("Haiku", 1e-5, None, "decay_rate, no default", Estimator.BIASED, _SAFE, "haiku/_src/batch_norm.py"),
    Convention(
        "MXNet operator (Gluon: epsilon 1e-5)",
        1e-3,
        0.9,
        "momentum=0.9",
        Estimator.BIASED,
        _SAFE,
        "src/operator/nn/batch_norm-inl.h",
    ),
    Convention(
        "Caffe",
        1e-5,
        0.999,
        "moving_average_fraction=0.999",
        Estimator.UNBIASED,
        "not corrected",
        "batch_norm_layer.cpp; mean and variance are stored times a third blob",
    ),
    Convention("Chainer", 2e-5, 0.9, "decay=0.9", Estimator.UNBIASED, "not corrected", "batch_normalization.py"),
    Convention("Lasagne", 1e-4, 0.9, "alpha=0.1", None, "", "lasagne/layers/normalization.py; it stores 1/deviation"),
    Convention(
        "Darknet on the CPU",
        1e-6,
        0.99,
        "rolling average .99",
        Estimator.UNBIASED,
        "divides by zero",
        "src/blas.c: epsilon stands outside the square root",
    ),
)
"""The table that `bninspect explain` prints of what each framework stores."""

_EPSILON_ONLY = {
    "Darknet on a GPU": 1e-5,
    "CoreML": 1e-5,
    "the raw TensorFlow op FusedBatchNorm": 1e-4,
    "keras.applications ResNet and DenseNet": CLAMP,
    "TF.js": 1e-3,
    "Keras 1.0": 1e-6,
    "Keras 1.1": 1e-5,
}


def with_epsilon(value: float) -> tuple[str, ...]:
    """Return whose default epsilon `value` is, the best known first."""
    known = [(one.framework.partition(",")[0].partition(" (")[0], one.epsilon) for one in CONVENTIONS]
    return tuple(dict.fromkeys(name for name, epsilon in [*known, *_EPSILON_ONLY.items()] if epsilon == value))
