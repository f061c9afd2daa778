"""Options that several commands share, and what they become: Settings and Surroundings."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bninspect.cli import complete_values
from bninspect.cli.config_defaults import where
from bninspect.cli.messages import width
from bninspect.cli.param_types import Finite, Target, epsilon, size
from bninspect.safe_text import printable
from bninspect.settings import Settings
from bninspect.stores.names import is_url, public
from bninspect.workers import start, tasks
from bninspect.workers.limits import reading_limits, running_limits

if TYPE_CHECKING:
    from bninspect.cli.progress import Progress
    from bninspect.jobs.context import Surroundings

F = TypeVar("F", bound=Callable[..., Any])

FORMATS = ("text", "json", "jsonl", "junit", "markdown", "github", "html", "sarif", "intoto")
# Options that may be given several times: Settings calls them by the plural.
_FIELDS = {"layer": "layers", "exclude_layer": "exclude_layers", "input_shape": "input_shapes", "import": "modules"}
_LONGEST = 1e7  # seconds; what the system's timers can hold is not much longer


def _each_to_its_own(
    _context: click.Context, _parameter: click.Parameter, targets: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, str], ...]:
    """Refuse two reports in one file: the second would replace the first."""
    places = [os.path.abspath(path) for _, path in targets]  # noqa: PTH100 - keeps what a link is called
    for _, path in targets:
        if places.count(os.path.abspath(path)) > 1:  # noqa: PTH100
            raise click.BadParameter(f"{path!r} is named twice: each report needs a file of its own")
    kinds = [kind for kind, _ in targets]
    if "intoto" in kinds and "json" not in kinds:
        raise click.BadParameter("intoto= needs json= beside it: the JSON report is what the statement is about")
    return targets


def group(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Return a decorator that adds options to a command, in this order."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


selecting = group(
    click.option(
        "--layer",
        metavar="GLOB",
        multiple=True,
        shell_complete=complete_values.layers,
        help="Look at these layers only; repeatable.",
    ),
    click.option(
        "--exclude-layer",
        metavar="GLOB",
        multiple=True,
        shell_complete=complete_values.layers,
        help="Leave these layers out; repeatable.",
    ),
    click.option(
        "--epsilon",
        type=epsilon,
        multiple=True,
        metavar="[GLOB=]VALUE",
        help="Epsilon of layers whose file does not state one; repeatable, the first that fits counts.",
    ),
)
"""Options that choose and complete layers."""

fetching = group(
    click.option(
        "--allow-host",
        metavar="HOST",
        multiple=True,
        help="Fetch models from this host even if another server leads there, or it is this machine; repeatable.",
    ),
    click.option(
        "--cache",
        type=click.Path(file_okay=False),
        metavar="FOLDER",
        help="Keep models here that had to be downloaded; they are deleted otherwise.",
    ),
    click.option("--cache-size", type=size, metavar="SIZE", help="Limit for downloaded models (20GB)."),
)
"""Options of models that URLs name."""

limiting = group(
    click.option(
        "--timeout",
        type=Finite(min=0, min_open=True, max=_LONGEST),
        metavar="SECONDS",
        help="Limit for reading (20) and for running (600) one model.",
    ),
    click.option(
        "--max-memory",
        type=size,
        metavar="SIZE",
        help="Limit for reading (1.5GB) and for running (80 % of this machine) one model.",
    ),
)
"""The limits of the workers."""

writing = group(
    click.option(
        "-f",
        "--format",
        type=click.Choice(FORMATS),
        default="text",
        show_default=True,
        help="What goes to standard output.",
    ),
    click.option("--json", is_flag=True, help="The same as -f json."),
    click.option(
        "-o",
        "--output",
        type=Target(FORMATS),
        multiple=True,
        callback=_each_to_its_own,
        metavar="FORMAT=PATH",
        help="Write a report to a file as well; html=FOLDER/ writes a page for each model; repeatable.",
    ),
)
"""Options of where reports go."""

judging = group(
    click.option(
        "--select",
        metavar="RULES",
        multiple=True,
        shell_complete=complete_values.rules,
        help="Only these rules count, by code or its beginning: BN1; repeatable.",
    ),
    click.option(
        "--ignore",
        metavar="RULES",
        multiple=True,
        shell_complete=complete_values.rules,
        help="These rules do not count; repeatable.",
    ),
    click.option(
        "--fail-on",
        type=click.Choice(("error", "warning", "note", "never")),
        default="error",
        show_default=True,
        help="Least severity that gives exit code 1.",
    ),
    click.option("--allow-empty", is_flag=True, help="Nothing to check is a success."),
)
"""Options of what counts."""

handing_on = group(
    click.option("--force", is_flag=True, help="Replace a file that exists."),
    fetching,
    limiting,
    click.option("-q", "--quiet", is_flag=True, help="Errors only."),
    click.option("-v", "--verbose", count=True, help="-vv: the worker's whole standard error."),
)
"""Options of commands that read one model and write one file."""

speaking = group(
    click.option("-q", "--quiet", is_flag=True, help="Verdict and failures only."),
    click.option("-v", "--verbose", count=True, help="Every layer; -vv: the workers' whole standard error too."),
    click.option(
        "--color",
        type=click.Choice(("auto", "always", "never")),
        default="auto",
        show_default=True,
        help="Colours on standard output.",
    ),
)
"""Options of how much is said."""

answering = group(
    click.option("-f", "--format", type=click.Choice(("text", "json")), default="text", show_default=True),
    click.option("--json", is_flag=True, help="The same as -f json."),
    limiting,
    speaking,
)
"""Options of commands that print one answer."""

reporting = group(writing, judging)
"""Options of what is reported, and where."""


def settings(options: dict[str, Any]) -> Settings:
    """Return the settings among the values of a command's options."""
    named = {_FIELDS.get(name, name): value for name, value in options.items()}
    known = {name: value for name, value in named.items() if name in Settings.__dataclass_fields__}
    if "input_shapes" in known:
        known["input_shapes"] = dict(known["input_shapes"])
    for name in {"select", "ignore"} & set(known):
        known[name] = tuple(rule.strip() for text in known[name] for rule in text.split(",") if rule.strip())
    if rules := {*known.get("select", ()), *known.get("ignore", ()), *(one.rule for one in known.get("ignores", ()))}:
        from bninspect.reports import manual

        manual.require(rules)
    if (known.get("rtol") is None) != (known.get("atol") is None):
        raise click.UsageError("--rtol and --atol go together: one alone leaves the other to a guess")
    if known.get("modules") and not known["trust"]:
        raise click.UsageError("--import runs code for the model's sake: it needs --trust")
    return Settings(**known)


