"""Files that TensorFlow made, read without it and run in it: each layer is verified, or it is said why not.

The truth is what the framework held when it saved; nothing here compares bninspect with itself.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import tensorflow_models as models
from helpers.tensorflow_models import Tf1, Truth

from bninspect import formats, runtimes
from bninspect.errors import UnreadableFile, UsageError
from bninspect.records import Checkpoint, Evidence, LayerReport, LayerStatus, Observation, Run, Statistics
from bninspect.runtimes import RunSettings
from bninspect.runtimes.tensorflow import run as savedmodel
from bninspect.settings import EpsilonRule, Settings
from bninspect.verdicts import verify_task

pytestmark = pytest.mark.tensorflow

IMAGE = (None, 5, 5, 3)


@pytest.fixture(autouse=True)
def _quiet(prepared: None) -> Iterator[None]:
    """TF1's interfaces warn that they are old; control flow is as TensorFlow 2 has it afterwards."""
    import tensorflow as tf

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    tf.compat.v1.enable_control_flow_v2()


def verified(path: Path, **options: Any) -> tuple[Mapping[str, LayerReport], Any]:
    """Verify a file as the command does; return its layers by name, and the report of the model."""
    model = verify_task.verify_checkpoint(formats.read(path), Settings(**options)).model
    return {layer.name: layer for layer in model.layers}, model


def assert_holds(path: Path, truth: Truth) -> Checkpoint:
    """Check that a file gives these layers and no others, with these values, bit for bit."""
    checkpoint = formats.read(path)
    found = {layer.name: layer for layer in checkpoint.layers}
    assert set(found) == set(truth)
    for name, expected in truth.items():
        arrays = found[name].arrays
        assert set(arrays) == set(expected)
        for parameter, value in expected.items():
            wide = value.astype(np.float32) if value.dtype.name == "bfloat16" else value
            assert arrays[parameter].tobytes() == wide.tobytes()
    return checkpoint


def assert_verified(path: Path, layers: int, **options: Any) -> None:
    """Check that every layer of a file is verified in the model and alone, by its own kernel, within the bound."""
    found, model = verified(path, **options)
    assert {name: layer.reason for name, layer in found.items() if layer.status is not LayerStatus.VERIFIED} == {}
    assert len(found) == layers
    assert model.evidence is Evidence.MODEL
    for layer in found.values():
        assert [comparison.observed for comparison in layer.comparisons] == ["in-model", "probed"]
        assert all(0 < (comparison.ratio or 0) <= 1 for comparison in layer.comparisons)


def tf1(folder: Path, build: Callable[[Any], Any], shape: tuple[int | None, ...] = IMAGE) -> Tf1:
    return Tf1(folder, build, shape)


@pytest.mark.parametrize(
    ("build", "epsilon", "freezes"),
    [
        (models.public_resnet, 1e-3, True),
        (models.fused_at_inference, 1e-4, True),
        # TensorFlow freezes these to graphs that it then refuses, because constants cannot be assigned to.
        (models.conditional(functional=True), 1e-3, False),
        (models.conditional(functional=False), 1e-3, False),
    ],
)
def test_tf1_as_saved_model_checkpoint_and_frozen_graph(
    tmp_path: Path, build: Callable[[Any], Any], epsilon: float, freezes: bool
) -> None:
    saved = tf1(tmp_path, build)
    for path in (saved.saved_model, saved.prefix, *([saved.frozen] if freezes else [])):
        checkpoint = assert_holds(path, saved.truth)
        assert {layer.epsilon for layer in checkpoint.layers} == {epsilon}
        assert_verified(path, len(saved.truth))


def test_a_checkpoint_may_be_named_in_five_ways(tmp_path: Path) -> None:
    saved = tf1(tmp_path, models.public_resnet)
    prefix = saved.prefix
    shard = f"{prefix.name}.data-00000-of-00001"
    names = (f"{prefix.name}.index", f"{prefix.name}.meta", shard, "checkpoint")
    for path in (prefix, prefix.parent, *(prefix.with_name(name) for name in names)):
        assert assert_holds(path, saved.truth).path == str(path)


