"""How to have a layer use its moving statistics, in the words of the framework that it was written in."""

from __future__ import annotations

import re
from collections.abc import Mapping

_TORCH = "model.eval(), and not track_running_stats=False"
_KERAS = "training=False"
_WORDS: Mapping[str, str] = {
    r"keras 1\b": "mode=0",
    r"tensorflow 1\b": "training=False, in TF-Slim is_training=False",
    r"torch": _TORCH,
    r"paddle": "model.eval(), and not use_global_stats=False",
    r"mxnet": "training=False, and use_global_stats=True of a layer that stays in training",
    r"flax|jax": "use_running_average=True",
    r"caffe": "is_test=1 in Caffe2, use_global_stats: true in Caffe",
    r"keras|tensorflow|tf2onnx|tflite": _KERAS,
}
"""By what the writer of a file calls itself, the narrower first."""
_OF_TORCH = re.compile(r"[a-z_]|(Sync|Lazy)?BatchNorm(\dd)?$")
_OF_KERAS = re.compile(r"$|.*(BatchNormalizationV[12]|SyncBatchNormalization)$")


def hint(writer: str, class_name: str) -> str:
    """Return the hint.

    Args:
        writer: what wrote the file, as the file has it; may be empty.
        class_name: what the file calls the layer, which tells where the writer does not.
    """
    stated = [words for pattern, words in _WORDS.items() if re.search(pattern, writer.lower())]
    if stated:
        words = stated[0]
    elif _OF_TORCH.match(class_name):
        words = _TORCH
    elif _OF_KERAS.match(class_name):
        words = _KERAS
    else:
        words = f"{_KERAS} in Keras; in PyTorch {_TORCH}"
    return f"build or export it for inference: {words}"
