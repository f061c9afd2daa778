"""Options of how a runtime runs a model."""

from __future__ import annotations

from collections import Counter

import click

from bninspect.cli import complete_values
from bninspect.cli.options import group
from bninspect.cli.param_types import Finite, shape
from bninspect.safe_text import printable

_TOLERANCE = Finite(min=0)
_Shapes = tuple[tuple[str, tuple[int, ...]], ...]


def _once_each(context: click.Context, option: click.Parameter, given: _Shapes) -> _Shapes:
    """Return the shapes. Raises BadParameter if two are for the same input: one of them would win in silence."""
    for name, times in Counter(name for name, _ in given).items():
        if times > 1:
            twice = f"given twice for input {printable(name)!r}" if name else "given twice without the name of an input"
            raise click.BadParameter(f"it is {twice}", context, option)
    return given


loading = group(
    click.option(
        "--runtime",
        metavar="NAME",
        shell_complete=complete_values.runtimes,
        help="Run the model in this runtime only, one of those that `doctor` lists.",
    ),
    click.option("--signature", metavar="NAME", help="Signature of a SavedModel to run; the default one without it."),
    click.option(
        "--tag",
        metavar="TAG",
        help="Tag of the graph to run, of a SavedModel that holds several; serve without it.",
    ),
    click.option(
        "--trust",
        is_flag=True,
        help="Run a model that holds code (Lambda, custom classes): only if you know where it comes from.",
    ),
    click.option(
        "--import",
        metavar="MODULE",
        multiple=True,
        help="With --trust: import this module, which registers the model's custom classes; repeatable. "
        "Python must find it: name its folder in PYTHONPATH.",
    ),
)
"""Options of how a runtime loads a model."""

running = group(
    loading,
    click.option(
        "--input",
        "input",
        type=click.Path(exists=True, dir_okay=False),
        metavar="FILE",
        help="The model's input, .npy or .npz; seeded random numbers without it. With --against it is in the layout "
        "of the export, and the model gets it in its own.",
    ),
    click.option(
        "--input-shape",
        type=shape,
        multiple=True,
        callback=_once_each,
        metavar="[NAME=]DIMS",
        help="Shape of an input, batch first: 1,224,224,3; repeatable.",
    ),
    click.option(
        "--precision",
        type=click.Choice(("float64", "float32", "float16", "bfloat16")),
        help="Fail if the runtime computes with less precision than this by default.",
    ),
    click.option("--rtol", type=_TOLERANCE, help="With --atol: judge by these instead of the derived bound."),
    click.option("--atol", type=_TOLERANCE, help="With --rtol: judge by these instead of the derived bound."),
    click.option(
        "--training",
        is_flag=True,
        help="Also replay one training step: batch moments, output, and both moving updates.",
    ),
    click.option(
        "--accept",
        type=click.Choice(("layer", "numbers")),
        multiple=True,
        help="Count as verified what has less evidence: a layer that agrees alone, outside its model; with --against, "
        "numbers that agree where one of the files holds weights alone. Repeatable.",
    ),
    click.option(
        "--seed",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="Seed of the random input.",
    ),
)
"""Options of how a runtime runs the model."""
