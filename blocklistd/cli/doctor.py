"""`doctor`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import click

from blocklistd.cli.common import Session, common
from blocklistd.cli.failures import Failed, Unreachable
from blocklistd.language.context import _, known

if TYPE_CHECKING:
    from blocklistd.daemon.doctor.checks import Diagnosis

NOT_RUNNING: Final = 3


@click.command("doctor")
@common
def command(session: Session) -> None:
    """Check the installation as a careful colleague would, and print what is wrong with what to do, the worst first. It
    changes nothing. Run it as root or as the daemon's user: for others it skips what they can't read.

    Exit codes, which are those of a monitoring plugin: 0 nothing is wrong, 1 warnings, 2 something is critical, 3 the
    daemon does not answer (everything else is checked all the same).
    """
    from blocklistd.daemon.doctor.checks import diagnose
    from blocklistd.daemon.doctor.collect import collect
    from blocklistd.times import utc_now

    found = diagnose(collect(session.path, lambda: _ask(session), utc_now()))
    session.answer(found.document(), lambda document: _show(found))
    if not found.is_running:
        raise Failed(code=NOT_RUNNING)
    if found.worst:
        raise Failed(code=int(found.worst))


def _ask(session: Session) -> Any:
    from blocklistd.cli.control import ControlClient
    from blocklistd.config import control_socket
    from blocklistd.daemon.commands import COMMANDS
    from blocklistd.errors import ConfigError

    try:
        return ControlClient(control_socket(session.path)).ask(COMMANDS["status facts"], {})
    except ConfigError:
        return "control.socket of the configuration can't be read, so the daemon can't be asked"
    except Unreachable as error:
        remedy = "correct what `journalctl -u blocklistd -e` says, then run `systemctl start blocklistd`"
        return f"{error}; until it runs, nothing is served and nothing is pulled: {remedy}"
    except Failed as error:  # a daemon of another version
        return str(error)


def _show(found: Diagnosis) -> None:
    from blocklistd.daemon.commands.text import paragraph
    from blocklistd.daemon.doctor.check import Level

    group = ""
    for one in found.found:
        if one.group != group:
            click.echo(("\n" if group else "") + click.style(_(one.group).upper(), bold=True))
            group = one.group
        paragraph(f"{_(one.level.word)}: {known(one.text)}", indent="  ")
    if found.found:
        click.echo()
    for reason in found.skipped:
        paragraph(_("not checked: {reason}", reason=known(reason)))
    counts = Counter(one.level for one in found.found)
    shown = [f"{_(level.word)}: {counts[level]}" for level in reversed(Level) if counts[level]]
    click.echo(", ".join(shown) or _("nothing is wrong"))
