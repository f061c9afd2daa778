"""From the places where a graph normalises, and from the variables around them, to the layers that a user knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bninspect.formats.algebra import Leaf
from bninspect.formats.norm_names import distinct
from bninspect.formats.tensorflow import scopes as names
from bninspect.formats.tensorflow import unused_variables
from bninspect.formats.tensorflow.graph.expressions import is_filled_in
from bninspect.formats.tensorflow.graph.flatten import FlatGraph
from bninspect.formats.tensorflow.keras_metadata import KerasNorm
from bninspect.formats.tensorflow.norms import graph_search
from bninspect.formats.tensorflow.norms.site import NormSite, axes_of, checked_epsilon
from bninspect.formats.tensorflow.variables import Variables
from bninspect.records import PARAMETERS, Array, BatchNorm, Statistics
from bninspect.safe_text import printable

_NEUTRAL = {"gamma": 1.0, "beta": 0.0}


@dataclass(frozen=True, eq=False)
class Searched:
    """A signature's flat graph and the batch norms in it."""

    signature: str
    graph: FlatGraph
    found: graph_search.SearchResult


@dataclass(frozen=True, eq=False)
class Located:
    """A layer, and where a graph normalises with its parameters."""

    layer: BatchNorm
    sites: Mapping[str, tuple[NormSite, ...]] = field(default_factory=dict)
    """By signature."""


@dataclass(frozen=True)
class _Identity:
    """What makes two sites calls of one layer: the same parameters and the same epsilon.

    Parameters are the same if the nodes that hold them are the same in the file: where two signatures, or two calls,
    lead to one function, its constants have different names in the flat graphs.
    """

    sources: frozenset[tuple[str, tuple[int, ...]]]
    epsilon: float | None
    node: int = 0
    """The node itself, of a batch norm without any parameters."""

    @classmethod
    def of(cls, site: NormSite, graph: FlatGraph) -> _Identity:
        own = {name: leaf for name, leaf in site.parameters.items() if not _is_filled_in(leaf, graph)}
        nodes = {
            (name, tuple(id(graph.nodes[source].node) for source in leaf.sources))
            for name, leaf in (own or site.parameters).items()
        }
        return cls(frozenset(nodes), site.epsilon, 0 if nodes else id(graph.nodes[site.nodes[-1]].node))


@dataclass(frozen=True, eq=False)
class _Group:
    identity: _Identity
    graph: FlatGraph
    signature: str
    sites: dict[str, tuple[NormSite, ...]]

    @property
    def first(self) -> NormSite:
        return self.sites[self.signature][0]


def located(searched: Sequence[Searched], variables: Variables, keras: Sequence[KerasNorm] = ()) -> tuple[Located, ...]:
    """Return every layer: those that a signature reaches, in the graph's order, then those that none reaches.

    Args:
        searched: the signatures, the default one first: what it says of a layer counts.
        variables: the values.
        keras: what Keras 2 says of its layers.

    Raises:
        UnreadableFile: a value is damaged.
    """
    groups = _merged(_grouped(searched))
    described = _described(groups, variables, keras)
    titles = _titles(groups, described, variables)
    layers = []
    used: set[str] = set()
    for group, title in zip(groups, titles, strict=True):
        norm = described.get(group.identity)
        statistics = _statistics(group, variables, norm)
        layer = _with_statistics(_layer(group, title, variables, norm), statistics, variables)
        used.update(_keys(group, variables).values(), statistics.values())
        layers.append(Located(layer, group.sites))
    known = {located.layer.name for located in layers}
    signature = searched[0].signature if searched else ""
    rest = unused_variables.unused(variables, keras, frozenset(used), signature)
    layers += [one for one in _folded(searched) if one.layer.name not in known]
    return tuple(_renamed([*layers, *(Located(layer) for layer in rest)]))


