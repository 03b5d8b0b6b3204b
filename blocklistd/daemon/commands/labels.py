"""Words that documents of the daemon contain, and that tables show: keys of rows, outcomes, states, kinds.

They are here for the catalogs: a table translates the key of a row, and a command the word of a cell, by its English
text.
"""

from __future__ import annotations

from typing import Final

from blocklistd.language.context import N_

ROWS: Final = (
    *(N_("id"), N_("state"), N_("list"), N_("kind"), N_("source"), N_("created"), N_("base"), N_("entries")),
    *(N_("added"), N_("removed"), N_("changed"), N_("why"), N_("version"), N_("approved"), N_("rejected")),
    *(N_("outcome"), N_("reason"), N_("last pull"), N_("last accepted"), N_("age"), N_("verify"), N_("quarantine")),
    *(N_("overdue"), N_("frozen"), N_("signed"), N_("records"), N_("types"), N_("next pull"), N_("distrusted")),
    *(N_("created by"), N_("revoked"), N_("lists"), N_("own names"), N_("keys"), N_("certs"), N_("notify")),
    *(N_("address"), N_("unsigned"), N_("wide"), N_("software"), N_("objective"), N_("delisted"), N_("embargo")),
    *(N_("excepted"), N_("withheld"), N_("held"), N_("lifetime"), N_("kept"), N_("live")),
)
"""Keys of rows that are keys of a document, with spaces in place of underscores."""
WORDS: Final = (
    *(N_("published"), N_("unchanged"), N_("held"), N_("failed"), N_("rejected"), N_("released"), N_("refused")),
    *(N_("policy"), N_("expiry"), N_("correction"), N_("rollback"), N_("source"), N_("delisted"), N_("embargoed")),
    *(N_("excepted"), N_("applied"), N_("partial"), N_("snapshot"), N_("diff"), N_("unchanged"), N_("total")),
    *(N_("category"), N_("OVERDUE"), N_("LATE"), N_("SILENT"), N_("FAILED"), N_("WIDE"), N_("FROZEN")),
    *(
        N_("lists"),
        N_("zones"),
        N_("expired"),
        N_("corrected"),
        N_("raised"),
        N_("cleared"),
        N_("ok"),
        N_("key"),
        N_("since"),
    ),
)
"""Words of cells and sentences."""
