"""A copy of the package, to which a file and a line of a table are added as CONTRIBUTING.md says."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import blocklistd


class Package:
    """`root` is the folder that `blocklistd` is in."""

    def __init__(self, folder: Path) -> None:
        assert blocklistd.__file__
        self.root = folder / "tree"
        self._package = self.root / "blocklistd"
        shutil.copytree(Path(blocklistd.__file__).parent, self._package, ignore=shutil.ignore_patterns("__pycache__"))

    def add(self, room: str, module: str, text: str, key: str, value: str) -> None:
        """Adds `module` with this text to a room of `sources/`, and `value` of it, by its key, to the room's table."""
        where = self._package / "sources" / room
        (where / f"{module}.py").write_text(text)
        table = (where / "__init__.py").read_text()
        table, imports = re.subn(rf"(?m)^(from blocklistd\.sources\.{room} import )", rf"\1{module}, ", table, count=1)
        table, lines = re.subn(
            r"(?m)^(\w+: Final\[Mapping.*{)$", rf'\1\n    "{key}": {module}.{value},', table, count=1
        )
        assert (imports, lines) == (1, 1)
        (where / "__init__.py").write_text(table)
