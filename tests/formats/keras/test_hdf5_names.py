"""Names of weights as the writers of each generation chose them, and the layers that they are given back to."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bninspect.formats.keras.config import parse
from bninspect.formats.keras.hdf5_names import NamedWeights, layer_name, owners, pair, sites
from bninspect.formats.keras.norm_config import NormConfig


def config(*path: str, **settings: object) -> NormConfig:
    values: dict[str, object] = {"epsilon": 0.001, "momentum": 0.99, "axis": (-1,), "scale": True, "center": True}
    return NormConfig(path=path, class_name="BatchNormalization", **{**values, **settings})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Layer:
    """A layer of a nested model, as the test imagines it."""

    name: str
    kind: str
    scale: bool = True
    center: bool = True
    frozen: bool = False


LAYERS = st.lists(
    st.builds(
        Layer,
        st.sampled_from(["bn", "bn_1", "conv", "a/b", "x_gamma"]),
        st.sampled_from(["bn", "conv", "ln"]),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    ),
    max_size=6,
    unique_by=lambda layer: layer.name,
)


def weight_names(layers: list[Layer], generation: str) -> list[str]:
    """List the weights of a nested model as its framework does: those that are trained first, layer by layer."""
    trained: list[tuple[str, str]] = []
    rest: list[tuple[str, str]] = []
    for layer in layers:
        own = {"conv": ["kernel", "bias"], "ln": ["gamma", "beta"]}.get(layer.kind) or [
            *["gamma"] * layer.scale,
            *["beta"] * layer.center,
        ]
        statistics = ["moving_mean", "moving_variance"] if layer.kind == "bn" else []
        (rest if layer.frozen else trained).extend((layer.name, role) for role in own)
        rest.extend((layer.name, role) for role in statistics)
    pattern = {
        "Keras 1": "{name}_{role}:0",
        "Keras 2": "{name}/{role}:0",
        "scopes": "{name}_1/{role}:0",  # a second model in the same TensorFlow graph
        "Keras 3": "sq/{name}/{role}",
    }[generation]
    old = {"moving_mean": "running_mean", "moving_variance": "running_std"} if generation == "Keras 1" else {}
    return [pattern.format(name=name, role=old.get(role, role)) for name, role in (*trained, *rest)]


@given(LAYERS, st.sampled_from(["Keras 1", "Keras 2", "scopes", "Keras 3"]))
def test_every_batch_norm_gets_its_own_weights(layers: list[Layer], generation: str) -> None:
    bns = [layer for layer in layers if layer.kind == "bn"]
    configs = [config("block", layer.name, scale=layer.scale, center=layer.center) for layer in bns]
    names = weight_names(layers, generation)
    matched, unmatched = pair(configs, sites(names))
    assert unmatched == []
    assert [found for _, found in matched] == configs
    for layer, (site, _) in zip(bns, matched, strict=True):
        roles = [*["gamma"] * layer.scale, *["beta"] * layer.center, "moving_mean", "moving_variance"]
        assert sorted(site.weights) == sorted(roles)
        for name in site.weights.values():
            assert name.startswith((f"{layer.name}_", f"{layer.name}/", f"sq/{layer.name}/"))
            assert name in names


def test_names_of_the_first_keras_3() -> None:
    (site,) = sites(["gamma", "beta", "kernel", "bias", "moving_mean", "moving_variance"])
    assert site.prefix == ""
    assert site.weights["gamma"] == "gamma"
    assert not site.doubled


def test_running_std_of_keras_1_is_the_variance() -> None:
    (site,) = sites(["bn_gamma:0", "bn_beta:0", "bn_running_mean:0", "bn_running_std:0"])
    assert site.weights == {
        "gamma": "bn_gamma:0",
        "beta": "bn_beta:0",
        "moving_mean": "bn_running_mean:0",
        "moving_variance": "bn_running_std:0",
    }


def test_the_further_arrays_of_renorm_are_not_taken() -> None:
    renorm = ["bn/moving_stddev:0", "bn/renorm_mean:0", "bn/renorm_stddev:0"]
    (site,) = sites(["bn/gamma:0", "bn/beta:0", "bn/moving_mean:0", "bn/moving_variance:0", *renorm])
    assert sorted(site.weights.values()) == ["bn/beta:0", "bn/gamma:0", "bn/moving_mean:0", "bn/moving_variance:0"]


@pytest.mark.parametrize(
    "names", [["ln/gamma:0", "ln/beta:0"], ["d/kernel:0"], ["xgamma", "xmoving_mean"], [], ["gamma:x", "moving_mean:"]]
)
def test_what_is_no_batch_norm(names: list[str]) -> None:
    assert sites(names) == []


def test_two_weights_of_one_name_are_told() -> None:
    (site,) = sites(["gamma", "beta", "gamma", "beta", "moving_mean", "moving_variance"])
    assert site.doubled
    assert pair([config("m", "a"), config("m", "b")], [site]) == ([], [config("m", "a"), config("m", "b")])
    assert pair([], [site]) == ([(site, None)], [])


def bn(prefix: str) -> NamedWeights:
    return NamedWeights(prefix, {role: f"{prefix}/{role}:0" for role in ("moving_mean", "moving_variance")})


def test_equal_numbers_are_paired_in_order_although_names_mislead() -> None:
    """TensorFlow gave `bn` the scope `bn_1`, so that `bn_1` became `bn_1_1`."""
    one, two = bn("bn_1"), bn("bn_1_1")
    assert pair([config("bn"), config("bn_1")], [one, two])[0] == [(one, config("bn")), (two, config("bn_1"))]


def test_names_decide_where_they_are_the_same_in_another_order() -> None:
    one, two = bn("b"), bn("m/a")
    assert pair([config("m", "a"), config("m", "b")], [one, two])[0] == [
        (one, config("m", "b")),
        (two, config("m", "a")),
    ]


def test_names_decide_where_the_numbers_differ() -> None:
    hidden, mine, wrapped, scoped = bn("custom/hidden"), bn("mine"), bn("td"), bn("other_1")
    configs = [config("m", "other"), config("m", "td", "inner"), config("m", "mine"), config("m", "lost")]
    matched, unmatched = pair(configs, [hidden, mine, wrapped, scoped, bn("more")])
    assert [(site.prefix, found and found.path[-1]) for site, found in matched] == [
        ("custom/hidden", None),
        ("mine", "mine"),
        ("td", "inner"),
        ("other_1", "other"),
        ("more", None),
    ]
    assert unmatched == [config("m", "lost")]


def test_half_of_the_statistics_is_no_hidden_batch_norm() -> None:
    average = NamedWeights("ema", {"moving_mean": "ema/moving_mean:0"})
    assert pair([], [average]) == ([], [])
    assert pair([config("ema")], [average])[0] == [(average, config("ema"))]


def test_a_layer_at_several_places_has_one_set_of_weights() -> None:
    places = [config("m", "one", "bn"), config("m", "two", "bn", training=frozenset({True}))]
    for site in (bn("bn"), bn("bn_1"), bn("")):
        ((_, found),), unmatched = pair(places, [site])
        assert found is not None
        assert found.path == ("m", "one", "bn")
        assert found.training == {None, True}
        assert unmatched == []


@pytest.mark.parametrize(
    ("owner", "prefix", "alone", "name"),
    [
        ("bn", "bn", True, "bn"),
        ("bn", "", True, "bn"),
        ("bn", "bn_1", True, "bn"),
        ("bn", "bn_1", False, "bn/bn_1"),
        ("mid", "inner_bn", True, "mid/inner_bn"),
        ("custom", "custom/inner/bn", False, "custom/inner/bn"),
        ("custom", "customs/bn", False, "custom/customs/bn"),
    ],
)
def test_names_of_batch_norms_that_no_configuration_mentions(owner: str, prefix: str, alone: bool, name: str) -> None:
    assert layer_name(owner, NamedWeights(prefix, {}), alone=alone) == name


def norm(name: str) -> dict[str, object]:
    return {"class_name": "BatchNormalization", "config": {"name": name, "axis": -1, "momentum": 0.9, "epsilon": 0.1}}


def test_a_nested_sequential_of_keras_1_is_named_by_its_place() -> None:
    nested = {"class_name": "Sequential", "config": [norm("b")]}
    architecture = parse(json.dumps({"class_name": "Sequential", "config": [norm("a"), nested]}), "m.h5")
    found = owners(architecture, ["a", "sequential_7"])
    assert {name: [each.path for each in configs] for name, configs in found.items()} == {
        "a": [("a",)],
        "sequential_7": [("sequential_7", "b")],
    }


def test_branches_of_a_merge_of_keras_1_have_groups_of_their_own() -> None:
    branches = [{"class_name": "Sequential", "config": [norm(name) for name in names]} for names in ("bc", "d")]
    merge = {"class_name": "Merge", "config": {"name": "merge_1", "layers": branches, "mode": "sum"}}
    architecture = parse(json.dumps({"class_name": "Sequential", "config": [merge, norm("a")]}), "m.h5")
    whole, part = owners(architecture, ["b", "c", "d", "a"]), owners(architecture, ["b", "a"])
    assert [(name, each.path[-1]) for name, configs in whole.items() for each in configs] == [
        *zip("bcda", "bcda", strict=True)
    ]
    assert [(name, each.path[-1]) for name, configs in part.items() for each in configs] == [
        ("b", "b"),
        ("merge_1", "c"),
        ("merge_1", "d"),
        ("a", "a"),
    ]
