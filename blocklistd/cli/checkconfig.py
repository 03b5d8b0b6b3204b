"""`check-config`."""

from __future__ import annotations

import click

from blocklistd.cli.common import Session, common
from blocklistd.cli.failures import Failed
from blocklistd.errors import ConfigError


@click.command("check-config")
@common
def command(session: Session) -> None:
    """Check the configuration and print every error at once; exit 2 if there is any."""
    from blocklistd.config import check
    from blocklistd.daemon import guard_names, state_checks, zonemd

    try:
        read = check(session.path)
        warnings = [*read.warnings, *state_checks.warnings_of(read)]
        if not session.json:
            for warning in warnings:
                click.echo(f"warning: {warning}", err=True)
        found = [*read.problems, *guard_names.problems_of(read.config, read.lines), *state_checks.problems_of(read)]
        found += zonemd.problems_of(read, zonemd.stored_subscribers(read.config.state_dir))
        if found:
            raise ConfigError(sorted(found, key=lambda problem: problem.line))
    except ConfigError as error:
        if session.json:
            session.document({"errors": [problem.document() for problem in error.problems]})
            raise Failed(code=2) from None
        raise
    document = {"errors": [], "warnings": [warning.document() for warning in warnings]}
    session.answer(document, lambda _: click.echo(f"{session.path}: ok"))
