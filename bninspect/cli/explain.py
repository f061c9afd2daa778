"""`bninspect explain`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bninspect.cli import options as shared
from bninspect.cli.config_defaults import Configured
from bninspect.cli.param_types import ModelPath
from bninspect.cli.progress import Progress
from bninspect.safe_text import printable

if TYPE_CHECKING:
    from bninspect.causes.given_text import Typed
    from bninspect.jobs.context import Surroundings
    from bninspect.records import BatchNorm, Checkpoint
    from bninspect.records.explained import Answer, Explained, TrainingStep
    from bninspect.settings import Settings

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
    from bninspect.reports.text import explain

    if options["training"]:
        _check_batch(options)
    checkpoint = None
    others: tuple[BatchNorm, ...] = ()
    with Progress(quiet=options["quiet"]) as progress:
        around = shared.surroundings(context, progress, options["verbose"])
        if options["model"] is not None:
            checkpoint, others = _read(options, around)
        if options["input"] is not None and (checkpoint is not None or options["training"]):
            return shared.show(_of_files(checkpoint, others, options, around), explain, options)
    return shared.show(_of_numbers(checkpoint, options), explain, options)


def _of_numbers(checkpoint: Checkpoint | None, options: dict[str, Any]) -> Answer:
    """Return what there is to say of parameters, and of numbers on the command line."""
    from bninspect.records import explained

    if options["training"]:
        return explained.answer((), _step(None if checkpoint is None else _only(checkpoint), options))
    return explained.answer((_loose(options),) if checkpoint is None else _of_model(checkpoint, options))


def _of_files(
    checkpoint: Checkpoint | None, others: tuple[BatchNorm, ...], options: dict[str, Any], around: Surroundings
) -> Answer:
    """Return what a process of its own says of the arrays in the given files, within its limits."""
    from bninspect.jobs import load
    from bninspect.verdicts.own_runtime.explain_task import GivenFiles

    layers = () if checkpoint is None else checkpoint.layers
    if options["training"]:
        layers = () if checkpoint is None else (_only(checkpoint),)
    else:
        _check_parameters(options)
        if options["output"] is None:
            raise click.UsageError("--input and --output go together")
    files = options["input"], options["output"]
    given = GivenFiles(layers, *files, tuple(options["axis"]), options["channel"], others)
    return load.explain(given, _settings(options), around)


def _check_batch(options: dict[str, Any]) -> None:
    if options["output"] is not None or options["y"] is not None:
        raise click.UsageError("--training says what is stored: do not give outputs with it")
    if (options["input"] is None) == (options["x"] is None):
        raise click.UsageError("--training takes its batch from --input or from --x")


def _check_parameters(options: dict[str, Any]) -> None:
    for name in ("gamma", "beta", "mean", "variance"):
        if options[name] is not None:
            raise click.UsageError(f"--{name} stands in the MODEL: give one or the other")


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

    _check_parameters(options)
    if options["output"] is not None:
        raise click.UsageError("--input and --output go together")
    if options["x"] is None and options["y"] is None:
        channels = None if options["channel"] is None else (options["channel"],)
        return tuple(explanation.shown(layer, channels) for layer in checkpoint.layers)
    layer = _only(checkpoint)
    if options["channel"] is not None:
        layer = explanation.channel_of(layer, options["channel"])
    return (explanation.typed_inputs(layer, _typed(options, "x"), _typed(options, "y")),)


def _step(layer: BatchNorm | None, options: dict[str, Any]) -> TrainingStep:
    from bninspect.arithmetic import training_step

    batch = _required(options, "x").values.reshape(-1, 1)
    return training_step.of_layer(batch, (1,), layer, options["channel"])


def _read(options: dict[str, Any], around: Surroundings) -> tuple[Checkpoint, tuple[BatchNorm, ...]]:
    from bninspect.jobs import load

    return load.load_beside(options["model"], _settings(options), around)


def _settings(options: dict[str, Any]) -> Settings:
    return shared.settings({**options, "input": None})


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
