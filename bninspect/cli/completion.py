"""`bninspect completion`."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")


@click.command("completion", short_help="Print a script with which your shell completes commands.")
@click.argument("shell", metavar="SHELL", type=click.Choice(SHELLS))
def command(shell: str) -> int:
    """Print a script with which bash, zsh or fish complete commands, options, rules, and layers of the model named.

    \b
    bash:  eval "$(bninspect completion bash)"                  in ~/.bashrc
    zsh:   eval "$(bninspect completion zsh)"                   in ~/.zshrc, after compinit
    fish:  bninspect completion fish > ~/.config/fish/completions/bninspect.fish
    """  # noqa: D301 - \b is the character by which click keeps line ends
    from click.shell_completion import get_completion_class

    from bninspect.cli import bninspect

    found = get_completion_class(shell)
    assert found is not None  # noqa: S101 - click has all three since 8.0
    click.echo(found(bninspect, {}, "bninspect", "_BNINSPECT_COMPLETE").source(), nl=False)
    return 0
