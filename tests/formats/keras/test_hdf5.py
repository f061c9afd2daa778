"""Keras HDF5: files of every generation of writers against what their frameworks held, and files that are wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from bninspect import formats
from bninspect.errors import BninspectError, DamagedFile, UnknownFormat, UnsafeFile
from bninspect.records import PARAMETERS, Array, BatchNorm, Checkpoint, Statistics

WRITERS = {
    "k122": ("Keras 1.2.2", ("nested", "seq", "simple")),
    "k225": ("Keras 2.2.5", ("nested", "noscale", "seq", "simple")),
    "tf115": ("Keras 2.2.4-tf", ("nested", "noscale", "seq", "simple")),
    "tf23": ("Keras 2.4.0", ("nested", "noscale", "seq", "simple")),
    "tfk221": ("Keras 2.21.0", ("nested", "noscale", "seq", "simple")),
    "k30": ("Keras 3.0.5", ("noscale", "seq", "simple")),  # and nested, which Keras 3.0.5 left half-written
    "k315": ("Keras 3.15.1", ("nested", "noscale", "seq", "simple")),
}
WHOLE = [(writer, name) for writer, (_, names) in WRITERS.items() for name in names]
WEIGHTS = [(writer, name) for writer, name in WHOLE if not writer.startswith("k3")]
STANDARD = {"running_mean": "moving_mean", "running_std": "moving_variance"}

Truth = dict[str, dict[str, Array]]


def truth(folder: Path, name: str) -> Truth:
    """Return what the framework held: parameters and epsilon by layer, in its order."""
    found: Truth = {}
    with np.load(folder / f"{name}_truth.npz") as stored:
        for key in stored.files:
            path, _, role = key.rpartition("|")
            found.setdefault(path.replace("|", "/"), {})[STANDARD.get(role, role)] = stored[key]
    return found


def assert_holds(layer: BatchNorm, expected: Mapping[str, Array]) -> None:
    """Assert that the layer has these parameters and no others, bit for bit."""
    parameters = {role: array for role, array in expected.items() if role in PARAMETERS}
    assert layer.arrays.keys() == parameters.keys()
    for role, array in parameters.items():
        assert layer.arrays[role].dtype == array.dtype
        assert layer.arrays[role].tobytes() == array.tobytes(), f"{layer.name} {role}"


def configs(path: Path) -> dict[str, dict[str, Any]]:
    """Return all batch-norm configurations in a file by their own names, found by brute force."""
    with h5py.File(path) as file:
        text = file.attrs["model_config"]

    def search(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        if isinstance(value, dict):
            if value.get("class_name") == "BatchNormalization":
                yield value["config"]["name"], value["config"]
            for item in value.values():
                yield from search(item)
        elif isinstance(value, list):
            for item in value:
                yield from search(item)

    return dict(search(json.loads(text)))


@pytest.mark.parametrize(("writer", "name"), WHOLE)
def test_whole_models_hold_what_their_framework_held(shared_models: Path, writer: str, name: str) -> None:
    folder = shared_models / "writers" / writer
    expected, settings = truth(folder, name), configs(folder / f"{name}.h5")
    found = formats.read(folder / f"{name}.h5")
    assert found.format == "keras-h5"
    assert found.writer == WRITERS[writer][0]
    assert (found.code, found.notes) == ((), ())
    assert [layer.name for layer in found.layers] == list(expected)
    for layer in found.layers:
        assert_holds(layer, expected[layer.name])
        config = settings[layer.name.rpartition("/")[2]]
        axis = config["axis"]
        assert layer.epsilon == expected[layer.name].get("epsilon", config["epsilon"]) == config["epsilon"]
        assert layer.axis == (tuple(axis) if isinstance(axis, list) else (axis,))
        assert layer.momentum == config["momentum"]
        assert layer.scale == config.get("scale", True) == (layer.gamma is not None)
        assert layer.center == config.get("center", True) == (layer.beta is not None)
        assert (layer.dtype, layer.epsilon_source, layer.class_name) == ("float32", "file", "BatchNormalization")
        assert (layer.statistics, layer.notes, layer.undecided) == (Statistics.MOVING, (), None)


@pytest.mark.parametrize(("writer", "name"), WEIGHTS)
def test_weights_only_files_hold_the_same(shared_models: Path, writer: str, name: str) -> None:
    folder = shared_models / "writers" / writer
    expected = truth(folder, name)
    found = formats.read(folder / f"{name}_w.h5")
    assert found.format == "keras-h5"
    assert found.architecture is None
    assert found.notes == ("weights only: the file states no epsilon, momentum and axis",)
    # Nested models leave no names but that of the outermost: `mid/sq/bn` is `mid/bn` here.
    shortened = [path if "/" not in path else f"{path.split('/')[0]}/{path.split('/')[-1]}" for path in expected]
    assert [layer.name for layer in found.layers] == shortened
    for layer, values in zip(found.layers, expected.values(), strict=True):
        assert_holds(layer, values)
        unknown = (layer.epsilon, layer.momentum, layer.axis, layer.scale, layer.center, layer.epsilon_source)
        assert unknown == (None,) * 6


def test_locations_are_those_of_the_file(shared_models: Path) -> None:
    for writer, name in [*WHOLE, *((writer, f"{name}_w") for writer, name in WEIGHTS)]:
        path = shared_models / "writers" / writer / f"{name}.h5"
        with h5py.File(path) as file:
            for layer in formats.read(path).layers:
                assert layer.moving_mean is not None
                inside = [item for item in file[layer.location].values() if isinstance(item, h5py.Dataset)]
                assert any(item[()].tobytes() == layer.moving_mean.tobytes() for item in inside), layer.location


def test_a_file_that_keras_3_0_left_half_written_is_accounted_for(shared_models: Path) -> None:
    """Keras 3.0.5 cannot save two batch norms in one nested model. All seven are listed, none with values."""
    folder = shared_models / "writers" / "k30"
    found = formats.read(folder / "nested.h5")
    assert [layer.name for layer in found.layers] == list(truth(folder, "nested"))
    assert all(layer.arrays == {} for layer in found.layers)
    assert [layer.epsilon for layer in found.layers] == [0.001] * 7
    assert found.notes == ("half-written: it lacks the statistics of some batch norms",)
    name = "half-written: several weights of 'first' go by one name, which early versions of Keras 3 cannot save"
    assert [layer.notes for layer in found.layers] == [
        *[(name,)] * 2,
        *[("half-written: the file has no weights of 'mid'",)] * 4,
        ("half-written: the file has no weights of 'top'",),
    ]


def test_a_real_model_of_keras_2_0_5(shared_models: Path) -> None:
    found = formats.read(shared_models / "face-classification" / "fer2013_mini_XCEPTION.102-0.66.hdf5")
    assert (found.writer, len(found.layers)) == ("Keras 2.0.5", 14)
    assert sum(layer.channels for layer in found.layers) == 736
    assert {(layer.epsilon, layer.axis) for layer in found.layers} == {(0.001, (-1,))}
    variances = np.concatenate([layer.moving_variance for layer in found.layers if layer.moving_variance is not None])
    assert 0 < variances.min() < 1e-35


def test_a_real_model_of_tensorflow_2_3(shared_models: Path) -> None:
    found = formats.read(shared_models / "mlperf-tiny" / "pretrainedResnet.h5")
    assert (found.writer, len(found.layers), found.code) == ("Keras 2.4.0", 7, ())
    assert {layer.axis for layer in found.layers} == {(3,)}


@pytest.mark.parametrize("version", ["3.0.5", "3.3.3", "3.9.2"])
def test_small_models_of_further_versions_of_keras_3(shared_models: Path, version: str) -> None:
    path = shared_models / "writers" / f"v{version}.h5"
    found = formats.read(path)
    assert found.writer == f"Keras {version}"
    assert [layer.name for layer in found.layers] == ["mybn", "sub/inbn"]
    assert all(len(layer.arrays) == 4 for layer in found.layers)


# Files made here


def norm(name: str = "bn", **settings: Any) -> dict[str, Any]:
    config = {"name": name, "axis": [3], "momentum": 0.99, "epsilon": 0.001, "center": True, "scale": True}
    return {"class_name": "BatchNormalization", "config": {**config, **settings}, "name": name}


def model(*layers: dict[str, Any], name: str = "m") -> dict[str, Any]:
    return {"class_name": "Functional", "config": {"name": name, "layers": list(layers)}, "name": name}


def values(channels: int = 3, roles: tuple[str, ...] = PARAMETERS) -> dict[str, Array]:
    return {role: np.linspace(0.5, number + 1, channels, dtype=np.float32) for number, role in enumerate(roles)}


def weights(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {f"{prefix}/{role}:0": array for role, array in arrays.items()}


def write(
    path: Path,
    layers: Mapping[str, Mapping[str, Array]],
    config: object = None,
    *,
    version: str = "2.13.1",
    backend: str = "tensorflow",
) -> Path:
    """Write HDF5 as Keras 2 does; without a configuration, a weights-only file."""
    with h5py.File(path, "w") as file:
        root = file
        if config is not None:
            file.attrs["model_config"] = config if isinstance(config, str) else json.dumps(config)
            root = file.create_group("model_weights")
        for name, text in {"keras_version": version, "backend": backend}.items():
            if text:
                file.attrs[name] = np.bytes_(text)
        root.attrs["layer_names"] = np.array([name.encode() for name in layers])
        for name, arrays in layers.items():
            group = root.create_group(name)
            group.attrs["weight_names"] = np.array([weight.encode() for weight in arrays])
            for weight, array in arrays.items():
                group.create_dataset(weight, data=array)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.h5"


def read(file: Path, layers: Mapping[str, Mapping[str, Array]], config: object = None, **options: str) -> Checkpoint:
    return formats.read(write(file, layers, config, **options))


def test_other_backends_are_named(file: Path) -> None:
    layers = {"bn": weights("bn", values())}
    assert read(file, layers, model(norm()), backend="theano", version="1.2.2").writer == "Keras 1.2.2 (theano)"
    assert read(file, layers, version="").writer == ""


def test_values_and_types_are_as_stored(file: Path) -> None:
    strange = values()
    strange["moving_variance"] = np.array([-1, np.nan, 1e-40], np.float32)
    strange["gamma"] = np.array([1, 2, 3], np.float16)
    (layer,) = read(file, {"bn": weights("bn", strange)}, model(norm())).layers
    assert_holds(layer, strange)
    assert layer.dtype == "float16+float32"
    assert not any(array.flags.writeable for array in layer.arrays.values())


def test_big_endian_arrays_arrive_in_native_order(file: Path) -> None:
    arrays = {role: array.astype(">f4") for role, array in values().items()}
    (layer,) = read(file, {"bn": weights("bn", arrays)}, model(norm())).layers
    assert_holds(layer, values())


@pytest.mark.parametrize("missing", [1, 2, 4])
def test_parameters_that_are_listed_and_not_stored_are_noted(file: Path, missing: int) -> None:
    write(file, {"bn": weights("bn", values())}, model(norm()))
    with h5py.File(file, "r+") as made:
        for role in PARAMETERS[4 - missing :]:
            del made[f"model_weights/bn/bn/{role}:0"]
    found = formats.read(file)
    (layer,) = found.layers
    assert list(layer.arrays) == list(PARAMETERS[: 4 - missing])
    assert layer.notes[0].startswith("half-written: ")
    assert layer.notes[0].count("bn/") == missing
    assert found.notes == ("half-written: it lacks the statistics of some batch norms",)


def test_a_layer_whose_group_is_missing_is_listed(file: Path) -> None:
    write(file, {"bn": weights("bn", values()), "b2": weights("b2", values())}, model(norm(), norm("b2")))
    with h5py.File(file, "r+") as made:
        del made["model_weights/b2"]
    found = formats.read(file).layers
    assert [(layer.name, len(layer.arrays)) for layer in found] == [("bn", 4), ("b2", 0)]
    assert found[1].notes == ("half-written: the file has no weights of 'b2'",)


def test_a_layer_that_the_file_does_not_list_is_listed(file: Path) -> None:
    found = read(file, {"bn": weights("bn", values())}, model(norm(), model(norm("deep"), name="inner"))).layers
    assert [(layer.name, len(layer.arrays)) for layer in found] == [("bn", 4), ("inner/deep", 0)]


def test_a_layer_without_weights_of_its_own_is_listed(file: Path) -> None:
    (layer,) = read(file, {"bn": {"bn/kernel:0": np.ones(3, np.float32)}}, model(norm())).layers
    assert layer.arrays == {}
    assert layer.notes == ("half-written: none of the weights of 'bn' are its own",)


def test_a_gamma_that_the_configuration_denies_is_a_contradiction(file: Path) -> None:
    with pytest.raises(DamagedFile, match=r"contradicts itself; .* bn has no gamma"):
        read(file, {"bn": weights("bn", values())}, model(norm(scale=False)))


def test_a_gamma_without_a_layers_name_may_be_that_of_another_layer(file: Path) -> None:
    """Keras 3.0: a nested model of LayerNormalization and a batch norm without scale and center."""
    nested = model(norm(scale=False, center=False), name="sub")
    (layer,) = read(file, {"sub": values()}, model(nested), version="3.0.5").layers
    assert list(layer.arrays) == ["moving_mean", "moving_variance"]


def test_a_gamma_that_is_missing_is_not_made_up(file: Path) -> None:
    bare = weights("bn", {role: values()[role] for role in PARAMETERS[2:]})
    (layer,) = read(file, {"bn": bare}, model(norm())).layers
    assert (layer.scale, layer.gamma) == (True, None)


def test_integers_are_no_parameters(file: Path) -> None:
    arrays = {role: array.astype(np.int32) for role, array in values().items()}
    with pytest.raises(DamagedFile, match="floating-point"):
        read(file, {"bn": weights("bn", arrays)}, model(norm()))


@pytest.mark.parametrize("same", [True, False])
def test_a_layer_stored_with_two_models_must_be_the_same_in_both(file: Path, same: bool) -> None:
    again = {**norm("shared"), "shared_object_id": 3}
    config = model(model(norm("shared"), name="s1"), model(again, name="s2"))
    other = values()
    if not same:
        other["moving_mean"] = other["moving_mean"] + np.float32(1e-6)
    layers = {"s1": weights("shared", values()), "s2": weights("shared", other)}
    if same:
        assert [layer.name for layer in read(file, layers, config).layers] == ["s1/shared"]
    else:
        with pytest.raises(DamagedFile, match="s1/shared and s2/shared are one layer, and their moving_mean differ"):
            read(file, layers, config)


def test_weights_of_one_name_belong_to_nobody(file: Path) -> None:
    """Weights alone, of a nested model that Keras 3.0 failed to save: which layer's gamma was written is open."""
    write(file, {"sub": values()}, version="3.0.5")
    with h5py.File(file, "r+") as made:
        made["sub"].attrs["weight_names"] = np.array([*PARAMETERS, *PARAMETERS], "S")
    (layer,) = formats.read(file).layers
    assert (layer.name, layer.arrays) == ("sub", {})
    assert layer.notes[0].startswith("half-written: gamma, beta, moving_mean, moving_variance")


