"""`bninspect check-statement`."""

from __future__ import annotations

from pathlib import Path

import click

from bninspect.cli.param_types import ModelPath


@click.command("check-statement", short_help="Is an in-toto statement about these very files?")
@click.argument("statement", metavar="FILE", type=click.Path(exists=True, dir_okay=False))
@click.argument("model", metavar="MODEL", type=ModelPath())
@click.argument("report", metavar="[REPORT]", required=False, type=click.Path(exists=True, dir_okay=False))
def command(statement: str, model: str, report: str | None) -> int:
    """Hold a model, or its export, and the JSON report against a statement that `-o intoto=FILE` wrote.

    FILE is the statement, bare or in the envelope of whoever signed it. Ends with 1 if a bit of MODEL or of REPORT
    differs from what was stated, or if the run had not passed. Signatures are not verified here: `cosign
    verify-blob-attestation` and `gh attestation verify` do that. What is not signed, anybody may have changed.
    """
    from bninspect.reports import statement_check

    given = None if report is None else Path(report)
    found = statement_check.check(Path(statement), Path(model), given, _digest_of_parts)
    for line in found.differences:
        click.echo(f"FAIL  {line}")
    if found.exit_code and not found.differences:
        click.echo(
            f"FAIL  the files are those of the statement, and it says {found.result} of `bninspect {found.command}`"
        )
    if not found.exit_code:
        checked = "the model and the report are" if report else "the model is"
        click.echo(f"PASS  {checked} as stated, and `bninspect {found.command}` had passed")
    if report is None:
        click.echo("note: the report was not given, and not compared")
    if found.signed:
        click.echo("note: the signatures of the envelope were not verified")
    else:
        click.echo("note: the statement is not signed: anybody may have changed it")
    return found.exit_code


def _digest_of_parts(model: Path) -> str | None:
    """Return the digest of a model in several files, which its reader knows; None of what is not one."""
    from bninspect.errors import BninspectError
    from bninspect.jobs.load import load

    try:
        return load(model).sha256
    except BninspectError:
        return None