def prestart(options: dict[str, Any], path: str | None = None, *, digest: bool = True) -> None:
    """Have the process that reads begin with the file at `path`, before anything heavy is imported here.

    `digest`: whether the command wants that as well.
    """
    if options.get("dask"):
        return
    if path is not None and is_url(path):
        path = None
    first = None if path is None else {"path": path, "digest": digest}
    limits = reading_limits(settings(options))
    start.prestart(limits, tasks.read_file, first, verbose=options["verbose"] > 1)


def prestart_framework(options: dict[str, Any], task: tasks.Task[Any], path: str) -> None:
    """Have the process that runs frameworks import what `task` needs for the file at `path`, if that is TensorFlow."""
    waits = not options.get("dask") and not options.get("resume")  # that may know all of it
    if waits and tasks.may_need_tensorflow(path) and Path(path).is_file():
        start.prestart(running_limits(settings(options)), task)


def surroundings(context: click.Context, progress: Progress, verbose: int) -> Surroundings:
    """Return where progress goes and where each option came from."""
    from bninspect.jobs.context import Surroundings

    return Surroundings(
        progress=progress,
        complain=progress.complain,
        passed_over=partial(_passed_over, progress if verbose else None),
        verbose=verbose > 1,
        options=_sources(context),
    )


def _passed_over(progress: Progress | None, folder: str, passed: Mapping[str, int]) -> None:
    """Say under -v which files a search of a folder did not take for models: so a misnamed file is seen."""
    if progress is None or not passed:
        return
    kinds = ", ".join(f"{count} {printable(ending) or 'without an ending'}" for ending, count in passed.items())
    total = sum(passed.values())
    progress.complain(f"note: passed over {total} file{'' if total == 1 else 's'} in {printable(folder)}: {kinds}")


def _sources(context: click.Context) -> dict[str, Any]:
    from click.core import ParameterSource

    from bninspect.records import Option

    words = {ParameterSource.COMMANDLINE: "command line", ParameterSource.ENVIRONMENT: "environment"}
    sources = {}
    for name, value in context.params.items():
        if _FIELDS.get(name, name) in Settings.__dataclass_fields__:
            source = context.get_parameter_source(name)
            place = words.get(source, "default") if source else "default"
            if source is ParameterSource.DEFAULT_MAP or (source is None and value):
                place = where(context, name)
            sources[name] = Option(_shown(name, value), place)
    return sources


def _shown(name: str, value: Any) -> Any:
    """Return the value of an option as a report holds it."""
    if name == "against":
        return tuple(public(export) if is_url(export) else export for export in value)
    return dict(value) if name == "input_shape" else value


def show(answer: Any, form: Any, options: dict[str, Any]) -> int:
    """Print an answer as JSON or by a module that has `render`, as its options want it; return its exit code."""
    from bninspect.reports import Looks, json_document

    if options["json"] or options["format"] == "json":
        click.echo(json_document.answer(answer), nl=False)
    else:
        colour = coloured(options["color"])
        looks = Looks(colour=colour, width=width(), verbosity=-1 if options["quiet"] else options["verbose"])
        click.echo(form.render(answer, looks), nl=False, color=colour or None)
    return int(answer.exit_code)


def coloured(choice: str) -> bool:
    """Decide once whether standard output is coloured: --color, then NO_COLOR, FORCE_COLOR, then the terminal."""
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or sys.stdout.isatty()
