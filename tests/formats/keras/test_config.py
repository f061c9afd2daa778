"""A model's configuration as data: the batch norms in it, where they stand, and what in it is code."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bninspect.errors import BninspectError, DamagedFile, UnsafeFile
from bninspect.formats.keras import allowed_names
from bninspect.formats.keras.config import CONTAINERS, TEXT_CHARACTERS, Architecture, parse
from bninspect.formats.keras.norm_config import NormConfig
from bninspect.records import Statistics

Entry = dict[str, Any]


def norm(name: str = "bn", **settings: Any) -> Entry:
    config = {"name": name, "axis": -1, "momentum": 0.99, "epsilon": 0.001, "center": True, "scale": True}
    return {"class_name": "BatchNormalization", "config": {**config, **settings}}


def model(*layers: Entry, name: str = "m", kind: str = "Functional", **more: Any) -> Entry:
    return {"class_name": kind, "config": {"name": name, "layers": list(layers), **more}}


def wrapped(layer: Entry, name: str = "td", kind: str = "TimeDistributed", key: str = "layer") -> Entry:
    return {"class_name": kind, "config": {"name": name, key: layer}}


def parsed(entry: Entry) -> Architecture:
    return parse(json.dumps(entry), "m.h5")


def one(entry: Entry) -> NormConfig:
    (found,) = parsed(model(entry)).norms
    return found


def paths(entry: Entry) -> list[str]:
    return ["/".join(found.path) for found in parsed(entry).norms]


# Any nesting, in the words of each generation of Keras


@dataclass(frozen=True)
class Tree:
    """A model as the test imagines it: what it is called, what it is, and what is in it."""

    name: str
    kind: str
    inside: tuple[Tree, ...] = ()
    epsilon: float = 0.001
    axis: tuple[int, ...] = (-1,)
    scale: bool = True


NAMES = st.text("abc_ /é\n", min_size=1, max_size=6)
LEAVES = st.builds(
    Tree,
    NAMES,
    st.sampled_from(["BatchNormalization", "SyncBatchNormalization", "MyNorm", "Dense", "LayerNormalization"]),
    epsilon=st.floats(1e-9, 1.0),
    axis=st.sampled_from([(-1,), (3,), (1, 3)]),
    scale=st.booleans(),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.builds(
        Tree,
        NAMES,
        st.sampled_from(["Functional", "Sequential", "TimeDistributed", "Custom"]),
        st.lists(inner, max_size=4).map(tuple),
    ),
    max_leaves=12,
)


def expected(tree: Tree, path: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    inside = tree.inside[:1] if tree.kind == "TimeDistributed" else tree.inside
    for inner in inside:
        yield from expected(inner, (*path, inner.name))
    if tree.kind in {"BatchNormalization", "SyncBatchNormalization", "MyNorm"}:
        yield path, tree.kind, tree.epsilon, tree.axis, tree.scale


def written(tree: Tree, generation: int) -> Entry:
    """Write the tree as Keras 1, 2 (tf.keras) or 3 would."""
    inside = [written(inner, generation) for inner in tree.inside]
    config: Entry = {"name": tree.name}
    if tree.kind in {"Functional", "Sequential"}:
        config["layers"] = [{**entry, "name": entry["config"]["name"], "inbound_nodes": []} for entry in inside]
    elif tree.kind == "TimeDistributed":
        config |= {"layer": inside[0]} if inside else {}
    elif tree.kind == "Custom":
        config |= {"sizes": [1, 2], "parts": {"first": inside[:1], "rest": inside[1:]}}
    elif tree.kind == "LayerNormalization":
        config |= {"axis": -1, "epsilon": 0.001, "center": True, "scale": True}
    elif tree.kind != "Dense":
        axis = list(tree.axis) if generation == 2 or len(tree.axis) > 1 else tree.axis[0]
        config |= {"axis": axis, "momentum": 0.99, "epsilon": tree.epsilon, "scale": tree.scale, "center": True}
        config["gamma_initializer"] = {"class_name": "Ones", "config": {}}
    if generation == 3:
        policy = {
            "module": "keras",
            "class_name": "DTypePolicy",
            "config": {"name": "float32"},
            "registered_name": None,
        }
        config["dtype"] = policy
        return {"module": "keras.layers", "class_name": tree.kind, "config": config, "registered_name": None}
    return {"class_name": tree.kind, "config": config}


@given(st.lists(TREES, max_size=4), st.sampled_from([1, 2, 3]))
def test_every_nesting_gives_the_same_batch_norms_in_the_same_order(trees: list[Tree], generation: int) -> None:
    root = Tree("outer", "Functional", tuple(trees))
    architecture = parsed(written(root, generation))
    got = [(norm.path, norm.class_name, norm.epsilon, norm.axis, norm.scale) for norm in architecture.norms]
    assert got == list(expected(root, ()))
    assert "DTypePolicy" not in {node.class_name for node in architecture.root.walk()}


KEYS = (
    "class_name config name layers layer axis epsilon momentum scale mode module registered_name shared_object_id "
    "inbound_nodes kwargs training activation vocabulary"
)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["bn", "Lambda"]) | st.text(max_size=3)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS.split()), inner),
    max_leaves=30,
)


@given(JSON)
def test_any_json_is_read_or_refused(content: object) -> None:
    text = json.dumps({"class_name": "Functional", "config": content})
    try:
        architecture = parse(text, "m.h5")
    except BninspectError:
        return
    for found in architecture.norms:
        assert found.path
        assert found.epsilon is None or math.isfinite(found.epsilon)
        assert found.settings(3)["name"] == "/".join(found.path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "1", '"Model"', "{}", '{"class_name": "Model"}', '{"class_name": 1, "config": {}}']
)
def test_what_is_no_model_is_refused(text: str) -> None:
    with pytest.raises(DamagedFile, match=r"m\.h5 has a configuration that is no"):
        parse(text, "m.h5")


# What the writers left


def test_a_sequential_of_keras_1_is_the_bare_list_of_its_layers() -> None:
    inner: Entry = {"class_name": "Sequential", "config": [norm("b"), norm("c")]}
    assert paths({"class_name": "Sequential", "config": [norm("a"), inner]}) == [
        "a",
        "sequential_1/b",
        "sequential_1/c",
    ]
    assert paths(model({**inner, "name": "sq", "inbound_nodes": []})) == ["sq/b", "sq/c"]


def test_keras_1_has_gamma_and_beta_always() -> None:
    config = {"name": "bn", "epsilon": 0.001, "mode": 0, "axis": -1, "momentum": 0.99}
    found = one({"class_name": "BatchNormalization", "config": config})
    assert (found.scale, found.center) == (True, True)
    assert found.settings(1)["statistics"] is Statistics.MOVING


@pytest.mark.parametrize(("mode", "statistics"), [(1, Statistics.SAMPLE), (2, Statistics.BATCH)])
def test_modes_of_keras_1_that_do_not_use_the_moving_statistics(mode: int, statistics: Statistics) -> None:
    settings = one(norm(mode=mode)).settings(1)
    assert settings["statistics"] is statistics
    assert f"mode {mode}" in settings["notes"][0]


def test_what_the_configuration_does_not_say_is_unknown() -> None:
    found = one({"class_name": "BatchNormalization", "config": {"name": "bn"}})
    settings = found.settings(2)
    assert [settings[key] for key in ("epsilon", "momentum", "axis", "scale", "center", "epsilon_source")] == [None] * 6


@pytest.mark.parametrize(("stored", "axis"), [(-1, (-1,)), ([3], (3,)), ([1, 3], (1, 3)), (0, (0,))])
def test_axes(stored: object, axis: tuple[int, ...]) -> None:
    assert one(norm(axis=stored)).axis == axis
    assert (
        one(norm(axis={"class_name": "__tuple__", "items": stored if isinstance(stored, list) else [stored]})).axis
        == axis
    )


@pytest.mark.parametrize(("stored", "flag"), [(True, True), (1, True), (False, False), (0, False), (None, None)])
def test_flags_may_be_numbers(stored: object, flag: bool | None) -> None:
    found = one(norm(scale=stored, center=stored))
    assert (found.scale, found.center) == (flag, flag)
    assert type(found.scale) is type(flag)


def test_numpy_scalars_of_keras_3() -> None:
    boxed = {"class_name": "__numpy__", "config": {"value": 0.0010000000474974513, "dtype": "float32"}}
    assert one(norm(epsilon=boxed)).epsilon == 0.0010000000474974513
    assert one(norm(epsilon=0, momentum=1)).settings(3)["momentum"] == 1.0


@pytest.mark.parametrize(
    "dtype",
    [
        "mixed_float16",
        {"class_name": "Policy", "config": {"name": "mixed_float16"}},
        {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "mixed_float16"}, "registered_name": None},
    ],
)
def test_dtype_policies(dtype: object) -> None:
    assert one(norm(dtype=dtype)).policy == "mixed_float16"


SENSELESS: dict[str, list[Any]] = {
    "epsilon": [math.nan, math.inf, -math.inf, True, "0.001", [], {}, [0.001], 10**400],
    "momentum": [False, "0.9", math.nan],
    "axis": [True, [], [True], 1.5, "1", [1, "3"], 64, -65, {"a": 1}],
    "scale": ["yes", 2, 0.5, [], {}],
}


@pytest.mark.parametrize("setting", SENSELESS)
def test_settings_that_make_no_sense_are_damage(setting: str) -> None:
    for value in SENSELESS[setting]:
        with pytest.raises(DamagedFile, match="senseless settings: bn"):
            one(norm(**{setting: value}))


def test_an_epsilon_beyond_float64_is_damage() -> None:
    text = json.dumps(model(norm(epsilon="E"))).replace('"E"', "1e999")
    with pytest.raises(DamagedFile, match="not a finite number"):
        parse(text, "m.h5")


@pytest.mark.parametrize(
    "kind", ["BatchNormalization", "BatchNormalizationV1", "BatchNormalizationV2", "SyncBatchNormalization"]
)
def test_classes_of_keras(kind: str) -> None:
    found = one({**norm(), "class_name": kind})
    assert found.class_name == kind
    assert found.settings(2)["notes"] == ()


def test_a_subclass_is_known_by_its_settings() -> None:
    settings = one({**norm(), "class_name": "pkg>Mine"}).settings(3)
    assert settings["class_name"] == "pkg>Mine"
    assert settings["notes"] == ("pkg>Mine is taken for a batch norm because of its settings",)


@pytest.mark.parametrize(
    "entry",
    [
        {"class_name": "LayerNormalization", "config": {"name": "ln", "axis": -1, "epsilon": 0.001, "scale": True}},
        {"class_name": "GroupNormalization", "config": {"name": "gn", "axis": -1, "epsilon": 0.001, "groups": 2}},
        # keras.ops.batch_normalization in a functional model: an operation without weights
        {"class_name": "BatchNorm", "config": {"name": "batch_norm", "axis": -1, "epsilon": 0.001}},
    ],
)
def test_what_is_no_batch_norm(entry: Entry) -> None:
    assert paths(model(entry)) == []


def test_renorm_is_noted() -> None:
    assert "renormalisation" in one(norm(renorm=True)).settings(2)["notes"][0]


def test_wrappers_and_cells() -> None:
    both = {
        "class_name": "Bidirectional",
        "config": {
            "name": "bi",
            "layer": wrapped(norm("a"), "f", "RNN", "cell"),
            "backward_layer": wrapped(norm("a"), "b", "RNN", "cell"),
        },
    }
    assert paths(model(wrapped(norm("inner"), "tdbn"), both)) == ["tdbn/inner", "bi/f/a", "bi/b/a"]


def test_what_surrounds_a_layer_is_not_in_it() -> None:
    unnamed = {"class_name": "Parts", "config": {"part": norm("within")}, "build_config": {"l": norm("y")}}
    assert paths(model(wrapped(unnamed))) == ["td/within"]
    entry = {
        **wrapped(norm("inner")),
        "inbound_nodes": [[norm("x")]],
        "build_config": {"l": norm("y")},
        "compile_config": norm("z"),
    }
    assert paths(model(entry)) == ["td/inner"]


# Calls with training=True


def called(entry: Entry, *keywords: Entry) -> Entry:
    """Let `entry` be called once for each of `keywords`, as Keras 2 stores it."""
    return {**entry, "inbound_nodes": [[["x", 0, 0, given]] for given in keywords]}


def called_3(entry: Entry, *keywords: Entry) -> Entry:
    return {**entry, "inbound_nodes": [{"args": [], "kwargs": given} for given in keywords]}


ALWAYS, NEVER, CALLER = {"training": True}, {"training": False}, dict[str, Any]()


@pytest.mark.parametrize(
    ("entry", "statistics", "notes"),
    [
        (called(norm()), Statistics.MOVING, 0),
        (called(norm(), CALLER), Statistics.MOVING, 0),
        (called(norm(), NEVER), Statistics.MOVING, 0),
        (called(norm(), {"training": None}), Statistics.MOVING, 0),
        (called(norm(), ALWAYS), Statistics.BATCH, 1),
        (called(norm(), {"training": 1}), Statistics.BATCH, 1),
        (called(norm(trainable=False), ALWAYS), Statistics.MOVING, 0),
        (called(norm(), ALWAYS, CALLER), Statistics.MOVING, 1),
        (called(model(called(norm(), CALLER)), ALWAYS), Statistics.BATCH, 1),
        (called(model(called(norm(), NEVER)), ALWAYS), Statistics.MOVING, 0),
        (called(wrapped(norm()), ALWAYS), Statistics.BATCH, 1),
        (called(model(called(norm(), CALLER)), ALWAYS, CALLER), Statistics.MOVING, 1),
    ],
)
def test_a_call_hard_wired_to_training_uses_the_batch(entry: Entry, statistics: Statistics, notes: int) -> None:
    settings = one(entry).settings(2)
    assert (settings["statistics"], len(settings["notes"])) == (statistics, notes)


def test_keras_3_lets_the_outermost_call_decide() -> None:
    settings = one(called_3(norm(), ALWAYS)).settings(3)
    assert settings["statistics"] is Statistics.MOVING
    assert "training=True" in settings["notes"][0]
    assert one(called_3(norm(), NEVER, CALLER)).settings(3)["notes"] == ()


def positional(entry: Entry, *training: Any) -> Entry:
    """Let `entry` be called as Keras 3 stores a call with positional arguments."""
    tensor = {"class_name": "__keras_tensor__", "config": {"keras_history": ["x", 0, 0]}}
    return {**entry, "inbound_nodes": [{"args": [tensor, *training], "kwargs": {}}]}


@pytest.mark.parametrize(
    ("entry", "keras", "wired"),
    [
        (called_3(norm(), ALWAYS), 3, True),
        (called_3(norm(), ALWAYS, CALLER), 3, True),
        (called_3(norm(), NEVER), 3, False),
        (called_3(norm(), CALLER), 3, False),
        (called_3(norm(), {"training": {"class_name": "__numpy__", "config": {"value": True}}}), 3, True),
        (called_3(norm(trainable=False), ALWAYS), 3, False),
        (positional(norm(), True), 3, True),
        (positional(norm(), False), 3, False),
        (positional(norm(), None), 3, False),
        (positional(norm()), 3, False),
        (called_3(model(called_3(norm(), CALLER)), ALWAYS), 3, True),
        (positional(model(called_3(norm(), CALLER)), True), 3, True),
        (called_3(wrapped(norm()), ALWAYS), 3, True),
        (called(norm(), ALWAYS), 3, True),
        (called(norm(), ALWAYS, CALLER), 2, True),
        (called(norm(), ALWAYS), 2, False),  # tf_keras predicts by the batch as well: BN123
    ],
)
def test_a_layer_is_wired_where_its_callers_disagree(entry: Entry, keras: int, wired: bool) -> None:
    assert one(entry).settings(keras)["wired"] is wired


# Shared layers


def test_a_shared_layer_is_listed_where_it_stands_and_marked() -> None:
    again = {**norm("shared"), "shared_object_id": 7}
    found = parsed(model(model(norm("shared"), name="s1"), model(again, name="s2"), again)).norms
    assert [("/".join(norm.path), norm.repeats) for norm in found] == [
        ("s1/shared", None),
        ("s2/shared", ("s1", "shared")),
        ("shared", ("s1", "shared")),
    ]


def test_a_shared_model_repeats_all_that_is_in_it() -> None:
    inner = model(norm("a"), wrapped(norm("b"), "td"), name="inner")
    found = parsed(model(model(inner, name="x"), model({**inner, "shared_object_id": 3}, name="y"))).norms
    assert [norm.repeats for norm in found] == [None, None, ("x", "inner", "a"), ("x", "inner", "td", "b")]


def test_equal_layers_without_an_id_are_two() -> None:
    found = parsed(model(model(norm("bn"), name="s1"), model(norm("bn"), name="s2"))).norms
    assert [norm.repeats for norm in found] == [None, None]


def test_an_id_makes_no_other_layers_the_same() -> None:
    shared, again = norm("shared"), {**norm("shared"), "shared_object_id": 1}
    inner = [model(norm("bn"), name=name) for name in ("s1", "s2")]
    found = parsed(model(*inner, shared, model(again, name="s3"))).norms
    assert [norm.repeats for norm in found] == [None, None, None, ("shared",)]


def test_a_shared_layer_has_the_calls_of_all_its_places() -> None:
    again = called({**norm("shared"), "shared_object_id": 1}, ALWAYS)
    first, second = parsed(model(called(norm("shared"), CALLER), model(again, name="s"))).norms
    assert first.training == second.training == {None, True}


def test_an_id_without_an_equal_layer_before_it_means_nothing() -> None:
    found = parsed(model(norm("a"), {**norm("b"), "shared_object_id": 1})).norms
    assert [norm.repeats for norm in found] == [None, None]


# Hostile texts


def test_duplicate_keys_are_refused() -> None:
    text = json.dumps(model(norm(epsilon=0.1))).replace('"epsilon": 0.1', '"epsilon": 0.1, "epsilon": 0.001')
    with pytest.raises(DamagedFile, match="'epsilon' stands twice"):
        parse(text, "m.h5")


def test_integers_of_endless_digits_are_refused() -> None:
    text = json.dumps(model(norm(axis="A"))).replace('"A"', "1" * 5000)
    with pytest.raises(DamagedFile, match="not JSON"):
        parse(text, "m.h5")


def nested(part: str, depth: int) -> str:
    end = "".join({"{": "}", "[": "]"}.get(bracket, "") for bracket in reversed(part))
    return '{"class_name": "Model", "config": {"x": ' + part * depth + "1" + end * depth + "}}"


DEEP = pytest.mark.parametrize(
    "part",
    ['{"class_name": "Model", "config": {"name": "m", "layers": [', "[", '{"a": '],
    ids=["models", "lists", "objects"],
)


@DEEP
@pytest.mark.parametrize("depth", [2000, 500_000])
def test_deep_nesting_is_refused(part: str, depth: int) -> None:
    with pytest.raises(UnsafeFile, match=r"nested too deep|too large"):
        parse(nested(part, depth), "m.h5")


@DEEP
def test_nesting_as_deep_as_models_are_is_read(part: str) -> None:
    assert parse(nested(part, 60), "m.h5").norms == ()


def test_texts_beyond_the_budgets_are_refused() -> None:
    with pytest.raises(UnsafeFile, match="too large"):
        parse('"' + "x" * TEXT_CHARACTERS, "m.h5")
    with pytest.raises(UnsafeFile, match="too large"):
        parse("[" + "{}," * CONTAINERS, "m.h5")


def test_many_shared_layers_take_no_longer_than_many_layers() -> None:
    layers = [{**norm("bn", epsilon=number / 1e6), "shared_object_id": number} for number in range(3000)]
    assert len(parsed(model(*layers)).norms) == 3000


def test_lone_surrogates_are_names_like_any_other() -> None:
    assert one(norm("bn\ud800")).path == ("bn\ud800",)


# What is code


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ({"class_name": "Lambda", "config": {"name": "l", "function": ["4wEA", None, None]}}, "Lambda 'l'"),
        ({"class_name": "TFSMLayer", "config": {"name": "l", "filepath": "x"}}, "TFSMLayer 'l'"),
        ({"class_name": "TorchModuleWrapper", "config": {"name": "l"}}, "TorchModuleWrapper 'l'"),
        ({"class_name": "pkg>Mine", "config": {"name": "l"}}, "pkg>Mine 'l'"),
        ({"class_name": "Dense", "module": "evil.layers", "config": {"name": "l"}}, "Dense 'l'"),
        ({"class_name": "Dense", "registered_name": "pkg>Dense", "config": {"name": "l"}}, "Dense 'l'"),
        ({"class_name": "Dense", "config": {"name": "l", "activation": "my_act"}}, "function 'my_act' in 'l'"),
        (
            {
                "class_name": "Dense",
                "config": {"name": "l", "activation": {"class_name": "function", "module": "evil", "config": "relu"}},
            },
            "function 'relu' in 'l'",
        ),
        ({"class_name": "GRU", "config": {"name": "l", "recurrent_activation": "x"}}, "function 'x' in 'l'"),
        (
            {"class_name": "Dense", "config": {"name": "l", "activation": {"class_name": "function", "config": "f"}}},
            "function 'f' in 'l'",
        ),
        (
            {"class_name": "Dense", "config": {"name": "l", "activation": {"class_name": "__lambda__", "config": {}}}},
            "lambda in 'l'",
        ),
        (
            {
                "class_name": "Dense",
                "config": {"name": "l", "kernel_initializer": {"class_name": "Mine", "config": {}}},
            },
            "Mine 'l'",
        ),
        (
            {"class_name": "StringLookup", "config": {"name": "l", "vocabulary": "/etc/passwd"}},
            "StringLookup 'l' with the file '/etc/passwd'",
        ),
        ({"class_name": "TFOpLambda", "config": {"name": "l", "function": "io.write_file"}}, "tf.io.write_file in 'l'"),
        ({"class_name": "TFOpLambda", "config": {"name": "l", "function": "py_function"}}, "tf.py_function in 'l'"),
        (
            {"class_name": "TFOpLambda", "config": {"name": "l", "function": "raw_ops.PrintV2"}},
            "tf.raw_ops.PrintV2 in 'l'",
        ),
        ({"class_name": "TFOpLambda", "config": {"name": "l", "function": "load_library"}}, "tf.load_library in 'l'"),
        ({"class_name": "TFOpLambda", "config": {"name": "l", "function": "math.add.x"}}, "tf.math.add.x in 'l'"),
        ({"class_name": "TFOpLambda", "config": {"name": "l", "function": ["math.add"]}}, "tf.['math.add'] in 'l'"),
        (
            {"class_name": "SlicingOpLambda", "config": {"name": "l", "function": "saved_model.load"}},
            "tf.saved_model.load in 'l'",
        ),
        (
            {"class_name": "TensorFlowOpLayer", "config": {"name": "l", "node_def": {"op": "WriteFile"}}},
            "TensorFlow op WriteFile in 'l'",
        ),
        ({"class_name": "TensorFlowOpLayer", "config": {"name": "l", "node_def": "\n"}}, "TensorFlow op None in 'l'"),
        (
            {"class_name": "Merge", "config": {"name": "l", "mode": "x", "mode_type": "lambda"}},
            "Merge 'l' with a function",
        ),
        ({"class_name": "ClassMethod", "config": {"name": "l", "cls_symbol": "x"}}, "ClassMethod 'l'"),
        ({"class_name": ["Dense"], "config": {"name": "l"}}, "['Dense'] 'l'"),
    ],
)
def test_what_is_code_is_named(entry: Entry, code: str) -> None:
    assert parsed(model(entry)).code == (code,)
    assert parsed(model(model(wrapped(entry)))).code == (code,)
    assert parsed(model({"class_name": "Dense", "config": {}, "inbound_nodes": [{"args": [entry]}]})).code == (code,)


@pytest.mark.parametrize(
    "entry",
    [
        norm(),
        {
            "class_name": "Dense",
            "module": "keras.layers",
            "registered_name": None,
            "config": {"name": "l", "activation": "relu"},
        },
        {
            "class_name": "Dense",
            "config": {"name": "l", "activation": {"class_name": "function", "module": "builtins", "config": "relu"}},
        },
        {
            "class_name": "Multiply",
            "module": "keras.src.ops.numpy",
            "registered_name": "Multiply",
            "config": {"name": "l"},
        },
        {"class_name": "StringLookup", "config": {"name": "l", "vocabulary": ["a", "b"]}},
        {"class_name": "TFOpLambda", "config": {"name": "l", "function": "math.add"}},
        {"class_name": "TFOpLambda", "config": {"name": "l", "function": "compat.v1.shape"}},
        {"class_name": "TFOpLambda", "config": {"name": "l", "function": "reshape"}},
        {"class_name": "SlicingOpLambda", "config": {"name": "l", "function": "__operators__.getitem"}},
        {"class_name": "TensorFlowOpLayer", "config": {"name": "l", "node_def": {"op": "AddV2"}}},
        {"class_name": "Merge", "config": {"name": "l", "mode": "sum", "mode_type": "raw", "output_shape_type": "raw"}},
    ],
)
def test_what_only_computes_is_no_code(entry: Entry) -> None:
    assert parsed(model(entry)).code == ()


def test_code_inside_custom_classes_is_named_too_and_once() -> None:
    inner = {"class_name": "Lambda", "config": {"name": "l", "function": {"class_name": "__lambda__", "config": {}}}}
    assert parsed(model(wrapped(inner, "c", "Custom"), inner)).code == ("Custom 'c'", "Lambda 'l'")


def test_how_the_model_was_trained_does_not_matter() -> None:
    loss = {"class_name": "function", "module": "builtins", "config": "my_loss"}
    assert parsed({**model(norm()), "compile_config": {"loss": loss}}).code == ()
    assert parsed(model({**model(norm()), "compile_config": {"loss": loss}})).code == ("function 'my_loss' in 'm'",)


def test_nothing_that_runs_code_is_on_the_list() -> None:
    running = {
        *("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "DenseFeatures", "SequenceFeatures"),
        *("ClassMethod", "InstanceMethod", "InstanceProperty", "Map", "Scan", "AssociativeScan", "Cond", "WhileLoop"),
        *("ForiLoop", "Switch", "VectorizedMap", "Operation", "KerasTensor", "function", "__lambda__", "__typespec__"),
    }
    assert not running & allowed_names.CLASSES
    assert not {"io", "raw_ops", "data", "saved_model", "train", "summary", "debugging"} & allowed_names.TF_MODULES
    unsafe = {
        "py_function",
        "numpy_function",
        "print",
        "load_library",
        "load_op_library",
        "map_fn",
        "while_loop",
        "function",
    }
    assert not unsafe & allowed_names.TF_FUNCTIONS


def test_models_of_real_writers_hold_no_code(shared_models: Path) -> None:
    checked = 0
    for path in [
        *shared_models.glob("writers/*/*.h5"),
        *shared_models.glob("mlperf-tiny/*.h5"),
        *shared_models.glob("*/*.hdf5"),
    ]:
        with h5py.File(path) as file:
            text = file.attrs.get("model_config")
        if text is not None:
            assert parse(text if isinstance(text, str) else text.decode(), path.name).code == ()
            checked += 1
    assert checked >= 25


@pytest.mark.tensorflow
def test_the_operations_on_the_list_are_operations_of_keras() -> None:
    """In HDF5 they have no module, so each name must mean one thing, and that must be pure."""
    import importlib

    from keras import Operation

    modules = [
        importlib.import_module(f"keras.src.ops.{part}")
        for part in ("core", "einops", "image", "linalg", "math", "nn", "numpy")
    ]
    for name in allowed_names.OPERATIONS:
        found = [getattr(module, name) for module in modules if hasattr(module, name)]
        assert found, f"{name} is not an operation of Keras"
        assert all(isinstance(each, type) and issubclass(each, Operation) for each in found), name


@pytest.mark.tensorflow
def test_the_functions_on_the_list_are_functions_of_tensorflow() -> None:
    import tensorflow as tf

    for name in allowed_names.TF_FUNCTIONS:
        assert callable(getattr(tf, name, None) or getattr(tf.compat.v1, name)), name
    for module in allowed_names.TF_MODULES - {"__operators__"}:
        assert getattr(tf, module), module
