"""The assertion for people's tests: the verdict and the words of the command line, for files and for live models."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.running import bninspect
from helpers.watching import randomise

from bninspect import errors
from bninspect.jobs.data import drift, recalibrate
from bninspect.records import Evidence, LayerStatus
from bninspect.runtimes import loading
from bninspect.settings import EpsilonRule, Settings
from bninspect.testing import _settings, assert_batchnorm_close

needs_tensorflow = pytest.mark.tensorflow


@pytest.fixture(params=["keras", "tf_keras"])
def k(request: pytest.FixtureRequest) -> Any:
    """Keras 3 and tf-keras, each in its turn."""
    return loading.framework(request.param)


def _model(k: Any, *, variance: float = 0.5) -> Any:
    bn = k.layers.BatchNormalization(name="bn")
    model = k.Sequential([k.layers.Input((3,)), k.layers.Dense(4), bn], name="small")
    randomise({"bn": bn})
    values = bn.moving_variance.numpy()
    values[1] = variance
    bn.moving_variance.assign(values)
    return model


def _own(k: Any) -> Any:
    """A model with a class of this file."""

    class Own(k.layers.BatchNormalization):  # type: ignore[misc]
        pass

    bn = Own(name="own")
    model = k.Sequential([k.layers.Input((4,)), k.layers.BatchNormalization(name="plain"), bn], name="mine")
    randomise({"plain": model.layers[0], "own": bn})
    return model


@needs_tensorflow
def test_a_failing_file_fails_in_the_words_of_the_command_line(sample_models: Path) -> None:
    path = sample_models / "broken_negative_variance.h5"
    said = bninspect("verify", path)
    with pytest.raises(AssertionError) as failure:
        assert_batchnorm_close(path)
    assert said.returncode == 1
    assert str(failure.value) == "\n" + said.stdout.rstrip()
    assert "FAIL  batch_normalization_1   64 of 768 values in the model are not finite" in str(failure.value)


def test_what_cannot_be_read_fails(sample_models: Path) -> None:
    with pytest.raises(AssertionError, match=r"\nERROR .*broken_truncated\.h5 is truncated\n +why: .*\n +hint: "):
        assert_batchnorm_close(str(sample_models / "broken_truncated.h5"))


@needs_tensorflow
def test_a_live_model_is_verified_as_the_file_that_it_becomes(k: Any) -> None:
    model = _model(k)
    before = model.get_weights()
    report = assert_batchnorm_close(model, input=np.full((2, 3), 0.25, np.float32))
    (found,) = report.models
    (layer,) = found.layers
    assert (found.path, found.format, found.evidence) == ("small", "keras-zip", Evidence.MODEL)
    assert (layer.name, layer.status) == ("bn", LayerStatus.VERIFIED)
    # Two samples of four channels: the input was the given one.
    assert {one.observed: one.elements for one in layer.comparisons}["in-model"] == 8
    assert not any("this process" in note for note in found.notes)
    assert all(np.array_equal(one, other) for one, other in zip(model.get_weights(), before, strict=True))


@needs_tensorflow
def test_a_live_model_with_a_wrong_variance_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    keras = loading.framework("keras")
    model = _model(keras, variance=-0.5)
    # Run here, which is quicker: the words are the same.
    monkeypatch.setattr("bninspect.jobs.live_model._not_saved", lambda *_: "a test wants it here")
    with pytest.raises(AssertionError) as failure:
        assert_batchnorm_close(model)
    lines = str(failure.value).splitlines()
    assert any(line.startswith("FAIL  bn ") and line.endswith("are not finite, channel 1") for line in lines)
    assert any(line.startswith("error   BN102 bn: ") for line in lines)
    assert any(line.endswith("notes: run in this process: a test wants it here") for line in lines)


@needs_tensorflow
def test_classes_of_ones_own_are_run_where_they_are_known(k: Any) -> None:
    model = _own(k)
    call = k.layers.BatchNormalization.call
    (found,) = assert_batchnorm_close(model).models
    assert [layer.name for layer in found.layers] == ["plain", "own"]
    assert {layer.status for layer in found.layers} == {LayerStatus.VERIFIED}
    assert found.notes[0].startswith("run in this process: ")
    assert "Own" in found.notes[0]
    assert k.layers.BatchNormalization.call is call


@needs_tensorflow
def test_a_wrong_framework_is_found_out_with_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    keras = loading.framework("keras")
    right = keras.layers.BatchNormalization.call

    def call(self: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        if self.name == "plain":
            return right(self, inputs, training, mask)
        return self.gamma * ((inputs - self.moving_mean) / (self.moving_variance**0.5 + self.epsilon)) + self.beta

    model = _own(keras)
    monkeypatch.setattr(keras.layers.BatchNormalization, "call", call)
    with pytest.raises(AssertionError, match="epsilon added outside the square root") as failure:
        assert_batchnorm_close(model)
    assert "FAIL  1 of 2 layers equal" in str(failure.value)
    assert "FAIL  own " in str(failure.value)


@needs_tensorflow
def test_a_model_that_cannot_be_saved_is_run_here_and_left_as_it_was(k: Any) -> None:
    class Unsaved(k.layers.Layer):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            return inputs

        def get_config(self) -> Any:
            raise NotImplementedError("no configuration")

    layers = [k.layers.LSTM(3, stateful=True), Unsaved(), k.layers.BatchNormalization()]
    model = k.Sequential([k.layers.Input(batch_shape=(2, 5, 4)), *layers])
    model(np.ones((2, 5, 4), np.float32))
    before = [variable.numpy() for variable in (*model.variables, *layers[0].states)]
    (found,) = assert_batchnorm_close(model).models
    assert "it cannot be saved: " in found.notes[0]
    # Nor did the two states of the LSTM move, which the forward pass writes to.
    after = [variable.numpy() for variable in (*model.variables, *layers[0].states)]
    assert len(after) >= 9
    assert all(np.array_equal(one, other) for one, other in zip(after, before, strict=True))


@needs_tensorflow
def test_subclassed_models_run_on_the_shape_that_they_were_built_for(k: Any) -> None:
    class Subclassed(k.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.norm = k.layers.BatchNormalization()

        def call(self, inputs: Any, training: Any = None) -> Any:
            return self.norm(inputs, training=training)

    model = Subclassed()
    with pytest.raises(errors.UsageError, match="is not built"):
        assert_batchnorm_close(model)
    model(np.ones((2, 5), np.float32))
    (found,) = assert_batchnorm_close(model).models
    assert found.notes[0].startswith("run in this process: Subclassed")


@needs_tensorflow
def test_a_batch_norm_without_parameters_is_no_success() -> None:
    keras = loading.framework("keras")

    class Sparing(keras.Model):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__(name="sparing")
            self.norm = keras.layers.BatchNormalization()
            self.spare = keras.layers.BatchNormalization(name="spare")

        def build(self, shape: Any) -> None:
            self.norm.build(shape)

        def call(self, inputs: Any) -> Any:
            return self.norm(inputs)

    model = Sparing()
    model(np.ones((2, 5), np.float32))
    with pytest.raises(errors.UsageError, match="sparing is not built") as error:
        assert_batchnorm_close(model)
    assert error.value.why == "spare has no parameters yet"


@needs_tensorflow
def test_a_live_model_without_batch_norm_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    keras = loading.framework("keras")
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(4)])
    monkeypatch.setattr("bninspect.jobs.live_model._not_saved", lambda *_: "a test wants it here")
    with pytest.raises(AssertionError, match="no batch-norm layer"):
        assert_batchnorm_close(model)
    assert_batchnorm_close(model, allow_empty=True)


@needs_tensorflow
def test_patterns_choose_layers_of_a_live_model() -> None:
    model = _own(loading.framework("keras"))
    (found,) = assert_batchnorm_close(model, layers="pl*").models
    assert [layer.name for layer in found.layers] == ["plain"]
    with pytest.raises(errors.UsageError, match="no layer fits"):
        assert_batchnorm_close(model, layers="other*")


def test_other_objects_are_refused() -> None:
    with pytest.raises(errors.UsageError, match=r"^list is neither a path nor a model of Keras 3 or tf_keras$"):
        assert_batchnorm_close([1, 2])
    torch = pytest.importorskip("torch")
    for use in (drift, partial(recalibrate, output="out.pt2")):
        with pytest.raises(errors.UsageError) as caught:
            use(torch.nn.Linear(2, 2), np.ones((3, 2)))
        assert "torch.export.save(" in caught.value.hint


def test_options_are_those_of_the_settings_and_a_typo_is_helped() -> None:
    with pytest.raises(TypeError, match="no option 'layer'; did you mean 'layers'"):
        assert_batchnorm_close("model.h5", layer="x")
    with pytest.raises(TypeError, match="rtol and atol go together"):
        assert_batchnorm_close("model.h5", rtol=1e-5)
    given = Settings(seed=3, layers=("a", "b"))
    with _settings(given, {"epsilon": 1, "layers": "head*", "accept": ("layer",)}) as chosen:
        assert chosen == Settings(seed=3, layers=("head*",), accept=("layer",), epsilon=(EpsilonRule("*", 1.0),))


def test_inputs_become_a_file_under_their_names() -> None:
    first, second = np.arange(3.0), np.ones((1, 2), np.float32)
    with _settings(Settings(), {"input": {"file": first, "b": second}}) as chosen:
        assert chosen.input is not None
        with np.load(chosen.input) as written:
            assert set(written) == {"file", "b"}
            assert np.array_equal(written["file"], first)
            assert written["b"].dtype == np.float32
    assert not Path(chosen.input).exists()
