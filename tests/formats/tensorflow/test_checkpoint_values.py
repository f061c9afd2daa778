"""Every tensor of every checkpoint, bit for bit as TensorFlow reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bninspect.formats.tensorflow import tensor
from bninspect.formats.tensorflow.checkpoint_v1 import SliceFile
from bninspect.formats.tensorflow.checkpoint_v2 import Bundle

pytestmark = pytest.mark.tensorflow

CHECKPOINTS = [
    "checkpoint/k3_obj",
    "checkpoint/tfk_w",
    "mlperf-tiny/kws_ref_model/variables/variables",
    *(f"saved-model/{name}/variables/variables" for name in ("k3_nested", "k3_noscale", "module_fused")),
    *(f"saved-model/{name}/variables/variables" for name in ("tfk_nested", "tfk_noscale")),
    *(f"tf1/ckpt_{name}/model.ckpt" for name in ("manual", "layers_infer")),
    *(f"tf1/{name}/variables/variables" for name in ("manual", "layers_infer")),
    "wild/phasenet/model_95.ckpt",
    "wild/ferapi/emotion_savedmodel/variables/variables",
]


def test_the_list_is_complete(shared_models: Path) -> None:
    found = {str(path.relative_to(shared_models))[: -len(".index")] for path in shared_models.rglob("*.index")}
    assert found == set(CHECKPOINTS)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_real_checkpoints(shared_models: Path, name: str) -> None:
    assert _compared(shared_models / name) > 5


def _compared(prefix: Path) -> int:
    import tensorflow as tf

    truth = tf.train.load_checkpoint(str(prefix))
    shapes = truth.get_variable_to_shape_map()
    with Bundle(prefix) as bundle:
        assert set(bundle.entries) == set(shapes)
        for name, found in bundle.entries.items():
            expected = truth.get_tensor(name)
            if found.dtype == tensor.STRING:
                assert bundle.strings(name) == ([expected] if isinstance(expected, bytes) else list(expected.ravel()))
            else:
                _same(bundle.read(name), np.asarray(expected))
    return len(shapes)


def _same(found: Any, expected: Any) -> None:
    if expected.dtype.name == "bfloat16":
        expected = expected.astype(np.float32)
    assert (found.dtype, found.shape, found.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())


def test_every_type_that_tensorflow_writes(tmp_path: Path) -> None:
    import tensorflow as tf

    generator = np.random.default_rng(3)
    bits = generator.integers(0, 2**63, 40)
    numbers = ["float16", "bfloat16", "float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32"]
    variables = {
        dtype: tf.Variable(tf.cast(tf.constant(generator.standard_normal((5, 8)) * 50), dtype), name=dtype)
        for dtype in (*numbers, "int64", "uint64", "complex64", "complex128")
    }
    variables["bool"] = tf.Variable(bits % 2 == 0)
    variables["text"] = tf.Variable(["", "a", "é" * 300])
    variables["scalar"] = tf.Variable(3.5)
    # Long enough for the checksum in lanes, and for several blocks of the index.
    variables["long"] = tf.Variable(generator.standard_normal(50_001), dtype="float32")
    variables |= {f"v{number}": tf.Variable(float(number)) for number in range(300)}
    prefix = tf.train.Checkpoint(**variables).write(str(tmp_path / "ck"))
    assert _compared(Path(prefix)) >= 318


@pytest.mark.parametrize("axis", [0, 1])
def test_partitioned_variables_are_put_together(tmp_path: Path, axis: int) -> None:
    expected = _partitioned(tmp_path / "ck", axis, version=2)
    with Bundle(tmp_path / "ck") as bundle:
        for name, values in expected.items():
            assert len(bundle.entries[name].slices) == 3
            _same(bundle.read(name), values)


def test_version_1(tmp_path: Path) -> None:
    import tensorflow as tf

    expected = _partitioned(tmp_path / "ck", None, version=1)
    truth = tf.train.load_checkpoint(str(tmp_path / "ck"))
    with SliceFile(tmp_path / "ck") as slices:
        assert set(slices.entries) == set(truth.get_variable_to_shape_map()) == set(expected)
        for name in expected:
            _same(slices.read(name), truth.get_tensor(name))
            _same(slices.read(name), expected[name])


def test_version_1_in_partitions(tmp_path: Path) -> None:
    # TensorFlow 2 no longer returns these itself, but its Saver still restores them.
    expected = _partitioned(tmp_path / "ck", 0, version=1)
    with SliceFile(tmp_path / "ck") as slices:
        for name, values in expected.items():
            _same(slices.read(name), values)


def _partitioned(prefix: Path, axis: int | None, version: int) -> dict[str, Any]:
    """Write a checkpoint by TF1's Saver, in three parts along an axis, and return what TensorFlow holds."""
    import tensorflow as tf

    v1 = tf.compat.v1
    partitioner = None if axis is None else v1.fixed_size_partitioner(3, axis=axis)
    with tf.Graph().as_default(), v1.Session() as session:
        with v1.variable_scope("bn", partitioner=partitioner, use_resource=False):
            wholes = {
                f"bn/{dtype}": tf.convert_to_tensor(
                    v1.get_variable(dtype, (200, 7), dtype, v1.random_normal_initializer(0, 30, seed=5, dtype=dtype))
                    if dtype.startswith("float")
                    else v1.get_variable(dtype, (200, 7), dtype, v1.random_uniform_initializer(-99, 99, 5, dtype))
                )
                for dtype in ("float32", "float64", "int32", "int64")
            }
        session.run(v1.global_variables_initializer())
        v1.train.Saver(write_version=version).save(session, str(prefix), write_state=False, write_meta_graph=False)
        values: dict[str, Any] = session.run(wholes)
        return values
