"""`check-config`."""

from __future__ import annotations

from dataclasses import asdict

import click

from blocklistd.cli.common import Session, common
from blocklistd.cli.failures import Failed
from blocklistd.errors import ConfigError


@click.command("check-config")
@common
def command(session: Session) -> None:
    """Print every error in the configuration at once; exit 2 if there is any."""
    try:
        session.config()
    except ConfigError as error:
        if session.json:
            session.document({"errors": [asdict(p) | {"file": str(p.file)} for p in error.problems]})
            raise Failed(code=2) from None
        raise
    session.answer({"errors": []}, lambda _: click.echo(f"{session.path}: ok"))
