"""`bninspect explain`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bninspect.cli import options as shared
from bninspect.cli.config_defaults import Configured
from bninspect.cli.param_types import ModelPath
from bninspect.cli.progress import Progress
from bninspect.safe_text import printable

if TYPE_CHECKING:
    from bninspect.causes.given_text import Typed
    from bninspect.records import BatchNorm, Checkpoint
    from bninspect.records.explained import Explained, TrainingStep

_FILE = click.Path(exists=True, dir_okay=False)


@click.command(
    "explain", cls=Configured, short_help="Show the arithmetic with its numbers; say which formula gave an output."
)
@click.argument("model", required=False, type=ModelPath())
@shared.selecting
@click.option("--channel", type=click.IntRange(min=0), metavar="K", help="This channel of the layer only.")
@click.option("--gamma", metavar="NUMBERS", help="One for each channel: 1.5 or 1.5,0.5; 1 without it.")
@click.option("--beta", metavar="NUMBERS", help="0 without it.")
@click.option("--mean", metavar="NUMBERS", help="The moving mean.")
@click.option("--variance", metavar="NUMBERS", help="The moving variance.")
@click.option("--x", metavar="NUMBERS", help="Inputs of one channel, or one input for each.")
@click.option("--y", metavar="NUMBERS", help="What some code computed for them.")
@click.option("--input", type=_FILE, metavar="FILE", help="Inputs as .npy, or .npz with an array for each layer.")
@click.option("--output", type=_FILE, metavar="FILE", help="What some code computed for them.")
@click.option("--axis", type=int, multiple=True, help="Axis of the channels in --input; repeatable.")
@click.option("--training", is_flag=True, help="Take --input (or --x) for a training batch: what will be stored?")
@shared.answering
@click.pass_context
def command(context: click.Context, /, **options: Any) -> int:
    """Show the arithmetic of batch normalisation with its numbers in it, and say which formula gave an output.

    \b
    bninspect explain --gamma 1.2 --beta 0.1 --mean 0.5 --variance 4 --epsilon 1e-3 --x 2.5 --y 1.299
    bninspect explain model.h5 --layer bn1 --channel 3
    bninspect explain model.h5 --layer bn1 --input x.npy --output y.npy
    bninspect explain model.h5 --layer bn1 --training --input batch.npy

    Ends with 1 if an output is not what the formula gives, and with 3 if that depends on an epsilon that is not known.
    """  # noqa: D301 - \b is the character by which click keeps line ends
    from bninspect.records import explained
    from bninspect.reports.text import explain

    layers: tuple[Explained, ...] = ()
    if options["model"] is None:
        step = _step(None, options) if options["training"] else None
        layers = () if step else (_loose(options),)
    else:
        with Progress(quiet=options["quiet"]) as progress:
            checkpoint = _read(options, shared.surroundings(context, progress, options["verbose"]))
        step = _step(_only(checkpoint), options) if options["training"] else None
        layers = () if step else _of_model(checkpoint, options)
    return shared.show(explained.answer(layers, step), explain, options)


def _loose(options: dict[str, Any]) -> Explained:
    from bninspect.causes import explanation

    for name in ("input", "output", "layer", "channel"):
        if options[name]:
            raise click.UsageError(f"--{name} needs a MODEL")
    if options["mean"] is None or options["variance"] is None:
        raise click.UsageError("give a MODEL, or --mean and --variance")
    return explanation.loose(
        gamma=_typed(options, "gamma"),
        beta=_typed(options, "beta"),
        mean=_required(options, "mean"),
        variance=_required(options, "variance"),
        epsilon=options["epsilon"][0].value if options["epsilon"] else None,
        x=_typed(options, "x"),
        y=_typed(options, "y"),
    )


def _of_model(checkpoint: Checkpoint, options: dict[str, Any]) -> tuple[Explained, ...]:
    from bninspect.causes import explanation
    from bninspect.verdicts.own_runtime import given_files

    for name in ("gamma", "beta", "mean", "variance"):
        if options[name] is not None:
            raise click.UsageError(f"--{name} stands in the MODEL: give one or the other")
    if (options["input"] is None) != (options["output"] is None):
        raise click.UsageError("--input and --output go together")
    if options["input"] is not None:
        paths = Path(options["input"]), Path(options["output"])
        return given_files.explained(checkpoint.layers, *paths, options["axis"])
    if options["x"] is None and options["y"] is None:
        channels = None if options["channel"] is None else (options["channel"],)
        return tuple(explanation.shown(layer, channels) for layer in checkpoint.layers)
    layer = _only(checkpoint)
    if options["channel"] is not None:
        layer = explanation.channel_of(layer, options["channel"])
    return (explanation.typed_inputs(layer, _typed(options, "x"), _typed(options, "y")),)


def _step(layer: BatchNorm | None, options: dict[str, Any]) -> TrainingStep:
    import numpy as np

    from bninspect.arithmetic import training_step
    from bninspect.formats.encodings import npy
    from bninspect.verdicts.own_runtime import given_files

    axis: tuple[int, ...] = (1,)
    if options["output"] is not None or options["y"] is not None:
        raise click.UsageError("--training says what is stored: it takes no outputs")
    typed = _typed(options, "x")
    if (options["input"] is None) == (typed is None):
        raise click.UsageError("--training takes its batch from --input or from --x")
    if typed is not None:
        batch = typed.values.reshape(-1, 1)
    else:
        arrays = npy.read(Path(options["input"]))
        if len(arrays) != 1:
            raise click.UsageError(f"--input holds {len(arrays)} arrays: a training step takes one batch")
        (batch,) = arrays.values()
        named = tuple(options["axis"]) or ((layer.axis if layer else None) or (-1,))
        axis = given_files.normalised(batch, named)
    return training_step.step(
        np.asarray(batch),
        axis,
        moving_mean=layer.moving_mean if layer else None,
        moving_variance=layer.moving_variance if layer else None,
        momentum=layer.momentum if layer else None,
        epsilon=layer.epsilon if layer else None,
        channels=None if options["channel"] is None else (options["channel"],),
    )


def _read(options: dict[str, Any], around: Any) -> Checkpoint:
    from bninspect.jobs import pipeline

    return pipeline.load(options["model"], shared.settings({**options, "input": None}), around)


def _only(checkpoint: Checkpoint) -> BatchNorm:
    if len(checkpoint.layers) != 1:
        names = ", ".join(printable(layer.name) for layer in checkpoint.layers[:5])
        raise click.UsageError(f"{len(checkpoint.layers)} layers are chosen, one is needed: --layer ({names} ...)")
    return checkpoint.layers[0]


def _typed(options: dict[str, Any], name: str) -> Typed | None:
    from bninspect.causes import given_text as typed

    text = options[name]
    # What some code returned was never chosen, and may be known to more digits than float32 holds.
    return None if text is None else typed.numbers(text, chosen=name != "y", single=name != "y")


def _required(options: dict[str, Any], name: str) -> Typed:
    found = _typed(options, name)
    assert found is not None  # noqa: S101 - checked before
    return found