def test_layers_of_one_name_stay_apart(file: Path) -> None:
    custom = {"class_name": "Blocks", "config": {"name": "c", "parts": [norm("bn"), norm("bn", epsilon=0.5)]}}
    layers = {"c": {**weights("c/0/bn", values()), **weights("c/1/bn", values(2))}}
    found = read(file, layers, model({**custom, "name": "c"}))
    assert [(layer.name, layer.epsilon, layer.channels) for layer in found.layers] == [
        ("c/bn", 0.001, 3),
        ("c/bn#2", 0.5, 2),
    ]
    assert found.code == ("Blocks 'c'",)


def test_a_model_without_batch_norm_has_none(file: Path) -> None:
    found = read(file, {"d": {"d/kernel:0": np.ones((2, 2), np.float32)}}, model())
    assert found.layers == ()


def test_a_configuration_without_weights_is_half_a_model(file: Path) -> None:
    with h5py.File(file, "w") as made:
        made.attrs["model_config"] = json.dumps(model(norm()))
    with pytest.raises(DamagedFile, match="half-written; it has a model's configuration"):
        formats.read(file)


@pytest.mark.parametrize(("config", "name"), [(None, "outside"), (model(norm("inside")), "inside")])
def test_the_weights_are_those_that_keras_would_load(file: Path, config: object, name: str) -> None:
    """load_weights prefers layers listed at the root, load_model those in `model_weights`."""
    write(file, {"inside": weights("inside", values())}, model(norm("inside")))
    with h5py.File(file, "r+") as made:
        if config is None:
            del made.attrs["model_config"]
        made.attrs["layer_names"] = np.array([b"outside"])
        made.copy("model_weights/inside", "outside")
    assert [layer.name.split("/")[0] for layer in formats.read(file).layers] == [name]


