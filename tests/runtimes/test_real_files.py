"""Files that real frameworks of the last ten years wrote, run by those of today.

Beside each file lies what the framework that wrote it computed: an input `x` and the model's output `y`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.watching import assert_all_verified, watch

from bninspect import formats, runtimes
from bninspect.errors import RuntimeFailure
from bninspect.records import Checkpoint, Evidence
from bninspect.runtimes import loading
from bninspect.runtimes.keras import keras3, tf_keras
from bninspect.runtimes.runtime import RunSettings

OLD, NEW = "tf-keras", "keras"
NAMES = ("simple", "seq", "nested", "noscale")
ENDINGS = (".h5", ".keras")
FILES = {
    **{f"{writer}/{name}.h5": OLD for writer in ("k225", "tf115", "tf23", "tfk221") for name in NAMES},
    **{f"tfk221/{name}.keras": OLD for name in NAMES},
    # Keras 3.0.5 left its nested.h5 half-written.
    **{f"k30/{name}{ending}": NEW for name in NAMES if name != "nested" for ending in ENDINGS},
    **{f"k315/{name}{ending}": NEW for name in NAMES for ending in ENDINGS},
    "tfk2.12.1.keras": OLD,
    **{f"v{version}{ending}": NEW for version in ("3.0.5", "3.3.3", "3.9.2") for ending in ENDINGS},
}
LAYERS = {"simple": 2, "seq": 2, "nested": 7, "noscale": 3}


pytestmark = [pytest.mark.tensorflow, pytest.mark.usefixtures("prepared")]


def _read(shared_models: Path, name: str) -> Checkpoint:
    return formats.read(shared_models / name)


@pytest.mark.parametrize("name", FILES)
def test_every_layer_of_every_loadable_file(shared_models: Path, name: str) -> None:
    checkpoint = _read(shared_models, f"writers/{name}")
    watched = watch(checkpoint, batch=2)
    assert watched.run.runtime.rpartition(" ")[0] == FILES[name]
    assert len(checkpoint.layers) == LAYERS.get(Path(name).stem, len(checkpoint.layers)) > 0
    assert_all_verified(checkpoint, watched)


@pytest.mark.parametrize("name", [name for name in FILES if name.count("/")])
def test_what_was_loaded_is_the_model_that_was_saved(shared_models: Path, name: str) -> None:
    """The loaded model gives the output that the writer recorded."""
    checkpoint = _read(shared_models, f"writers/{name}")
    (runtime, *_) = runtimes.choose(checkpoint)
    framework = (keras3 if runtime.name == NEW else tf_keras).framework()
    stem = Path(name).stem
    with np.load(shared_models / "writers" / Path(name).with_name(f"{stem}_io.npz")) as recorded:
        x, y = recorded["x"], recorded["y"]
    with loading.quiet():
        model, notes = framework.load(checkpoint, RunSettings())
        assert np.asarray(model(x, training=False)) == pytest.approx(y, abs=1e-4)
    assert notes == ()


@pytest.mark.parametrize("name", [name for name in FILES if FILES[name] == OLD and name.endswith(".h5")])
def test_keras_3_alone_runs_the_files_of_keras_2_too(shared_models: Path, name: str) -> None:
    checkpoint = _read(shared_models, f"writers/{name}")
    watched = watch(checkpoint, runtime=NEW)
    assert_all_verified(checkpoint, watched)


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("face-classification/fer2013_mini_XCEPTION.102-0.66.hdf5", 14),
        ("mlperf-tiny/pretrainedResnet.h5", 7),
    ],
)
def test_published_models(shared_models: Path, name: str, layers: int) -> None:
    checkpoint = _read(shared_models, name)
    assert len(checkpoint.layers) == layers
    assert_all_verified(checkpoint, watch(checkpoint))


@pytest.mark.parametrize("name", ["simple", "seq", "nested", "mode0"])
def test_keras_1_is_loaded_by_nobody(shared_models: Path, name: str) -> None:
    checkpoint = _read(shared_models, f"writers/k122/{name}.h5")
    for runtime in (runtimes.KERAS, runtimes.TF_KERAS):
        with pytest.raises(RuntimeFailure, match="cannot load the file"):
            runtime.observe(checkpoint, RunSettings(), lambda: print)
    watched = watch(checkpoint)
    assert watched.run.reason == "neither Keras 3 nor tf-keras loads files of Keras 1"
    assert_all_verified(checkpoint, watched, Evidence.LAYER)


@pytest.mark.parametrize("name", ["k225/simple_w.h5", "k315/simple.weights.h5", "v3.3.3.weights.h5"])
def test_weights_alone_lack_epsilon(shared_models: Path, name: str) -> None:
    checkpoint = _read(shared_models, f"writers/{name}")
    watched = watch(checkpoint)
    assert (watched.run.evidence, watched.run.reason) == (Evidence.LAYER, "the file holds only weights")
    assert watched.observations == ()
    assert set(watched.run.unobserved) == {layer.name for layer in checkpoint.layers}
