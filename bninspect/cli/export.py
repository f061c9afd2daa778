"""`bninspect export`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bninspect.cli import options as shared
from bninspect.cli.config_defaults import Configured
from bninspect.cli.messages import say
from bninspect.cli.param_types import ModelPath
from bninspect.cli.progress import Progress
from bninspect.errors import UsageError
from bninspect.safe_text import printable
from bninspect.stores import names

if TYPE_CHECKING:
    from bninspect.records import Checkpoint

FORMATS = ("npz", "json", "csv", "safetensors", "torch", "torch-npz", "onnx", "tflite", "c")


@click.command("export", cls=Configured, short_help="Write the parameters to npz, json, safetensors, ONNX, C ...")
@click.argument("model", type=ModelPath())
@shared.selecting
@click.option("-f", "--format", type=click.Choice(FORMATS), required=True, help="Format of the export.")
@click.option(
    "-o", "--output", metavar="FILE", help="Where to write it; - is standard output.  [default: MODEL's name here]"
)
@click.option("--folded", is_flag=True, help="Scale and shift of y = scale * x + shift instead of the parameters.")
@shared.handing_on
@click.pass_context
def command(context: click.Context, /, **options: Any) -> int:
    """Hand the parameters of a model's batch norms on: gamma, beta, moving_mean, moving_variance, epsilon, axis.

    Arrays keep their stored type. The file is written whole or not at all.
    """
    shared.prestart(options, options["model"])
    from bninspect import atomic_files, exporters
    from bninspect.jobs.load import load

    exporter = next(one for one in exporters.EXPORTERS if one.name == options["format"])
    source = Path(names.public(options["model"]) if names.is_url(options["model"]) else options["model"])
    target = options["output"] or f"{source.name.removesuffix(source.suffix)}{exporter.suffix}"
    pickled = (".pt", ".pth", ".bin", ".ckpt")
    if options["format"] in {"torch", "torch-npz"} and target.lower().endswith(pickled):
        raise UsageError(
            f"{printable(target)} would not be what its name says",
            why=f"-f {options['format']} writes {exporter.suffix}, and torch.load reads pickles",
            hint=f"-o {printable(str(Path(target).with_suffix(exporter.suffix)))}",
        )
    if target != "-":
        atomic_files.check_target(Path(target), force=options["force"], inputs=(source,))
    with Progress(quiet=options["quiet"]) as progress:
        around = shared.surroundings(context, progress, options["verbose"])
        checkpoint = load(options["model"], shared.settings(options), around)
    data = exporter.encode(checkpoint, folded=options["folded"])
    if target == "-":
        sys.stdout.buffer.write(data)
    else:
        atomic_files.write_whole(Path(target), data, force=options["force"], inputs=(source,))
    if not options["quiet"]:
        _tell(checkpoint, target, exporter.lacks(checkpoint))
    return 0


def _tell(checkpoint: Checkpoint, target: str, lacks: tuple[str, ...]) -> None:
    channels = sum(layer.channels for layer in checkpoint.layers)
    place = "standard output" if target == "-" else printable(target)
    count = len(checkpoint.layers)
    say(f"wrote {count} batch-norm layer{'' if count == 1 else 's'}, {channels} channels to {place}")
    unknown = [layer.name for layer in checkpoint.layers if layer.epsilon is None]
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        say(f"note: epsilon is unknown for {printable(unknown[0])}{more}: the file does not hold it")
        say("  hint: --epsilon VALUE supplies it")
    for note in (*lacks, *checkpoint.notes):
        say(f"note: {printable(note, 500)}")
