"""A model whose graph names every value, through which data streams: what arrives at its batch norms is fetched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bninspect.records import Array, Arrival, Checkpoint
from bninspect.runtimes.runtime import Input, Receive, Session, Stream
from bninspect.runtimes.session import CallSite, as_taken

Fetch = Callable[[Mapping[str, Array], Sequence[str]], Mapping[str, Array]]
"""Runs the model on input by name, and returns the named values."""


def of_sites(session: Session, sites: Sequence[CallSite], unobserved: Mapping[str, str], fetch: Fetch) -> Stream:
    """Return the stream of a model that has been loaded.

    Args:
        session: the model.
        sites: where its batch norms are called.
        unobserved: layers that cannot be seen, and why.
        fetch: runs it. Raises RuntimeFailure.
    """
    taken = session.inputs

    def forward(data: Mapping[str, Array], receive: Receive, until: frozenset[str] | None = None) -> None:
        asked = [site for site in sites if until is None or site.layer.name in until]
        values = fetch(fed(taken, data), list(dict.fromkeys(site.x for site in asked)))
        for site in asked:
            x = values[site.x]
            receive(Arrival(site.layer.name, x, axes(site, x.ndim)))

    def held(data: Mapping[str, Array]) -> int:
        values = fetch(fed(taken, data), list(dict.fromkeys(site.x for site in sites)))
        return sum(values[site.x].nbytes for site in sites)

    return Stream(
        session.title, taken, forward, dict(unobserved), (), session.environment, held=held if sites else None
    )


def fed(taken: tuple[Input, ...], data: Mapping[str, Array]) -> Mapping[str, Array]:
    """Return data in the types that the inputs take; as it is if the model does not say what it takes."""
    return {described.name: as_taken(data[described.name], described) for described in taken} or data


def axes(site: CallSite, rank: int) -> tuple[int, ...]:
    """Return the axes of the channels of what arrives, counted from the front; the second if the file does not say."""
    return tuple(axis % rank for axis in site.layer.axis or (1,))


def wanted(sites: Sequence[CallSite], checkpoint: Checkpoint) -> tuple[CallSite, ...]:
    """Return the sites of the layers that a file is said to hold."""
    names = {layer.name for layer in checkpoint.layers}
    return tuple(site for site in sites if site.layer.name in names)
