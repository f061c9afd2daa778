"""What `inspect`, `verify` and `lint` have in common: from the options to reports and an exit code."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bninspect.cli import model_options
from bninspect.cli import options as shared
from bninspect.cli.messages import say, show_error
from bninspect.cli.progress import Progress
from bninspect.cli.write_reports import UNWRITTEN, emit, end_stream
from bninspect.errors import UsageError
from bninspect.safe_text import printable

if TYPE_CHECKING:
    from bninspect.jobs.context import Surroundings
    from bninspect.jobs.resume import Earlier
    from bninspect.records import Heading, ModelReport, Report
    from bninspect.settings import Settings

    Run = Callable[[tuple[str, ...], Settings, Surroundings], Report]


def table_alone(options: dict[str, Any]) -> bool:
    """Return whether the table on the screen is all that a run is for: nothing else of its report is looked at."""
    others = ("json", "output", "layer", "resume", "baseline", "write_baseline")
    return options["format"] == "text" and not any(options[name] for name in others)


def report(context: click.Context, options: dict[str, Any], run: Run, *, brief: bool = False) -> int:
    """Run a command on the models that the options name, write its reports, and return the exit code.

    Args:
        context: of the command.
        options: their values.
        run: makes the report.
        brief: whether it may leave out what the table on the screen does not show.
    """
    from bninspect.cli.html_folder import HtmlFolder
    from bninspect.cli.jsonl_stream import Journal

    settings = shared.settings(options)
    named = model_options.named(options)
    options = {**options, "given": options["models"], "models": named, "output": _outputs(options)}
    # A baseline that is written changes the verdicts at the end: the lines then come all at once.
    streamed = not options["json"] and options["format"] == "jsonl" and not options["write_baseline"]
    with Progress(quiet=options["quiet"] or streamed) as progress:
        around, now = _surroundings(context, options, progress)
        known = _known(options, now)
        folders, options["output"] = _folders(options["output"])
        if folders and options["write_baseline"]:
            raise click.UsageError("html=FOLDER/ is written model by model, --write-baseline judges them at the end")
        lines = [Path(path) for kind, path in options["output"] if kind == "jsonl"]
        if options["format"] == "text":
            from bninspect.reports.text import verify  # noqa: F401 - imported while the first file is being read
        inputs = list(map(Path, named))
        with ExitStack() as opened:
            pages = [opened.enter_context(HtmlFolder(folder, now, inputs)) for folder in folders]
            journal = opened.enter_context(Journal(now, known.models.values(), lines, aloud=streamed, inputs=inputs))

            def ended(model: ModelReport) -> None:
                journal.ended(model)
                for folder in pages:
                    folder.ended(model)
                progress.ended(model)

            around = replace(around, earlier=known.models, running=known.running, ended=ended, brief=brief)
            around = replace(
                around,
                listed=model_options.listed_urls(options, named),
                kept=bool(known.models) or not journal.covers(options["output"]),
            )
            done = replace(run(named, settings, around), command=now.command)
            written = sum(folder.finish(done) for folder in pages) == len(pages)  # all of them, whatever becomes of one
            whole = journal.finish(done) if not around.kept else True
    if not around.kept:
        code = end_stream(done, whole=whole)
        return code if written else UNWRITTEN
    if options["write_baseline"]:
        done, kept = _as_baseline(done, options, settings)
        written = written and kept
    return emit(done, options, streamed=streamed, written=written)


def _folders(outputs: tuple[tuple[str, str], ...]) -> tuple[list[Path], tuple[tuple[str, str], ...]]:
    """Return the folders among the files to write, and the others."""
    folders = [Path(path) for kind, path in outputs if kind == "html" and path.endswith("/")]
    return folders, tuple((kind, path) for kind, path in outputs if not (kind == "html" and path.endswith("/")))


def _outputs(options: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the files to write; --resume names one of them, unless -o does."""
    resumed, outputs = options["resume"], tuple(options["output"])
    if resumed is None:
        return outputs
    for kind, path in outputs:
        if Path(path).absolute() == Path(resumed).absolute():
            if kind != "jsonl":
                raise click.UsageError(f"--resume and -o {kind}= name the same file")
            return outputs
    return (*outputs, ("jsonl", resumed))


def _digests(options: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the digests of files that options name; `against_sha256` is that of an only export."""
    from bninspect.records import Option

    exports = [path for path in options.get("against") or () if Path(path).is_file()]
    files = [("against", f"_{place}" if place else "", path) for place, path in enumerate(exports)]
    files += [(name, "", options[name]) for name in ("input", "baseline") if options.get(name)]
    for name, number, path in files:
        if Path(path).is_file():
            with suppress(PermissionError), Path(path).open("rb") as file:  # whoever reads it says so
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                yield f"{name}{number}_sha256", Option(digest, f"--{name}")


def _surroundings(context: click.Context, options: dict[str, Any], progress: Progress) -> tuple[Surroundings, Heading]:
    """Return what is around the run, and what is known of it before any model."""
    from bninspect.records import outcome

    around = shared.surroundings(context, progress, options["verbose"])
    command = str(context.info_name)
    sources = {**around.options, **dict(_digests(options))}
    baseline = _baseline(options, command)
    around = replace(around, began=progress.began, baseline=baseline, options=sources)
    return around, outcome.heading(command, sources, running={})


def _baseline(options: dict[str, Any], command: str) -> Report | None:
    from bninspect.reports import json_document

    if options["baseline"] is None:
        return None
    found = json_document.read(Path(options["baseline"]))
    if found.command != command:
        raise UsageError(
            f"{printable(options['baseline'])} is not a baseline for this command",
            why=f"`bninspect {printable(found.command)}` wrote it",
            hint=f"bninspect {command} ... --write-baseline FILE",
        )
    return found


def _known(options: dict[str, Any], now: Heading) -> Earlier:
    from bninspect import atomic_files
    from bninspect.jobs import resume

    if options["resume"] is None:
        return resume.Earlier()
    path = Path(options["resume"])
    known = resume.earlier(path, now)
    atomic_files.check_target(path, force=True, inputs=list(map(Path, options["models"])))
    if known.stale and not options["quiet"]:
        say(f"note: nothing is taken over from {printable(str(path))}: {known.stale}")
    return known


def _as_baseline(done: Report, options: dict[str, Any], settings: Settings) -> tuple[Report, bool]:
    """Write a report as a baseline. Return it, judged by itself if by no other, and whether it could be written.

    So the exit code is that of the next run, and what keeps it from being 0 is what no baseline can excuse.
    """
    from bninspect import atomic_files
    from bninspect.errors import BninspectError
    from bninspect.jobs import baseline
    from bninspect.records import outcome
    from bninspect.reports import json_document

    path = Path(options["write_baseline"])
    inputs = [Path(one) for one in (*options["models"], *(model.path for model in done.models))]
    try:
        atomic_files.write_whole(path, json_document.render(done).encode(), force=True, inputs=inputs)
    except BninspectError as error:
        show_error(error.what, error.why, error.hint)
        return done, False
    if not options["quiet"]:
        say(f"wrote the baseline {printable(str(path))}")
    if options["baseline"]:
        return done, True
    models = tuple(baseline.judged(model, done, settings) for model in done.models)
    counts = outcome.count(models, allow_empty=settings.allow_empty, shard=done.shard)
    return replace(done, models=models, summary=counts), True
