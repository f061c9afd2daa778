"""Published and old models, read without TensorFlow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bninspect import formats
from bninspect.errors import UnknownFormat
from bninspect.formats.tensorflow.checkpoint_v2 import Bundle
from bninspect.records import BatchNorm

PARAMETERS = ("gamma", "beta", "moving_mean", "moving_variance")


def layers(path: Path) -> dict[str, BatchNorm]:
    checkpoint = formats.read(path)
    assert checkpoint.architecture is None
    assert checkpoint.code == ()
    return {layer.name: layer for layer in checkpoint.layers}


def test_keywords_of_mlperf_tiny(shared_models: Path) -> None:
    folder = shared_models / "mlperf-tiny" / "kws_ref_model"
    found = layers(folder)
    names = [f"batch_normalization{'' if number == 0 else f'_{number}'}" for number in range(9)]
    assert list(found) == names
    # Every second layer with weights is one; the checkpoint counts them from 0.
    with Bundle(folder / "variables" / "variables") as bundle:
        for number, layer in enumerate(found.values()):
            assert (layer.epsilon, layer.momentum, layer.axis, layer.channels) == (0.001, 0.99, (3,), 64)
            assert layer.location == f"layer_with_weights-{2 * number + 1}"
            for name in PARAMETERS:
                expected = bundle.read(f"{layer.location}/{name}/.ATTRIBUTES/VARIABLE_VALUE")
                assert getattr(layer, name).tobytes() == expected.tobytes()
    assert formats.read(folder).writer == "TensorFlow 2.3.2"


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("tfk_nested", True),
        ("k3_nested", False),
    ],
)
def test_nested_models(shared_models: Path, name: str, paths: bool) -> None:
    # Keras 2 wrote the tree of layers, Keras 3 does not; variables have the layers' own names in both.
    expected = [
        "first/batch_normalization_6",
        "first/batch_normalization_7",
        "mid/sq/batch_normalization_3",
        "mid/deep/batch_normalization_4",
        "mid/deep/batch_normalization_5",
        "mid/midbn",
        "top",
    ]
    found = layers(shared_models / "saved-model" / name)
    assert list(found) == (expected if paths else [one.rpartition("/")[2] for one in expected])
    assert {layer.epsilon for layer in found.values()} == {0.001}


@pytest.mark.parametrize("name", ["tfk_noscale", "k3_noscale"])
def test_what_a_layer_has_none_of_is_none(shared_models: Path, name: str) -> None:
    found = layers(shared_models / "saved-model" / name)
    assert {name: (layer.gamma is None, layer.beta is None) for name, layer in found.items()} == {
        "noscale": (True, False),
        "nocenter": (False, True),
        "neither": (True, True),
    }
    assert all(
        (layer.scale, layer.center) == (layer.gamma is not None, layer.beta is not None) for layer in found.values()
    )


def test_a_module_with_formulas_of_its_own(shared_models: Path) -> None:
    found = layers(shared_models / "saved-model" / "module_fused")
    assert sorted(layer.epsilon or 0 for layer in found.values()) == [1e-6, 1e-5, 2e-3, 3e-3]


def test_tf1_by_every_road(shared_models: Path) -> None:
    folder = shared_models / "tf1"
    roads = [folder / name for name in ("manual", "manual/saved_model.pb", "ckpt_manual", "ckpt_manual/model.ckpt")]
    first, *others = ([*layers(road).values()] for road in roads)
    (layer,) = first
    assert layer.epsilon == 1e-4
    for (other,) in others:
        assert other.epsilon == layer.epsilon
        for name in PARAMETERS:
            assert getattr(other, name).tobytes() == getattr(layer, name).tobytes()


def test_a_frozen_graph(shared_models: Path) -> None:
    (layer,) = layers(shared_models / "tf1" / "frozen_manual.pb").values()
    assert (layer.name, layer.epsilon, layer.location) == ("batchnorm", 1e-4, "gamma, beta, pop_mean, pop_variance")
    assert all(getattr(layer, name).shape == (4,) for name in PARAMETERS)


def test_tf1_layers(shared_models: Path) -> None:
    for name in ("layers_infer", "ckpt_layers_infer"):
        found = layers(shared_models / "tf1" / name)
        # The first is fused, with the epsilon to which old TensorFlow raised smaller ones; the second is spelt out.
        assert {name: layer.epsilon for name, layer in found.items()} == {"bn1": 1.001e-5, "bn2": 1e-3}


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("k3_obj", "model/_operations/1/_operations/1", "model/_operations/3"),
        ("tfk_w", "layer_with_weights-0/layer_with_weights-0", "layer_with_weights-2"),
    ],
)
def test_object_based_checkpoints(shared_models: Path, name: str, first: str, last: str) -> None:
    found = layers(shared_models / "checkpoint" / name)
    assert (len(found), next(iter(found)), list(found)[-1]) == (7, first, last)
    assert all((layer.epsilon, layer.axis, layer.momentum) == (None, None, None) for layer in found.values())
    assert all(np.isfinite(getattr(layer, name)).all() for layer in found.values() for name in PARAMETERS)


def test_a_folder_with_two_checkpoints_is_none(shared_models: Path) -> None:
    with pytest.raises(UnknownFormat, match="a folder with TensorFlow checkpoints"):
        formats.read(shared_models / "checkpoint")


def test_reading_does_without_tensorflow(shared_models: Path) -> None:
    script = (
        "import sys; sys.modules.update(dict.fromkeys(['tensorflow', 'keras', 'tf_keras', 'google.protobuf']));"
        "from pathlib import Path; from bninspect import formats;"
        "print([len(formats.read(Path(path)).layers) for path in sys.argv[1:]])"
    )
    names = ["mlperf-tiny/kws_ref_model", "saved-model/k3_nested", "tf1/frozen_manual.pb", "tf1/ckpt_layers_infer"]
    arguments = [sys.executable, "-c", script, *(str(shared_models / name) for name in names)]
    root = Path(formats.__file__).parents[2]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(root)})
    assert done.stdout.strip() == "[9, 7, 1, 2]"


@pytest.mark.parametrize("name", ["k3_noscale", "tfk_noscale"])
def test_the_variables_of_a_saved_model_say_where_its_graph_is(shared_models: Path, name: str) -> None:
    folder = shared_models / "saved-model" / name
    for path in (folder / "variables", folder / "variables" / "variables.index"):
        (note,) = formats.read(path).notes
        assert note.endswith(f"name {folder}")
    assert not formats.read(shared_models / "checkpoint" / "tfk_w.index").notes