def test_a_checkpoint_without_its_graph_has_no_epsilon(tmp_path: Path) -> None:
    saved = tf1(tmp_path, models.public_resnet)
    Path(f"{saved.prefix}.meta").unlink()
    checkpoint = assert_holds(saved.prefix, saved.truth)
    assert {layer.epsilon for layer in checkpoint.layers} == {None}
    layers, model = verified(saved.prefix)
    assert all("--epsilon" in layer.reason for layer in layers.values())
    rule = EpsilonRule("*", 1e-3)
    from bninspect.verdicts import selection

    supplied = selection.select(checkpoint, Settings(epsilon=(rule,)))
    model = verify_task.verify_checkpoint(supplied, Settings(epsilon=(rule,))).model
    assert model.evidence is Evidence.LAYER
    assert all("no model.ckpt.meta beside it" in layer.reason for layer in model.layers)


def test_the_moving_averages_of_early_tutorials(tmp_path: Path) -> None:
    saved = tf1(tmp_path, models.averaged_moments)
    for path in (saved.saved_model, saved.prefix):
        (layer,) = formats.read(path).layers
        assert (layer.name, layer.epsilon, layer.statistics) == ("bn", 1e-3, Statistics.MOVING)
        assert_verified(path, 1)


def test_arithmetic_by_hand(tmp_path: Path) -> None:
    saved = tf1(tmp_path, models.by_hand)
    for path in (saved.saved_model, saved.frozen):
        checkpoint = assert_holds(path, saved.truth)
        assert {layer.name: layer.epsilon for layer in checkpoint.layers} == {
            f"bn{number}": epsilon for number, (_, epsilon) in enumerate(models.BY_HAND)
        }
        assert_verified(path, len(models.BY_HAND))


def test_partitioned_parameters(tmp_path: Path) -> None:
    saved = tf1(tmp_path, models.partitioned)
    for path in (saved.saved_model, saved.prefix):
        (layer,) = formats.read(path).layers
        assert (layer.name, layer.channels) == ("bn", 3)
        assert_verified(path, 1)


def test_a_formula_with_epsilon_outside_of_the_root_fails(tmp_path: Path) -> None:
    layers, _ = verified(tf1(tmp_path, models.wrong).saved_model)
    assert layers["bn"].status is LayerStatus.MISMATCH
    assert "outside" in layers["bn"].notes[0]
    assert "epsilon added outside the square root" in str(layers["bn"])


def test_training_mode_is_never_verified(tmp_path: Path) -> None:
    saved = tf1(tmp_path, models.fused_training)
    checkpoint = assert_holds(saved.saved_model, saved.truth)
    assert {layer.name: layer.statistics for layer in checkpoint.layers} == {
        "trained": Statistics.BATCH,
        "frozen": Statistics.MOVING,
    }
    layers, _ = verified(saved.saved_model)
    assert layers["trained"].status is LayerStatus.UNVERIFIED
    assert "statistics of each batch" in layers["trained"].reason
    assert layers["frozen"].status is LayerStatus.VERIFIED


def test_moments_of_the_batch_are_never_verified(tmp_path: Path) -> None:
    saved = tf1(tmp_path, models.moments)
    (layer,) = assert_holds(saved.saved_model, saved.truth).layers
    assert layer.statistics is Statistics.BATCH
    layers, _ = verified(saved.saved_model)
    assert layers["bn"].status is LayerStatus.UNVERIFIED


@pytest.mark.parametrize("functional", [True, False])
def test_a_loop_hides_what_is_in_it(tmp_path: Path, functional: bool) -> None:
    saved = tf1(tmp_path, models.loop(functional=functional))
    for path in (saved.saved_model, saved.prefix):
        assert_holds(path, saved.truth)
        layers, _ = verified(path)
        assert (layers["inner"].status, layers["inner"].reason) == (
            LayerStatus.UNVERIFIED,
            "it is inside a while loop",
        )
        assert layers["outer"].status is LayerStatus.VERIFIED


def test_a_branch_that_the_data_chooses_hides_what_is_in_it(tmp_path: Path) -> None:
    saved = tf1(tmp_path, models.chosen_by_data)
    assert_holds(saved.saved_model, saved.truth)
    layers, _ = verified(saved.saved_model)
    assert layers["bn"].reason == "it is inside a conditional that depends on the data"


