"""`drift` on nets that were trained here, on data as it was in training and on data that is prepared otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.trained_nets import Trained, digits_net

import bninspect
from bninspect.records import Array, LayerStatus, ModelReport
from bninspect.settings import Settings

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return digits_net(tmp_path_factory.mktemp("net"))


def drift(net: Trained, data: Any, **options: Any) -> ModelReport:
    (model,) = bninspect.drift(net.path, data, Settings(**options)).models
    return model


@pytest.mark.parametrize("part", ["training data", "a tenth of it", "data that it never saw"])
def test_data_of_the_training_fits(net: Trained, part: str) -> None:
    chosen = {"training data": net.seen, "a tenth of it": net.seen[::10], "data that it never saw": net.unseen}[part]
    model = drift(net, chosen)
    assert [layer.status for layer in model.layers] == [LayerStatus.VERIFIED] * 3
    assert model.data is not None
    assert model.data.samples == len(chosen)


CHANGES: dict[str, tuple[str, Callable[[Array], Array]]] = {
    "0..255": ("the data is 0..255; the model was trained on 0..1", lambda x: x * 255),
    "-1..1": ("the data is -1..1; the model was trained on 0..1", lambda x: x * 2 - 1),
    "inverted": ("the data is inverted; the model was trained on its negative", lambda x: 1 - x),
    "0..16": ("the data is 0..16; the model was trained on 0..1", lambda x: x * 16),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_input_is_found_and_named_first(net: Trained, change: str) -> None:
    sentence, apply = CHANGES[change]
    model = drift(net, apply(net.unseen).astype(np.float32))
    assert model.data is not None
    assert model.data.first == model.layers[0].name
    assert model.data.changes[0].sentence == sentence
    assert len(model.data.changes[0].explains) == 3
    assert model.layers[1].fit is not None
    assert model.layers[1].fit.inherited == model.layers[0].name


def test_statistics_that_lag_behind_their_weights_are_blamed_on_no_change_of_the_input(net: Trained) -> None:
    model = drift(net, net.unseen, max_effect=0.0)
    assert model.data is not None
    assert model.data.first
    assert model.data.changes == ()
    assert model.data.tried > 20
    finding = next(one for layer in model.layers for one in layer.findings if one.rule == "BN501")
    assert "lag behind the weights" in finding.hint


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_statistics_made_with_dropout_fit_with_it_and_the_same_every_time(tmp_path: Path) -> None:
    import keras

    # Half of the values are 0, the others twice as large: of mean 1 and variance 1 the variance becomes 2 * 2 - 1.
    stored = {"moving_mean_initializer": "ones", "moving_variance_initializer": keras.initializers.Constant(3.0)}
    norm = keras.layers.BatchNormalization(**stored)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dropout(0.5), norm])
    model.save(tmp_path / "noisy.keras")
    x = np.random.default_rng(0).normal(1, 1, (600, 8)).astype(np.float32)
    first, again = (bninspect.drift(tmp_path / "noisy.keras", x).models[0] for _ in range(2))
    (layer,) = first.layers
    assert layer.status is LayerStatus.VERIFIED
    assert [finding.rule for finding in layer.findings] == ["BN504"]
    assert layer == again.layers[0]


def test_too_little_data_is_no_pass_and_says_how_much_is_needed(net: Trained) -> None:
    model = drift(net, net.unseen[:4])
    assert {layer.status for layer in model.layers} == {LayerStatus.UNVERIFIED}
    assert all(layer.fit is not None and layer.fit.needed > 4 for layer in model.layers)
    assert bninspect.drift(net.path, net.unseen[:1]).summary.exit_code == 3


def test_the_order_and_the_batch_size_change_no_figure(net: Trained, tmp_path: Path) -> None:
    first = drift(net, net.unseen)
    other = drift(net, net.unseen[::-1], batch_size=32)
    for one, two in zip(first.layers, other.layers, strict=True):
        assert one.fit is not None
        assert two.fit is not None
        assert one.fit.mean.measured == pytest.approx(two.fit.mean.measured, rel=1e-12)


def test_batches_with_labels_are_data_too(net: Trained) -> None:
    labels = np.zeros(len(net.unseen))
    batches = ((net.unseen[i : i + 50], labels[i : i + 50]) for i in range(0, len(net.unseen), 50))
    whole = drift(net, net.unseen)
    assert drift(net, batches).layers == whole.layers


def test_records_of_tensorflow_are_read_as_it_wrote_them(tmp_path: Path) -> None:
    import tensorflow as tf

    from bninspect.errors import UnreadableFile
    from bninspect.runtimes.runtime import Input
    from bninspect.statistics.data.open import opened

    x = np.random.default_rng(0).standard_normal((9, 2, 3)).astype(np.float32)
    with tf.io.TFRecordWriter(str(tmp_path / "x.tfrecord")) as writer:
        for number, sample in enumerate(x):
            features = {
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[number])),
                "pixels": tf.train.Feature(float_list=tf.train.FloatList(value=sample.ravel())),
                "name": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"a"])),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    with opened(tmp_path / "x.tfrecord", (Input("input", (None, 2, 3), "float32"),)) as data:
        assert data.count == 9
        assert np.array_equal(data.read([8, 0, 3])["input"], x[[8, 0, 3]])
    with opened(tmp_path / "x.tfrecord", (Input("label", (None, 1), "int64"),)) as data:
        assert data.read([5])["label"].tolist() == [[5]]
    content = (tmp_path / "x.tfrecord").read_bytes()
    (tmp_path / "cut.tfrecord").write_bytes(content[:-7])
    with (
        pytest.raises(UnreadableFile, match="damaged"),
        opened(tmp_path / "cut.tfrecord", (Input("input", (None, 2, 3), "float32"),)),
    ):
        pass
