"""What layers are called where nobody wrote it down: after the scope of their variables, or of their operations.

Also which variables belong together as a batch norm by their names alone: in checkpoints of names, and among variables
that no operation uses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

# Names of the two statistics, as Keras, TF-Slim, hand-written code and tensorpack call them. The third and fourth
# are what tf.train.ExponentialMovingAverage makes of the results of tf.nn.moments, in newer and in older versions.
_PAIRS = (
    ("moving_mean", "moving_variance"),
    ("moving_mean", "moving_var"),
    ("moments/Squeeze/ExponentialMovingAverage", "moments/Squeeze_1/ExponentialMovingAverage"),
    ("moments/mean/ExponentialMovingAverage", "moments/variance/ExponentialMovingAverage"),
    (
        "moments/normalize/mean/ExponentialMovingAverage",
        "moments/normalize/variance/ExponentialMovingAverage",
    ),
    ("pop_mean", "pop_variance"),
    ("pop_mean", "pop_var"),
    ("running_mean", "running_variance"),
    ("running_mean", "running_var"),
    ("mean/EMA", "variance/EMA"),
)
_COUNTED = re.compile(r"(_\d+)?\Z")
_CALL = re.compile(r"(Stateful)?PartitionedCall(_\d+)?")
_OWN_SCOPE = re.compile(r"batchnorm(_\d+)?|FusedBatchNorm\w*|moments(_\d+)?|BatchNorm/?Op\w*|cond(_\d+)?|If")

NAMELESS = "batch_norm"
GAMMAS = ("gamma", "scale")
BETAS = ("beta", "offset")


def common_scope(names: Iterable[str]) -> str:
    """Return the scope that variables share: `net/bn` of `net/bn/gamma` and `net/bn/beta`; empty if there is none."""
    scopes = [name.split("/")[:-1] for name in names]
    if not scopes:
        return ""
    shared = []
    for parts in zip(*scopes, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return "/".join(shared)


def scope_of(operation: str) -> str:
    """Return the scope of an operation without those that a batch norm opens itself: `bn` of `bn/batchnorm/add_1`."""
    parts = [part for part in operation.split("/")[:-1] if not _CALL.fullmatch(part)]
    while len(parts) > 1 and _OWN_SCOPE.fullmatch(parts[-1]):
        parts.pop()
    return "/".join(parts) or operation.rpartition("/")[2]


def natural(path: str) -> list[tuple[int, int | str]]:
    """Return a key by which `layer-10` sorts after `layer-9`."""
    pieces = re.split(r"(\d{1,18})", path)
    return [(0, int(piece)) if piece.isdecimal() and piece.isascii() else (1, piece) for piece in pieces if piece]


def norms(names: Iterable[str]) -> dict[str, Mapping[str, str]]:
    """Return the batch norms among variables: by their scope, the names of gamma, beta and statistics.

    Keras 3 counts variables of one name: `bn/gamma_3` belongs to `bn/moving_variance_3`.
    """
    known = set(names)
    found: dict[str, Mapping[str, str]] = {}
    for name in sorted(known, key=natural):
        for mean, variance in _PAIRS:
            stem, count = _uncounted(name)
            scope = stem[: -len(variance)]
            partner = scope + mean + count
            if not stem.endswith(variance) or (scope and not scope.endswith("/")) or partner not in known:
                continue
            parts = {"moving_mean": partner, "moving_variance": name}
            home = scope.rstrip("/")
            beside = _beside(home, count, known)
            # What ExponentialMovingAverage names lies a scope or two deeper than the layer itself.
            while not beside and "/" in variance and "/" in home:
                home = home.rpartition("/")[0]
                beside = _beside(home, count, known)
            parts |= beside
            title = home if beside else scope.rstrip("/")
            found.setdefault((title or NAMELESS) + count, parts)
            break
    return found


def _uncounted(name: str) -> tuple[str, str]:
    for _, variance in _PAIRS:
        if name.endswith(variance):
            return name, ""
    match = _COUNTED.search(name)
    count = match[0] if match else ""
    return name[: len(name) - len(count)], count


def _beside(scope: str, count: str, known: set[str]) -> dict[str, str]:
    """Return gamma and beta in a scope, as far as they are there."""
    found = {}
    for standard, options in (("gamma", GAMMAS), ("beta", BETAS)):
        names = [f"{scope}/{option}{count}".lstrip("/") for option in options]
        present = next((name for name in names if name in known), None)
        if present is not None:
            found[standard] = present
    return found


def averaged(names: Mapping[str, str], known: Iterable[str]) -> bool:
    """Return whether a checkpoint also holds moving averages of a layer's own gamma or beta."""
    there = set(known)
    return any(f"{names[key]}/ExponentialMovingAverage" in there for key in ("gamma", "beta") if key in names)
