"""The command line: one module per command, imported when it is called. The only code that imports click."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from bninspect import errors
from bninspect.atomic_files import NO_ROOM
from bninspect.cli import mistakes, termination
from bninspect.cli.config_defaults import asking
from bninspect.cli.given_once import OnceGroup
from bninspect.cli.messages import NOT_WRITTEN, show_error
from bninspect.cli.termination import Terminated, Told
from bninspect.version import __version__
from bninspect.workers import start

INTERRUPTED = 130

COMMANDS = (
    "inspect",
    "verify",
    "drift",
    "recalibrate",
    "lint",
    "diff",
    "explain",
    "export",
    "vectors",
    "merge",
    "check-statement",
    "compare",
    "rule",
    "doctor",
    "schema",
    "completion",
)


class Commands(OnceGroup):
    """A group whose commands are modules of this package."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names in the order of the manual."""
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"{__name__}.{cmd_name.replace('-', '_')}").command
        assert isinstance(command, click.Command)  # noqa: S101 - narrows the type
        return command


@click.group(
    cls=Commands,
    params=[*asking()],
    context_settings={"auto_envvar_prefix": "BNINSPECT", "help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="bninspect", message="%(prog)s %(version)s")
def bninspect(**_: Any) -> None:
    """Is the batch normalisation of this model right?

    Recomputes gamma * (x - moving_mean) / sqrt(moving_variance + epsilon) + beta from the parameters in a model file,
    and compares with what the framework computes, within the proven rounding bound.

    \b
    Exit codes: 0 all checked and right, 1 a mismatch or a finding, 2 wrong usage,
    3 something could not be checked, 5 nothing to check, 130 interrupted (143 by SIGTERM, 129 by SIGHUP).
    """  # noqa: D301 - \b is the character by which click keeps line ends


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code. Every error becomes a message; none a traceback, except under -vv."""
    with termination.listening() as told:
        code = _run(arguments, told)
    return code if told.exit_code is None else told.exit_code


def _run(arguments: Sequence[str], told: Told) -> int:
    if sys.stdout is None:  # closed by whoever called
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - until the end of the process
    try:
        code = bninspect.main(list(arguments), prog_name="bninspect", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.UsageError as error:
        show_error(*mistakes.told(error, COMMANDS))
        return 2
    except click.ClickException as error:
        show_error(error.format_message())
        return 2
    except errors.BninspectError as error:
        show_error(error.what, error.why, error.hint)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt, Terminated):
        resumed = any(argument.startswith("--resume") for argument in arguments)
        what = "interrupted" if told.signal is None else f"ended by {told.signal.name}"
        show_error(what, hint="the same command goes on where this one ended" if resumed else "")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone, for instance `| head`; nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in NO_ROOM:
            return _defect(error, arguments)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered
        show_error(f"cannot write {error.filename!r}" if error.filename else NOT_WRITTEN, str(error.strerror))
        return 3
    except Exception as error:  # noqa: BLE001 - a defect of ours must not show a traceback to a user
        return _defect(error, arguments)
    finally:
        start.dismiss()
    return code if isinstance(code, int) else 0


def _defect(error: Exception, arguments: Sequence[str]) -> int:
    if any(argument.startswith("-vv") for argument in arguments):
        import traceback

        traceback.print_exc()
    show_error(
        f"internal error: {type(error).__name__}",
        str(error),
        "run it again with -vv for the details, and report it: this is a defect of bninspect",
    )
    return 3
