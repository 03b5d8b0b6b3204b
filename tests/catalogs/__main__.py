"""Writes the texts of the source into the catalogs (`make catalogs`): new ones without a translation; those that the
source no longer has are dropped. Prints what has no translation; exits with 1 if there is any."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from blocklistd.language.po import PoEntry, read_po
from tests.catalogs import CATALOGS, entries


def main() -> int:
    """Updates every catalog."""
    missing = 0
    for path in sorted(CATALOGS.glob("*.po")):
        made = merged(path)
        path.write_text("\n".join(map(written, made)), encoding="utf-8")
        for entry in made:
            if not all(entry.translations) or entry.is_fuzzy:
                missing += 1
                print(f"{path.name}: not translated: {entry.message!r}")
    return 1 if missing else 0


def merged(path: Path) -> list[PoEntry]:
    """The entries of the source with the translations that the catalog has, after its header."""
    header, *known = read_po(path.read_text(encoding="utf-8"))
    old = {entry.key: entry for entry in known}
    made = entries()
    for entry in made:
        count = 2 if entry.plural else 1
        before = old.get(entry.key)
        entry.translations = [""] * count
        if before is not None and before.plural == entry.plural:
            entry.translations, entry.is_fuzzy = before.translations, before.is_fuzzy
    return [header, *made]


def written(entry: PoEntry) -> str:
    """The text of an entry in a PO file."""
    lines = list(entry.comments)
    if entry.context:
        lines.append(f"msgctxt {quoted(entry.context)}")
    lines.append(f"msgid {quoted(entry.message)}")
    if entry.plural:
        lines.append(f"msgid_plural {quoted(entry.plural)}")
        lines += [f"msgstr[{number}] {quoted(one)}" for number, one in enumerate(entry.translations)]
    else:
        lines.append(f"msgstr {quoted(entry.translations[0])}")
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """A text in quotes; one of several lines begins on the next line."""
    parts = text.splitlines(keepends=True)
    if len(parts) < 2:
        return json.dumps(text, ensure_ascii=False)
    return "\n".join(['""', *(json.dumps(part, ensure_ascii=False) for part in parts)])


if __name__ == "__main__":
    sys.exit(main())
