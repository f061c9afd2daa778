"""Batch norms that no configuration describes, found by their arrays and by whatever names there are.

A weights file has no configuration, and a `.keras` file has none for what a custom layer or a subclassed model makes
inside. What decides, in this order:

1. The last component of the path is the class: `batch_normalization[_n]` is a batch norm.
2. That component or the object's name speak of another normalisation (`layer_normalization`, `group_norm`, `ln1` ...):
   it is none, whatever its arrays.
3. They speak of batch norm (`sync_batch_normalization`, `bn2`, `head_bn` ...): it is one if its arrays are two to
   seven and all of one shape.
4. Nothing speaks: four arrays of one length, the last of them, the variance, nowhere negative, are one, and a note
   says so. What comes close (two or three such arrays, or a negative fourth) is only noted with the checkpoint.

The last two arrays are mean and variance. Two before them are gamma and beta; of one before them the file does not tell
which it is: `BatchNorm.undecided`. Batch renormalisation has three more of the same shape behind these
(moving_stddev, renorm_mean, renorm_stddev), which inference does not use.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from bninspect.errors import DamagedFile, UnreadableFile
from bninspect.formats.containers.hdf5_ahead import prepare_arrays
from bninspect.formats.keras.saved_objects import FLOATS, Saved
from bninspect.records import PARAMETERS, BatchNorm

RENORM = 3
ROLES = {2: PARAMETERS[2:], 3: ("undecided", *PARAMETERS[2:]), 4: PARAMETERS}
"""What the arrays of a batch norm are, by their number, those of batch renormalisation not counted."""

_CLASS = re.compile(r"batch_normalization(_\d+)?")
_OTHER = re.compile(
    r"(layer|group|instance|rms|unit|spectral|weight)_?norm|(?<![a-z])(ln|gn)\d*(?![a-z])", re.IGNORECASE
)
_HINT = re.compile(r"batch_?norm|(?<![a-z])bn\d*(?![a-z])", re.IGNORECASE)


def discover(objects: Iterable[Saved]) -> tuple[dict[str, BatchNorm], tuple[str, ...]]:
    """Return the batch norms among `objects`, by path, and a note on each object that only comes close.

    A layer is called by the path of its group; epsilon, momentum, axis and flags are unknown.

    Raises:
        DamagedFile: an object of the class BatchNormalization has arrays that are not those of a batch norm.
    """
    layers: dict[str, BatchNorm] = {}
    notes: list[str] = []
    objects = list(objects)
    prepare_arrays((group, name) for saved in objects if _named(saved) for name, group in saved.homes.items())
    for saved in objects:
        named = _named(saved)
        if named is False or not saved.homes:
            continue
        if not _alike(saved):
            _check_class(saved)
        elif named:
            layers[saved.path] = _layer(saved)
        elif len(saved.shape(0) or ()) == 1 and len(saved.homes) in ROLES:
            count, negative = len(saved.homes), int((saved.array(len(saved.homes) - 1) < 0).sum())
            if count == 4 and not negative:
                layers[saved.path] = _layer(saved, "recognised by its four arrays alone: nothing names it")
            elif count == 4 or not negative:
                why = f"its last array has {negative} negative values" if negative else "nothing names it"
                notes.append(f"{saved.location} may be a batch norm and is left out: {count} arrays, {why}")
    return layers, tuple(notes)


def _named(saved: Saved) -> bool | None:
    """Return what the names say: a batch norm, another kind of layer, or (None) nothing."""
    component = saved.path.rpartition("/")[2]
    if _CLASS.fullmatch(component):
        return True
    words = f"{component} {saved.name or ''}"
    return False if _OTHER.search(words) else bool(_HINT.search(words)) or None


def _alike(saved: Saved) -> bool:
    """Return whether there are as many arrays as a batch norm has, of one shape and of floating-point numbers."""
    count = saved.count
    if count is None or not 2 <= count <= max(ROLES) + RENORM:
        return False
    shape = saved.shape(0)
    if not shape or any(saved.shape(number) != shape for number in range(1, count)):
        return False
    try:
        return FLOATS.issuperset(saved.kinds)
    except UnreadableFile:  # Booleans, for instance, of which a custom layer may have masks.
        return False


def _check_class(saved: Saved) -> None:
    if _CLASS.fullmatch(saved.path.rpartition("/")[2]):
        raise DamagedFile(
            f"{next(iter(saved.homes.values())).label} contradicts itself",
            why=f"{saved.location} holds arrays {', '.join(saved.homes)}, which are not those of a batch norm",
        )


def _layer(saved: Saved, note: str = "") -> BatchNorm:
    count = len(saved.homes)
    roles = ROLES[count if count in ROLES else count - RENORM]
    if "undecided" in roles:
        note = "the file does not say whether the first array is gamma or beta"
    return BatchNorm(name=saved.path, notes=(note,) if note else (), **saved.parameters(roles))
