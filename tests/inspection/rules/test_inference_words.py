"""The hint of BN123 speaks the words of the framework that wrote the file."""

from __future__ import annotations

import pytest

from bninspect.inspection import rules
from bninspect.inspection.rules import inference_words
from bninspect.records import BatchNorm, Statistics


@pytest.mark.parametrize(
    ("writer", "class_name", "words"),
    [
        ("pytorch 2.13.0", "BatchNormalization", "model.eval(), and not track_running_stats=False"),
        ("torch.export", "rsqrt", "model.eval(), and not track_running_stats=False"),
        ("", "_native_batch_norm_legit", "model.eval(), and not track_running_stats=False"),
        ("", "BatchNorm2d", "model.eval(), and not track_running_stats=False"),
        ("tf2onnx 1.17.0", "ReduceMean+Sqrt", "training=False"),
        ("Keras 2.4.0", "BatchNormalization", "training=False"),
        ("TensorFlow's converter", "MEAN+RSQRT", "training=False"),
        ("TensorFlow 2.21.0", "", "training=False"),
        ("TensorFlow 1.15.0", "", "training=False, in TF-Slim is_training=False"),
        ("Keras 1.2.2 (TensorFlow)", "BatchNormalization", "mode=0"),
        ("PaddlePaddle", "BatchNormalization", "model.eval(), and not use_global_stats=False"),
        ("", "", "training=False"),
        (
            "onnx-example",
            "BatchNormalization",
            "training=False in Keras; in PyTorch model.eval(), and not track_running_stats=False",
        ),
    ],
)
def test_the_hint_speaks_the_words_of_the_framework(writer: str, class_name: str, words: str) -> None:
    hint = f"build or export it for inference: {words}"
    assert inference_words.hint(writer, class_name) == hint
    layer = BatchNorm("bn", None, None, None, None, class_name=class_name, statistics=Statistics.BATCH)
    assert [one.hint for one in rules.check(layer, writer) if one.rule == "BN123"] == [hint]
