"""`serve`."""

from __future__ import annotations

import click

from blocklistd.cli.common import Session, common


@click.command("serve")
@common
def command(session: Session) -> int:
    """Run the daemon in the foreground. SIGHUP reloads the configuration; SIGTERM lets requests under way end, then
    stops."""
    from blocklistd.config import check
    from blocklistd.daemon.process import serve

    return serve(check(session.path))