def test_a_graph_that_reads_files_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = tf1(tmp_path, models.reads_a_file)
    checkpoint = assert_holds(saved.saved_model, saved.truth)
    assert checkpoint.code == ("op ReadFile 'ReadFile'",)
    # Relative, so that a run would fail; it must not come to that.
    monkeypatch.setattr(savedmodel, "opened_session", lambda: pytest.fail("TensorFlow was given the graph"))
    layers, model = verified(saved.saved_model)
    assert layers["bn"].status is LayerStatus.UNVERIFIED
    assert "op ReadFile" in layers["bn"].reason
    assert model.evidence is Evidence.LAYER


def test_a_graph_that_reads_files_runs_if_it_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = tf1(tmp_path, models.reads_a_file)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_text("x")
    assert_verified(saved.saved_model, 1, trust=True)


def test_a_model_that_draws_random_numbers_is_verified(tmp_path: Path) -> None:
    assert_verified(tf1(tmp_path, models.random).saved_model, 1)


def test_a_graph_folded_by_tensorflow_names_what_is_gone(tmp_path: Path) -> None:
    import tensorflow as tf
    from tensorflow.python.tools.optimize_for_inference_lib import optimize_for_inference

    def build(image: Any) -> Any:
        y = tf.nn.conv2d(image, tf.constant(models.normal(3, 3, 3, 3)), 1, "SAME")
        return models.fused_at_inference(y)

    saved = tf1(tmp_path, build)
    graph = tf.compat.v1.GraphDef.FromString(saved.frozen.read_bytes())
    path = tmp_path / "folded.pb"
    path.write_bytes(optimize_for_inference(graph, ["image"], ["out"], 1).SerializeToString())
    (layer,) = formats.read(path).layers
    assert "folded into the layer before it" in layer.notes[0]
    layers, _ = verified(path)
    assert next(iter(layers.values())).status is LayerStatus.UNVERIFIED


@pytest.mark.parametrize("package", ["keras", "tf_keras"])
def test_layers_of_many_kinds_by_both_keras(tmp_path: Path, package: str) -> None:
    keras = importlib.import_module(package)
    model, truth = models.keras_model(keras)
    _save(model, tmp_path, package)
    checkpoint = assert_holds(tmp_path, truth)
    layers = {layer.name: layer for layer in checkpoint.layers}
    assert {name: layer.epsilon for name, layer in layers.items()} == {
        name: 1e-4 if name == "last" else 1e-3 for name in truth
    }
    assert layers["wide"].dtype == "float64"
    legacy = package == "tf_keras"
    assert layers["first"].axis == layers["steps"].axis == (1,)
    assert layers["last"].axis == ((3,) if legacy else (-1,))
    assert layers["last"].momentum == (0.9 if legacy else None)
    assert layers["noscale"].scale is layers["nocenter"].center is False
    assert_verified(tmp_path, len(truth))


def _save(model: Any, folder: Path, package: str = "keras") -> None:
    if package == "keras":
        model.export(str(folder), verbose=False)
    else:
        model.save(str(folder), save_format="tf")


@pytest.mark.parametrize("package", ["keras", "tf_keras"])
def test_hard_wired_training_is_found_in_the_graph(tmp_path: Path, package: str) -> None:
    model, truth = models.hard_wired(importlib.import_module(package))
    _save(model, tmp_path, package)
    checkpoint = assert_holds(tmp_path, truth)
    statistics = {layer.name: layer.statistics for layer in checkpoint.layers}
    # Keras 3 hands the training=True of one layer on to all that follow, and so its export does.
    good = Statistics.BATCH if package == "keras" else Statistics.MOVING
    assert statistics == {"bad": Statistics.BATCH, "good": good}
    layers, _ = verified(tmp_path)
    assert layers["bad"].status is LayerStatus.UNVERIFIED
    assert (layers["good"].status is LayerStatus.VERIFIED) == (package == "tf_keras")


def test_a_cell_of_a_recurrent_layer_is_in_its_loop(tmp_path: Path) -> None:
    model, truth = models.recurrent(importlib.import_module("keras"))
    _save(model, tmp_path)
    checkpoint = formats.read(tmp_path)
    assert checkpoint.code == ()
    assert len(checkpoint.layers) == len(truth)
    layers, _ = verified(tmp_path)
    assert layers["after"].status is LayerStatus.VERIFIED
    (cell,) = layers.keys() - {"after"}
    assert layers[cell].reason == "it is inside a while loop"