def test_hdf5_that_is_no_model_is_said_to_be_none(file: Path) -> None:
    with h5py.File(file, "w") as made:
        made["measurements"] = [1.0, 2.0]
    with pytest.raises(UnknownFormat, match=r"HDF5, but no Keras model; .* it holds measurements"):
        formats.read(file)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"class_name": "Functional", "class_name": "Lambda", "config": {}}'])
def test_a_broken_configuration_is_damage(file: Path, text: str) -> None:
    with pytest.raises(DamagedFile, match="configuration"):
        read(file, {"bn": weights("bn", values())}, text)


def test_a_configuration_of_bytes_is_read(file: Path) -> None:
    write(file, {"bn": weights("bn", values())}, model(norm()))
    with h5py.File(file, "r+") as made:
        made.attrs["model_config"] = np.bytes_(json.dumps(model(norm(epsilon=0.25))))
    found = formats.read(file)
    assert found.layers[0].epsilon == 0.25
    assert found.architecture == json.dumps(model(norm(epsilon=0.25)))


@pytest.mark.parametrize(
    "part", ["model_weights", "model_weights/bn", "model_weights/bn/bn", "model_weights/bn/bn/gamma:0"]
)
def test_links_are_refused_wherever_they_stand(file: Path, part: str) -> None:
    write(file, {"bn": weights("bn", values())}, model(norm()))
    other = file.with_name("other.h5")
    other.write_bytes(file.read_bytes())
    with h5py.File(file, "r+") as made:
        del made[part]
        made[part] = h5py.ExternalLink(str(other), part)
    with pytest.raises(UnsafeFile, match="link"):
        formats.read(file)


def test_names_of_control_characters_stay_as_they_are(file: Path) -> None:
    name = "\x1b[2Jbn\n::error::"
    (layer,) = read(file, {name: weights("x", values())}, model(norm(name))).layers
    assert layer.name == name


def test_a_file_cut_off_anywhere_is_refused(file: Path) -> None:
    write(
        file, {f"bn{n}": weights(f"bn{n}", values(200)) for n in range(8)}, model(*(norm(f"bn{n}") for n in range(8)))
    )
    whole = file.read_bytes()
    for percent in range(10, 100, 10):
        file.write_bytes(whole[: len(whole) * percent // 100])
        with pytest.raises(DamagedFile, match="truncated"):
            formats.read(file)


def test_flipped_bytes_give_our_errors_or_a_model(file: Path) -> None:
    """Over all records of groups; texts of variable length, whose damage may hang libhdf5, are not in this file."""
    write(file, {"bn": weights("bn", values())}, None)
    whole = file.read_bytes()
    outcomes = set()
    for place in range(96, 1600, 13):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        file.write_bytes(damaged)
        try:
            outcomes.add(len(formats.read(file).layers))
        except BninspectError:
            outcomes.add(-1)
    assert {-1, 1} <= outcomes
