"""Which sources read their whole body again after damage."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import insert, select

from blocklistd.model import Sha256
from blocklistd.store import upkeep
from blocklistd.store.schema import list_sources, sources
from tests.versions_of import LIST, NOW, Versions

DAMAGED, INTACT = Sha256("d" * 64), Sha256("1" * 64)


def test_a_body_that_a_pull_brought_after_the_damage_was_found_is_kept(tmp_path: Path) -> None:
    """The live version was made from the damaged file; the newest body is another one."""
    versions = Versions(tmp_path)
    with versions.database.write() as connection:
        connection.execute(insert(sources).values(id="hotline", offered=INTACT, body=INTACT, settings="s", etag="e"))
        connection.execute(insert(sources).values(id="police", offered=DAMAGED, body=INTACT, settings="s", etag="e"))
        connection.execute(insert(list_sources).values(list=LIST, source="hotline", accepted=DAMAGED, time=NOW))
        assert upkeep.reread_sources(connection, versions.store.sealed, [DAMAGED]) == ["hotline", "police"]
        settings = {row.id: row.settings for row in connection.execute(select(sources))}
    versions.close()
    assert settings == {"hotline": "s", "police": None}
