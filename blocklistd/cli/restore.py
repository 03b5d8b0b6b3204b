"""`restore`: needs no daemon."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from blocklistd.cli.common import Session, common
from blocklistd.cli.failures import Failed
from blocklistd.language.context import _, known


@click.command("restore")
@click.argument("file", type=click.Path(path_type=Path, readable=False))
@click.option(
    "--above",
    metavar="N",
    type=click.IntRange(1, 10**18 - 1),
    help="Number everything above N [1,000,000 above the highest known number].",
)
@common
def command(session: Session, file: Path, above: int | None) -> None:
    """Put a backup in the place of the state, while no daemon runs on it.

    Every byte of the backup, and of the backups that it needs from its folder, is verified before anything is changed.
    The old state is kept in the folder `replaced-TIME` of the state_dir. All versions, TUF versions and serials go on
    far above those that were ever served, so that subscribers and secondaries follow by themselves.
    """
    from blocklistd.config import check
    from blocklistd.config.files import as_user, daemon_user, user_name
    from blocklistd.errors import SigningError
    from blocklistd.model import Act
    from blocklistd.signing.trust import load_trust
    from blocklistd.store.backup_file import opened
    from blocklistd.store.restores import RestoreRequest, require_readable, restore
    from blocklistd.store.store import Store
    from blocklistd.times import rfc3339, utc_now

    config = check(session.path).config
    if config.database is not None:
        raise Failed(
            "the configuration has `database: postgresql://…`: restore the database with pg_restore and the state_dir "
            "from its copy, then run `blocklistd start-above N`; nothing was changed"
        )
    store = Store.found(config.state_dir)
    uid = daemon_user(config.state_dir)
    if uid is None:
        owner = user_name(config.state_dir.stat().st_uid)
        raise Failed(f"{config.state_dir} belongs to {owner}: run this as root or as that user; nothing was changed")
    store.require_unused()
    actor = Act("restore", user_name(os.geteuid()), os.geteuid())
    warning = None
    with opened(file) as backup:
        require_readable(backup.manifest)
        backup.check()
        with as_user(uid), store.locked():
            high_water = config.high_water or store.state_dir / "high-water"
            done = restore(backup, store, RestoreRequest(high_water, above, utc_now(), actor))
            try:
                load_trust(config)
            except SigningError as error:
                warning = str(error)
            except OSError as error:
                warning = f"{error.filename}: {error.strerror}: the user that runs the daemon must be able to read it"
        made = backup.manifest
    document = {
        "above": done.above,
        "made": rfc3339(made.made),
        "versions": dict(made.versions),
        "serials": dict(made.serials),
        "evidence": made.evidence,
        "replaced": str(done.aside) if done.aside else None,
        "audit_left": done.audit_left,
        "warning": warning,
    }
    session.answer(document, _show)


def _show(done: dict[str, Any]) -> None:
    made = done["made"]
    click.echo(_("restored the state of {time}: all numbers go on above {above}", time=made, above=done["above"]))
    if done["replaced"]:
        click.echo(_("the old state is in {folder}: delete it once you no longer need it", folder=done["replaced"]))
    click.echo(
        _(
            "what was decided after {time} is lost: repeat revocations, rotations, delistings, embargoes, approvals "
            "and rejections",
            time=made,
        )
    )
    if not done["evidence"]:
        click.echo(_("the backup has no evidence: the bodies in the state_dir stay"))
    if done["warning"]:
        click.echo(_("before the start: {problem}", problem=known(done["warning"])), err=True)
    else:
        click.echo(_("start the daemon now: `systemctl start blocklistd`"))
