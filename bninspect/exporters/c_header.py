"""C: a header with the parameters as constant arrays, an index by name, and a function that applies them."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np

from bninspect.arithmetic.formula import Parameters
from bninspect.errors import UsageError
from bninspect.exporters.entries import entries
from bninspect.records import PARAMETERS, Array, Checkpoint, Statistics
from bninspect.safe_text import printable
from bninspect.version import __version__

if TYPE_CHECKING:
    from bninspect.formats.export_metadata import ExportEntry

_PER_LINE = 6

_HEAD = """\
/* The batch norms of {file}, written by bninspect {version}.
   {writer}, SHA-256 {sha256}

   {formula}

   Channels are innermost: x[i] belongs to channel i % channels. C99 or C++. */
#ifndef BNINSPECT_BATCH_NORMS_H
#define BNINSPECT_BATCH_NORMS_H

#include <math.h>
#include <stddef.h>

typedef {real} bn_real;

"""
_UNFOLDED = """\
typedef struct {
    const char *name;
    size_t channels;
    const bn_real *gamma, *beta, *moving_mean, *moving_variance;
    bn_real epsilon;
} bn_layer;

"""
_FOLDED = """\
typedef struct {
    const char *name;
    size_t channels;
    const bn_real *scale, *shift;
} bn_layer;

"""
_APPLY_UNFOLDED = """\

/* count is the number of values in x and y, a multiple of the channels; y may be x. */
static inline void bn_apply(const bn_layer *layer, const bn_real *x, bn_real *y, size_t count)
{{
    for (size_t i = 0; i < count; i++) {{
        size_t c = i % layer->channels;
        bn_real slope = layer->gamma[c] / {sqrt}(layer->moving_variance[c] + layer->epsilon);
        y[i] = (x[i] - layer->moving_mean[c]) * slope + layer->beta[c];
    }}
}}

#endif
"""
_APPLY_FOLDED = """\

/* count is the number of values in x and y, a multiple of the channels; y may be x. */
static inline void bn_apply(const bn_layer *layer, const bn_real *x, bn_real *y, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t c = i % layer->channels;
        y[i] = x[i] * layer->scale[c] + layer->shift[c];
    }
}

#endif
"""


def encode(checkpoint: Checkpoint, *, folded: bool) -> bytes:
    """Return a C header: arrays `bn_<number>_gamma` ..., the table `bn_layers`, and `bn_apply`.

    Numbers are exact: each is the shortest decimal that gives the stored one back. A missing gamma is an array of ones,
    a missing beta one of zeros. Types up to float32 become float; if any layer is float64 all of it is double.

    Raises:
        UsageError: epsilon is unknown, or a layer does not use its moving statistics.
        DamagedFile, BninspectError: as `entries.fold`.
    """
    listed = entries(checkpoint, folded=folded)
    real = "double" if any(entry.dtype == "float64" for entry in listed) else "float"
    formula = (
        "scale[c] * x + shift[c]"
        if folded
        else ("gamma[c] * (x - moving_mean[c]) / sqrt(moving_variance[c] + epsilon) + beta[c]")
    )
    text = _HEAD.format(
        file=_comment(PurePath(checkpoint.path).name),
        version=__version__,
        writer=_comment(checkpoint.writer) or "unknown writer",
        sha256=checkpoint.sha256 or "unknown",
        formula=f"y = {formula}",
        real=real,
    )
    text += _FOLDED if folded else _UNFOLDED
    rows = []
    indices = _indices([entry.layer.name for entry in listed])
    for place, entry in enumerate(listed):
        arrays = dict(entry.arrays) if folded else _unfolded(entry)
        names = {name: f"bn_{place}_{name}" for name in arrays}
        text += f"/* {_comment(entry.layer.name)} */\n"
        text += "".join(_array(names[name], array, real) for name, array in arrays.items())
        epsilon = "" if folded else f", {_number(float(entry.layer.epsilon or 0.0), real)}"
        rows.append(
            f"    {{{_string(entry.layer.name)}, {entry.layer.channels}, {', '.join(names.values())}{epsilon}}},"
        )
    most = max((entry.layer.channels for entry in listed), default=0)
    text += f"#define BN_LAYERS {len(listed)}\n#define BN_MOST_CHANNELS {most}\n"
    text += "/* Places in bn_layers, by the names of the layers. */\n"
    text += "".join(f"#define {name} {place}\n" for place, name in enumerate(indices))
    text += "static const bn_layer bn_layers[] = {\n" + "\n".join(rows) + "\n};\n"
    # No double anywhere in a float header: small processors compute it in software.
    apply = _APPLY_FOLDED if folded else _APPLY_UNFOLDED.format(sqrt="sqrt" if real == "double" else "sqrtf")
    return (text + apply).encode("ascii")


def _indices(names: list[str]) -> list[str]:
    """Return a name of C for the place of each layer, `BN_INDEX_block1_bn`; one that is taken ends in its place."""
    found: list[str] = []
    for place, name in enumerate(names):
        plain = "BN_INDEX_" + re.sub(r"[^A-Za-z0-9_]", "_", name)
        found.append(f"{plain}_at_{place}" if plain in found else plain)
    return found


def _unfolded(entry: ExportEntry) -> dict[str, Array]:
    layer = entry.layer
    if layer.statistics is not Statistics.MOVING:
        raise UsageError(
            f"layer '{printable(layer.name)}' has no mean and variance of its own",
            hint="add --folded, or leave a layer that uses other statistics out with --exclude-layer",
        )
    of = Parameters.of(layer)
    arrays = zip(PARAMETERS, (of.gamma, of.beta, of.mean, of.variance), strict=True)
    return {name: array.reshape(-1) for name, array in arrays}


def _array(name: str, array: Array, real: str) -> str:
    """Return the definition of an array, over several lines."""
    numbers = [_number(float(value), real) for value in array.reshape(-1)]
    lines = (", ".join(numbers[start : start + _PER_LINE]) for start in range(0, len(numbers), _PER_LINE))
    return f"static const bn_real {name}[{len(numbers)}] = {{\n    " + ",\n    ".join(lines) + "};\n"


def _number(value: float, real: str) -> str:
    """Return a number as C writes it, exactly."""
    if np.isnan(value):
        return "NAN"
    if np.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    if real == "double":
        text = repr(value)
        return text if set(text) & set(".e") else f"{text}.0"
    text = str(np.float32(value))
    return (text if set(text) & set(".e") else f"{text}.0") + "f"


def _comment(text: str) -> str:
    """Return text that can end no comment, continue no line, and is ASCII."""
    return re.sub(r"[^ -~]|\\|\*/|/\*|\?\?", "?", printable(text, 120))


def _string(text: str) -> str:
    """Return a C string literal of any text, in UTF-8; every other byte than plain ones is an octal escape."""
    plain = set(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+./: ()[]<>=,;#")
    return '"' + "".join(chr(b) if b in plain else f"\\{b:03o}" for b in text.encode("utf-8", "surrogatepass")) + '"'