def _grouped(searched: Sequence[Searched]) -> list[_Group]:
    groups: dict[_Identity, _Group] = {}
    for one in searched:
        for site in one.found.sites:
            identity = _Identity.of(site, one.graph)
            group = groups.setdefault(identity, _Group(identity, one.graph, one.signature, {}))
            group.sites[one.signature] = (*group.sites.get(one.signature, ()), site)
    return list(groups.values())


def _merged(groups: list[_Group]) -> list[_Group]:
    """Join the calls by batch statistics of a layer to those by its moving ones: they use a part of its parameters."""
    whole = [group for group in groups if group.first.statistics is Statistics.MOVING]
    rest = []
    for group in groups:
        if group in whole:
            continue
        mine = [norm for norm in whole if group.identity.sources and group.identity.sources <= norm.identity.sources]
        if not mine:
            rest.append(group)
        for signature, sites in group.sites.items() if mine else ():
            mine[0].sites[signature] = (*mine[0].sites.get(signature, ()), *sites)
    return [group for group in groups if group in whole or group in rest]


def _described(
    groups: Iterable[_Group], variables: Variables, keras: Iterable[KerasNorm]
) -> Mapping[_Identity, KerasNorm]:
    """Return what Keras says of each group: that of the layer with one of its variables."""
    by_key = {key: norm for norm in keras for key in norm.keys.values()}
    found = {}
    for group in groups:
        norm = next((by_key[key] for key in _keys(group, variables).values() if key in by_key), None)
        if norm is not None:
            found[group.identity] = norm
    return found


def _titles(groups: Sequence[_Group], described: Mapping[_Identity, KerasNorm], variables: Variables) -> list[str]:
    """Return the name of each group: Keras' own, or a scope, of its variables or keys if it alone has it."""
    of_variables = [
        names.common_scope(group.graph.nodes[leaf.sources[0]].node.name for leaf in _named_leaves(group))
        for group in groups
    ]
    stored = [[key for leaf in _named_leaves(group) for key in variables.keys(group.graph, leaf)] for group in groups]
    of_keys = list(map(unused_variables.scope, stored))
    titles = []
    for number, group in enumerate(groups):
        norm = described.get(group.identity)
        own = [scopes[number] for scopes in (of_variables, of_keys) if scopes.count(scopes[number]) == 1]
        known = [norm.layer.name if norm is not None else "", *own, names.scope_of(group.first.name), names.NAMELESS]
        titles.append(next(title for title in known if title))
    return list(distinct(titles, "#"))


def _named_leaves(group: _Group) -> list[Leaf]:
    leaves = group.first.parameters.values()
    return [leaf for leaf in leaves if not _is_filled_in(leaf, group.graph)] or list(leaves)


def _is_filled_in(leaf: Leaf, graph: FlatGraph) -> bool:
    """Return whether an operation was only given a constant because it must have one."""
    nodes = [graph.nodes[source] for source in leaf.sources]
    return all(node.op in ("Const", "Fill") and is_filled_in(node.node.name) for node in nodes)


def _keys(group: _Group, variables: Variables) -> dict[str, str]:
    """Return where each parameter's values are, by standard name."""
    parameters = group.first.parameters
    return {name: variables.keys(group.graph, parameters[name])[0] for name in PARAMETERS if name in parameters}


