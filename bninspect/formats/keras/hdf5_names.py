"""Which weights of a top-level layer belong to which batch norm: the names in Keras HDF5, and what to make of them.

A nested model, wrapper or custom layer has all its weights flat in one group, first what is trained, then what is
not, so that gamma and moving_mean of one batch norm are far apart and only a common beginning of their names joins
them. Those names are, for a layer `bn` (each as real writers left it):

    bn_gamma:0, bn_running_std:0    Keras 1, where running_std holds the variance, not its root
    bn/gamma:0                      Keras 2, tf.keras, tf_keras
    bn_1/gamma:0                    the same, when TensorFlow had already given away the scope `bn`
    td/gamma:0                      within TimeDistributed `td`, in Keras 2 and tf.keras
    gamma                           Keras 3.0 and 3.1, whatever nested model it is in
    bn/gamma, sq/bn/gamma           Keras 3.3 and later
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bninspect.formats.keras.config import Architecture
    from bninspect.formats.keras.norm_config import NormConfig

_WEIGHT = re.compile(
    r"(?:(?P<prefix>.*)[/_])?(?P<role>gamma|beta|(?:moving|running)_(?:mean|variance|var|std))(?::\d+)?"
)
_ROLES = {
    "running_mean": "moving_mean",
    "running_std": "moving_variance",
    "running_var": "moving_variance",
    "running_variance": "moving_variance",
    "moving_var": "moving_variance",
}
STATISTICS = {"moving_mean", "moving_variance"}


@dataclass(frozen=True, eq=False)
class NamedWeights:
    """The weights of one batch norm."""

    prefix: str
    """What their names begin with; empty where they have nothing but their own name."""
    weights: Mapping[str, str]
    """Full name of the weight by the standard name of the parameter."""
    doubled: bool = False
    """Two weights go by one name: HDF5 cannot have stored both."""


def sites(names: Sequence[str]) -> list[NamedWeights]:
    """Return the batch norms among the weights of one layer, in the order of its layers.

    That is the order of the moving statistics: they are never trained, and what is not trained is in layer order.
    """
    found: dict[str, dict[str, str]] = {}
    doubled: set[str] = set()
    order: dict[str, None] = {}
    for name in names:
        match = _WEIGHT.fullmatch(name)
        if match is None:
            continue
        prefix, role = match["prefix"] or "", _ROLES.get(match["role"], match["role"])
        weights = found.setdefault(prefix, {})
        if role in weights:
            doubled.add(prefix)
        weights[role] = name
        if role in STATISTICS:
            order[prefix] = None
    return [NamedWeights(prefix, found[prefix], prefix in doubled) for prefix in order]


def pair(
    configs: Sequence[NormConfig], found: Sequence[NamedWeights]
) -> tuple[list[tuple[NamedWeights, NormConfig | None]], list[NormConfig]]:
    """Return the batch norms of one layer's group with their settings, as far as these are known, in model order.

    The second list has those of which the configuration speaks and the group holds nothing.

    Equal numbers are paired in order, which is exact: names are not (see above). A shared layer may stand at several
    places in the configuration and then has one set of weights. If the numbers still differ, as they do when a custom
    layer makes a batch norm of its own, names decide.
    """
    if any(site.doubled for site in found):
        return [] if configs else [(site, None) for site in found], list(configs)
    once = _without_places(configs)
    for candidates in (configs, once):
        if len(candidates) == len(found):
            return list(zip(found, _in_order(candidates, found), strict=True)), []
    return pair_by_name(once, found)


def pair_by_name(
    configs: Sequence[NormConfig], found: Sequence[NamedWeights]
) -> tuple[list[tuple[NamedWeights, NormConfig | None]], list[NormConfig]]:
    """Return the same as `pair`, by names alone: where weights stand in an order that is not the model's."""
    once = _without_places(configs)
    by_site = _by_name(once, found)
    whole = [site for site in found if site in by_site or site.weights.keys() >= STATISTICS]
    unmatched = [config for config in once if config not in by_site.values()]
    return [(site, by_site.get(site)) for site in whole], unmatched


def _without_places(configs: Sequence[NormConfig]) -> list[NormConfig]:
    """Return `configs` with those taken together that say the same of a layer of the same name at other places."""
    places: dict[NormConfig, list[NormConfig]] = {}
    for config in configs:
        key = replace(config, path=config.path[-1:], training=frozenset(), handed=frozenset(), repeats=None)
        places.setdefault(key, []).append(config)
    return [same[0].with_calls(same) for same in places.values()]


def _in_order(configs: Sequence[NormConfig], found: Sequence[NamedWeights]) -> list[NormConfig]:
    """Return `configs` as they are, unless their names are exactly those of the weights in another order."""
    by_name = {config.path[-1]: config for config in configs}
    tails = [_tail(site) for site in found]
    if by_name.keys() == set(tails) and len(by_name) == len(configs):
        return [by_name[tail] for tail in tails]
    return list(configs)


def _by_name(configs: Sequence[NormConfig], found: Sequence[NamedWeights]) -> dict[NamedWeights, NormConfig]:
    """Match by the whole path, then the layer's own name, its wrapper's, and its own with TensorFlow's number."""
    rules: tuple[Callable[[NormConfig, NamedWeights], object], ...] = (
        lambda config, site: site.prefix == "/".join(config.path),
        lambda config, site: _tail(site) == config.path[-1],
        lambda config, site: _tail(site) in config.path[:-1],
        lambda config, site: re.fullmatch(re.escape(config.path[-1]) + r"_\d+", _tail(site)),
    )
    matched: dict[NamedWeights, NormConfig] = {}
    free, left = list(found), list(configs)
    for rule in rules:
        for config in list(left):
            site = next((site for site in free if rule(config, site)), None)
            if site:
                matched[site] = config
                free.remove(site)
                left.remove(config)
    return matched


def _tail(site: NamedWeights) -> str:
    return site.prefix.rpartition("/")[2]


def owners(architecture: Architecture, names: Sequence[str]) -> dict[str, list[NormConfig]]:
    """Return the batch norms of the configuration by the top-level layer, one of `names`, whose group holds them.

    That is the outermost layer around each that has a group: Keras 1 stored the branches of a Merge one by one. Its
    Sequential, if nested, has no name in the configuration; then its position in `names` gives it one.
    """
    top = [node for node in architecture.root.children if node.attribute == "layers"]
    places = zip(top, names, strict=True) if len(top) == len(names) else ()
    given = {node.name: name for node, name in places if "name" not in node.config}
    known = set(names)
    found: dict[str, list[NormConfig]] = {}
    for config in architecture.norms:
        owner = next((part for part in config.path if part in known), None)
        if owner is not None:
            found.setdefault(owner, []).append(config)
        else:
            owner = given.get(config.path[0], config.path[0])
            found.setdefault(owner, []).append(replace(config, path=(owner, *config.path[1:])))
    return found


def layer_name(owner: str, site: NamedWeights, *, alone: bool) -> str:
    """Name a batch norm that no configuration mentions by the top-level layer and its weights: `convbn/inner_bn`.

    `alone`: it is the only one of its owner, and the owner may itself be the batch norm.
    """
    if not site.prefix or site.prefix == owner:
        return owner
    if alone and re.fullmatch(re.escape(owner) + r"_\d+", site.prefix):
        return owner
    return site.prefix if site.prefix.startswith(f"{owner}/") else f"{owner}/{site.prefix}"
