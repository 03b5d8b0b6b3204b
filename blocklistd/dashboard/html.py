"""Makes HTML. Text and values of attributes are always escaped (markupsafe)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from markupsafe import Markup, escape

Child = Markup | str | int | None
_VOID: Final = {"meta", "wbr", "line", "rect", "path", "polyline", "circle"}


def tag(name: str, /, *children: Child, **attributes: object) -> Markup:
    """An element. `class_` is the attribute class; `_` in other names is `-`. None: no such child or attribute."""
    written = "".join(
        f' {_attribute(key)}="{escape(str(value))}"' for key, value in attributes.items() if value is not None
    )
    if name in _VOID and not children:
        return Markup(f"<{name}{written}>" if name in ("meta", "wbr") else f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{joined(children)}</{name}>")


def _attribute(key: str) -> str:
    return key.rstrip("_").replace("_", "-") if key != "viewBox" else key


def joined(children: Iterable[Child]) -> Markup:
    """The children, one after the other."""
    return Markup("").join(escape(child) for child in children if child is not None)


class Column(NamedTuple):
    """A column of a table. `kind`: NUMBERS are aligned at the right, STATES need no heading on a narrow screen, NAMES
    are not made narrower than a name."""

    heading: str
    kind: str = ""


NUMBERS: Final = "n"
STATES: Final = "s"
NAMES: Final = "i"


def table(caption: str, columns: Sequence[Column], rows: Sequence[Sequence[Child]], *, name: str = "") -> Markup:
    """A table whose first column heads its rows. On a narrow screen, each row is a block with the headings in it.
    `caption`: what the table has, for a screen reader."""
    head = (tag("th", column.heading, scope="col", class_=column.kind or None) for column in columns)
    body = (
        tag(
            "tr",
            *(
                tag(
                    "td" if place else "th",
                    cell if cell is not None else "–",
                    scope=None if place else "row",
                    class_=column.kind or None,
                    data_label=column.heading if place else None,
                )
                for place, (column, cell) in enumerate(zip(columns, row, strict=True))
            ),
        )
        for row in rows
    )
    return tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *head)),
        tag("tbody", *body),
        class_=name or None,
    )
