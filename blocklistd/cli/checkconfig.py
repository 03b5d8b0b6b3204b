"""`check-config`."""

from __future__ import annotations

import click

from blocklistd.cli.common import Session, common, problem_text
from blocklistd.cli.failures import Failed
from blocklistd.errors import ConfigError
from blocklistd.language.context import _


@click.command("check-config")
@common
def command(session: Session) -> None:
    """Check the configuration and print every error at once; exit 2 if there is any."""
    from blocklistd.config import check
    from blocklistd.daemon import config_report
    from blocklistd.daemon.commands.text import paragraph

    try:
        read = check(session.path)
        warnings = config_report.warnings_of(read)
        if not session.json:
            for warning in warnings:
                paragraph(_("warning: {problem}", problem=problem_text(warning)), err=True)
        if found := config_report.problems_of(read):
            raise ConfigError(found)
    except ConfigError as error:
        if session.json:
            session.document({"errors": [problem.document() for problem in error.problems]})
            raise Failed(code=2) from None
        raise
    document = {"errors": [], "warnings": [warning.document() for warning in warnings]}
    session.answer(document, lambda document: click.echo(_("{path}: ok", path=session.path)))