def test_a_module_without_a_signature_is_run_by_its_functions(tmp_path: Path) -> None:
    import tensorflow as tf

    net = models.module()
    net(tf.zeros((1, 4, 4, 3)))
    tf.saved_model.save(net, str(tmp_path))
    layers, _ = verified(tmp_path)
    assert layers["used"].status is LayerStatus.VERIFIED
    assert (layers["used"].epsilon, layers["spare"].epsilon) == (1e-3, None)
    assert layers["spare"].status is LayerStatus.UNVERIFIED
    assert "does not use it" in layers["spare"].notes[0]


@pytest.fixture
def two_signatures(tmp_path: Path) -> Path:
    import tensorflow as tf

    net = models.module()
    image = tf.TensorSpec((None, 4, 4, 3), "float32")
    signatures = {
        "infer": net.__call__.get_concrete_function(image, False),
        "train": net.__call__.get_concrete_function(image, True),
    }
    tf.saved_model.save(net, str(tmp_path), signatures=signatures)
    return tmp_path


def observed(path: Path, settings: RunSettings) -> tuple[Run, list[Observation]]:
    seen: list[Observation] = []

    def begin() -> runtimes.Sink:
        seen.clear()
        return seen.append

    return runtimes.run(formats.read(path), settings, begin), seen


def test_signatures_are_chosen_by_name(two_signatures: Path) -> None:
    run, seen = observed(two_signatures, RunSettings(signature="infer"))
    assert {one.layer for one in seen} == {"used"}
    run, seen = observed(two_signatures, RunSettings(signature="train"))
    assert seen == []
    assert "training mode" in run.unobserved["used"]
    with pytest.raises(UsageError, match="no signature 'predict'; its signatures: infer, train"):
        observed(two_signatures, RunSettings(signature="predict"))


