"""`bninspect vectors`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bninspect.cli import options as shared
from bninspect.cli.config_defaults import Configured
from bninspect.cli.messages import say
from bninspect.cli.param_types import ModelPath
from bninspect.cli.progress import Progress
from bninspect.safe_text import printable
from bninspect.stores import names


@click.command("vectors", cls=Configured, short_help="Write inputs and right outputs to test a runtime of your own.")
@click.argument("model", type=ModelPath())
@shared.selecting
@click.option("-o", "--output", metavar="FILE", required=True, help="The .npz file to write.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the random inputs.")
@shared.handing_on
@click.pass_context
def command(context: click.Context, /, **options: Any) -> int:
    """Write inputs for every batch norm of a model, what a right runtime returns for them, and how far it may be off.

    Run your own batch norm on <layer>/x, write what it returns as <layer>/y with numpy.savez, and ask
    `bninspect verify MODEL --against outputs.npz`. The file says the rest: numpy.load(FILE)["__readme__"].
    """
    shared.prestart(options, options["model"])
    from bninspect import atomic_files
    from bninspect.jobs.load import load
    from bninspect.verdicts.own_runtime import vectors

    shown = names.public(options["model"]) if names.is_url(options["model"]) else options["model"]
    source, target = Path(shown), Path(options["output"])
    atomic_files.check_target(target, force=options["force"], inputs=(source,))
    with Progress(quiet=options["quiet"]) as progress:
        around = shared.surroundings(context, progress, options["verbose"])
        checkpoint = load(options["model"], shared.settings(options), around)
    data = vectors.encode(checkpoint, options["seed"])
    atomic_files.write_whole(target, data, force=options["force"], inputs=(source,))
    if not options["quiet"]:
        count = len(checkpoint.layers)
        layers = f"{count} batch-norm layer{'' if count == 1 else 's'}"
        say(f"wrote vectors for {layers} and a probe to {printable(target.name)}")
        say(f"  then: bninspect verify {printable(shown)} --against outputs.npz, with <layer>/y from your runtime")
    return 0
