"""The page of the dashboard: its sections, its style sheet, and the headers that it is sent with.

The page has no script and loads nothing: the Content-Security-Policy allows one style sheet, by its checksum.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Final

from markupsafe import Markup

from blocklistd.dashboard import delivery, intake, lists, overview
from blocklistd.dashboard.facts import ALL_LISTS, DashboardFacts
from blocklistd.dashboard.html import tag
from blocklistd.dashboard.view import View
from blocklistd.language import LANGUAGES, Language

REFRESH: Final = 60
"""Seconds until a browser loads the page again."""
NAMES: Final = {"en": "English", "fr": "Français", "de": "Deutsch"}


@cache
def style() -> str:
    """The style sheet."""
    return resources.files("blocklistd.dashboard").joinpath("style.css").read_text(encoding="utf-8")


@cache
def headers() -> Mapping[str, str]:
    """The headers of the page."""
    digest = base64.b64encode(hashlib.sha256(style().encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
        "Vary": "Accept-Language",
    }


def page(facts: DashboardFacts, language: Language, chosen: str = ALL_LISTS) -> str:
    """The page in a language. `chosen`: the list of the plots; an unknown one is ALL_LISTS."""
    known = {one.id for one in facts.lists}
    view = View(facts, language, chosen if chosen in known else ALL_LISTS)
    title = language.text("State of {host}", host=facts.host)
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", http_equiv="refresh", content=REFRESH),
        tag("title", f"{title} – blocklistd"),
        Markup("<style>{}</style>").format(Markup(style())),
    )
    body = tag(
        "body",
        tag("a", language.text("Skip to the content"), href="#state", class_="skip"),
        _header(view, title),
        tag(
            "main",
            overview.banner(view),
            overview.tiles(view),
            lists.lists(view),
            lists.course(view),
            tag(
                "div",
                tag("div", intake.sources(view), delivery.subscribers(view)),
                tag("div", intake.held(view), delivery.zones(view), delivery.decisions(view), delivery.disk(view)),
                class_="pair",
            ),
        ),
        tag("footer", tag("p", language.text("This page shows no entry, and changes nothing."))),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang=language.code)}\n"


def _header(view: View, title: str) -> Markup:
    language, facts = view.language, view.facts
    chosen = f"&list={view.chosen}" if view.chosen else ""
    links = [
        tag(
            "a",
            NAMES[code],
            href=f"?lang={code}{chosen}",
            lang=code,
            hreflang=code,
            aria_current="true" if code == language.code else None,
        )
        for code in LANGUAGES
    ]
    as_of = language.text("As of {time}", time=f"{language.day(facts.now.date())}, {facts.now:%H:%M:%S} UTC")
    return tag(
        "header",
        tag("div", tag("h1", title), tag("p", f"blocklistd {facts.version} · {as_of}", class_="quiet")),
        tag("nav", *links, aria_label=language.text("Language")),
    )