@pytest.mark.parametrize(
    ("options", "code"), [(["infer"], 0), (["train"], 3), (["infer", "--tag", "serve"], 0), (["x"], 2)]
)
def test_the_command_line_chooses_too(two_signatures: Path, options: list[str], code: int) -> None:
    command = [sys.executable, "-P", "-m", "bninspect", "verify", str(two_signatures), "-q", "--exclude-layer", "spare"]
    command += ["--signature", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr


def test_tags_are_chosen_by_name(two_signatures: Path) -> None:
    assert observed(two_signatures, RunSettings(tag="serve"))[1]
    with pytest.raises(UsageError, match="no graph tagged 'gpu'"):
        observed(two_signatures, RunSettings(tag="gpu"))


def test_a_frozen_function_of_tensorflow_2(two_signatures: Path, tmp_path: Path) -> None:
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    net = models.module()
    function = net.__call__.get_concrete_function(tf.TensorSpec((None, 4, 4, 3), "float32"), False)
    path = tmp_path / "frozen.pb"
    path.write_bytes(convert_variables_to_constants_v2(function).graph.as_graph_def().SerializeToString())
    assert_verified(path, 1)


def test_little_memory_has_one_layer_run_at_a_time_and_gives_the_same(tmp_path: Path) -> None:
    saved = tf1(tmp_path, models.public_resnet).saved_model
    _, together = observed(saved, RunSettings())
    assert [len(one) for one in savedmodel._together("abc", dict.fromkeys("abc", 8), None)] == [3]
    assert [len(one) for one in savedmodel._together("abc", dict.fromkeys("abc", 8), 1)] == [1, 1, 1]
    _, singly = observed(saved, RunSettings(memory=1))
    assert [(one.layer, one.observed) for one in singly] == [(one.layer, one.observed) for one in together]
    for one, other in zip(singly, together, strict=True):
        assert one.x.tobytes() == other.x.tobytes()
        assert one.y.tobytes() == other.y.tobytes()


def test_the_input_may_be_given(tmp_path: Path) -> None:
    saved = tf1(tmp_path, models.fused_at_inference).saved_model
    image = models.normal(2, 5, 5, 3)
    np.save(tmp_path / "x.npy", image)
    _, seen = observed(saved, RunSettings(input=tmp_path / "x.npy"))
    assert seen[0].x.tobytes() == image.tobytes()
    np.save(tmp_path / "x.npy", models.normal(2, 5, 4, 3))
    with pytest.raises(UsageError, match=r"has shape \(2, 5, 4, 3\)"):
        observed(saved, RunSettings(input=tmp_path / "x.npy"))


def test_open_lengths_are_chosen_and_said(tmp_path: Path) -> None:
    saved = tf1(tmp_path, models.fused_at_inference, (None, None, None, 3)).saved_model
    run, seen = observed(saved, RunSettings())
    assert seen[0].x.shape == (1, 64, 64, 3)
    assert "'image'" in run.notes[0]
    _, seen = observed(saved, RunSettings(input_shapes={"image": (2, 7, 9, 3)}))
    assert seen[0].x.shape == (2, 7, 9, 3)


def test_an_index_into_a_table_stays_within_it(tmp_path: Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        words = v1.placeholder("int32", (None, 40), "words")
        table = v1.get_variable("table", initializer=tf.constant(models.normal(7, 3)))
        gamma, beta, mean, variance = models.variables("bn", 3)
        y = tf.nn.batch_normalization(tf.gather(table, words), mean, variance, beta, gamma, 1e-3)
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(tmp_path / "saved"), {"words": words}, {"y": y})
    _, seen = observed(tmp_path / "saved", RunSettings())
    assert seen[0].x.shape == (1, 40, 3)
    assert len(np.unique(seen[0].x)) > 3  # of more than one word


def test_a_file_that_changed_since_it_was_read_is_not_run(tmp_path: Path) -> None:
    saved = tf1(tmp_path, models.fused_at_inference)
    shard = f"{saved.prefix.name}.data-00000-of-00001"
    pairs = (
        (saved.saved_model, saved.saved_model / "variables" / "variables.index"),
        (saved.prefix, saved.prefix.with_name(shard)),
        (saved.prefix, Path(f"{saved.prefix}.meta")),
    )
    for path, part in pairs:
        checkpoint = formats.read(path)
        part.write_bytes(part.read_bytes() + b"\0")
        with pytest.raises(UnreadableFile, match="changed while it was being checked"):
            savedmodel.observe(checkpoint, RunSettings(), lambda: lambda _: None)


def test_what_changes_variables_after_loading_is_found_out(tmp_path: Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        image = v1.placeholder("float32", IMAGE, "image")
        gamma, beta, mean, variance = models.variables("bn", 3)
        y = tf.nn.batch_normalization(image, mean, variance, beta, gamma, 1e-3)
        session.run(v1.global_variables_initializer())
        signature = v1.saved_model.predict_signature_def({"image": image}, {"y": y})
        builder = v1.saved_model.Builder(str(tmp_path / "saved"))
        builder.add_meta_graph_and_variables(
            session, ["serve"], {"serving_default": signature}, main_op=v1.assign_add(mean, [0.0, 1.0, 0.0]).op
        )
        builder.save()
    layers, _ = verified(tmp_path / "saved")
    assert layers["bn"].status is LayerStatus.MISMATCH
    assert "moving_mean of channel 1" in layers["bn"].findings[0].message


def test_a_model_that_its_own_assignments_change_is_no_evidence(tmp_path: Path) -> None:
    import tensorflow as tf

    class Counting(tf.Module):  # type: ignore[misc]  # TensorFlow is untyped
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.calls = models.module(), tf.Variable(0.0)

        @tf.function(input_signature=[tf.TensorSpec((None, 4, 4, 3), "float32")])  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            # The flat graph is pure data flow: it reads what the variable held before.
            return self.inner(x) * self.calls.assign_add(1.0)

    tf.saved_model.save(Counting(), str(tmp_path))
    layers, model = verified(tmp_path)
    used = layers["inner/used"]
    assert model.evidence is Evidence.LAYER
    assert used.status is LayerStatus.UNVERIFIED
    assert "output 'output_0' is not what its graph, taken apart, computes" in used.reason
    assert verified(tmp_path, accept=("layer",))[0]["inner/used"].status is LayerStatus.VERIFIED


def test_nothing_of_a_run_is_left_behind(tmp_path: Path) -> None:
    import tensorflow as tf

    saved = tf1(tmp_path, models.fused_at_inference).saved_model
    level = tf.compat.v1.logging.get_verbosity()
    outer = tf.Graph()
    with outer.as_default():
        observed(saved, RunSettings())
        assert tf.compat.v1.get_default_graph() is outer
    assert not outer.get_operations()
    assert tf.compat.v1.logging.get_verbosity() == level
    assert tf.executing_eagerly()