def _layer(group: _Group, title: str, variables: Variables, norm: KerasNorm | None) -> BatchNorm:
    site, graph = group.first, group.graph
    arrays: dict[str, Any] = {}
    notes = list(site.notes)
    for name, leaf in site.parameters.items():
        values = variables.value(graph, leaf)
        if values is None:
            notes.append(f"the file holds no values for its {name}: {printable(leaf.sources[0])}")
        elif not (_is_filled_in(leaf, graph) and (values == _NEUTRAL.get(name)).all()):
            arrays[name] = unused_variables.per_channel(values)
    if site.hidden:
        notes.append(f"it is {site.hidden}: its input and output cannot be observed")
    if site.statistics is Statistics.MOVING and any(
        one.statistics is not Statistics.MOVING for sites in group.sites.values() for one in sites
    ):
        notes.append("another call of it normalises by the statistics of the batch")
    stated = norm.layer if norm is not None else BatchNorm(title, scale="gamma" in arrays, center="beta" in arrays)
    epsilon, contradiction = _epsilon(site, stated.epsilon)
    types = {variables.dtype(graph, site.parameters[name]) for name in PARAMETERS if name in arrays}
    return replace(
        stated,
        name=title,
        **arrays,
        epsilon=epsilon,
        axis=stated.axis or site_axis(site, _shaping(site, graph, variables)),
        dtype="+".join(sorted(types - {""})) or "float32",
        location=unused_variables.location(
            {name: key for name, key in _keys(group, variables).items() if name in arrays}
        ),
        statistics=site.statistics,
        epsilon_source=None if epsilon is None else "file",
        notes=(*notes, *contradiction),
        outside_root=site.outside_root,
    )


def _shaping(site: NormSite, graph: FlatGraph, variables: Variables) -> Array | None:
    leaf = next((site.parameters[name] for name in reversed(PARAMETERS) if name in site.parameters), None)
    return None if leaf is None else variables.value(graph, leaf)


def site_axis(site: NormSite, values: Array | None) -> tuple[int, ...]:
    """Return the axes of x that the parameters run along, -1 for the last: as the graph says, else by their shape."""
    if site.axis is not None:
        return site.axis
    return (-1,) if values is None or values.ndim < 2 else axes_of(values.shape)


def _epsilon(site: NormSite, stated: float | None) -> tuple[float | None, tuple[str, ...]]:
    """Return the epsilon that the graph computes with; as Keras writes it, if that is the same to the kernel."""
    computed = checked_epsilon(site.epsilon)
    if stated is None or computed is None:
        return computed, ()
    kernel = np.float64 if site.arithmetic == "float64" else np.float32
    if kernel(stated) == kernel(computed):
        return stated, ()
    return computed, (f"its configuration says epsilon {stated:g}, the graph computes with {computed:g}",)


def _statistics(group: _Group, variables: Variables, norm: KerasNorm | None) -> Mapping[str, str]:
    """Return the keys of the moving statistics of a layer that normalises by those of the batch.

    The graph does not lead to them: they are those of its Keras layer, or beside its gamma or beta.
    """
    if group.first.statistics is Statistics.MOVING:
        return {}
    keys = dict(norm.keys) if norm is not None else {}
    nodes = {group.graph.nodes[leaf.sources[0]].node.name for leaf in group.first.parameters.values()}
    for parts in names.norms(variables.restored).values():
        if not keys and nodes & set(parts.values()):
            keys = {name: variables.restored[node].key for name, node in parts.items()}
    return {name: keys[name] for name in ("moving_mean", "moving_variance") if name in keys}


def _with_statistics(layer: BatchNorm, keys: Mapping[str, str], variables: Variables) -> BatchNorm:
    if variables.store is None or not keys:
        return layer
    arrays = {name: unused_variables.per_channel(variables.store.read(key)) for name, key in keys.items()}
    return replace(layer, moving_mean=arrays.get("moving_mean"), moving_variance=arrays.get("moving_variance"))


def _folded(searched: Iterable[Searched]) -> list[Located]:
    """Return what was a batch norm before somebody optimised the graph: its parameters are gone."""
    found: dict[str, Located] = {}
    for one in searched:
        for folded in one.found.folded:
            title = names.scope_of(folded.name)
            note = f"it was folded into {folded.into}: gamma, beta and statistics are no longer in the file"
            layer = BatchNorm(title, location=folded.name, statistics=Statistics.FOLDED, notes=(note,))
            found.setdefault(title, Located(layer))
    return list(found.values())


def _renamed(layers: Sequence[Located]) -> list[Located]:
    titles = distinct((layer.layer.name for layer in layers), "#")
    return [replace(one, layer=replace(one.layer, name=title)) for one, title in zip(layers, titles, strict=True)]
