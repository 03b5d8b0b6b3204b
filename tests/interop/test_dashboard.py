"""The dashboard of a running daemon, seen in a real Chromium."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dns.tsig
import pytest

from tests.interop.browser import Browser, browsing
from tests.system.daemon import Answer, Daemon, free_port
from tests.system.test_zones import ORIGIN, ZONE, Secondary

MARK = "zq7secret"  # in every entry
WHY = "zq8reason"  # in every reason that a person gives
NAMES = [f"{MARK}-{number}.example" for number in range(300)]
TITLES = {"en": "State of", "fr": "État de", "de": "Zustand von"}
SECTIONS = ["state", "lists", "course", "sources", "subscribers", "held", "zones", "decisions", "disk"]

CONTRASTS = """
(() => {
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const bright = ([r, g, b]) => {
    const part = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const ground = element => {
    for (let at = element; at; at = at.parentElement) {
      const found = parse(getComputedStyle(at).backgroundColor);
      if (found.length === 3 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || element.closest('title, desc')) continue;
    const style = getComputedStyle(element);
    const colour = parse(element.closest('svg') ? style.fill : style.color);
    const [high, low] = [bright(colour), bright(ground(element))].sort((a, b) => b - a);
    found.push([(high + 0.05) / (low + 0.05), walk.currentNode.data.trim()]);
  }
  return found;
})()
"""
"""The contrast of each text of the page against its ground (WCAG 2.2, 1.4.3)."""
TOO_WIDE = """
[...document.querySelectorAll('body *')].filter(one => {
  const box = one.getBoundingClientRect();
  return box.width && box.right > innerWidth + 0.5 && !one.closest('caption, thead, .skip');
}).map(one => one.outerHTML.slice(0, 200))
"""


class Watched:
    """A daemon with something in each section of its dashboard."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.dns_port = folder, free_port()
        self.write("first", NAMES)
        self.write("second", NAMES)
        common = {
            "format": "text",
            "defaults": {"type": "domain"},
            "schedule": "every 1d",
            "verify": {"method": "none"},
        }
        sources = {name: {"url": f"file:{folder}/{name}.txt", **common} for name in ("first", "second", "absent")}
        free = {"max_added": "100%", "max_removed": "100%", "min_change": 1000, "daily": "off"}
        self.daemon = Daemon(
            folder,
            {
                "sources": sources,
                "lists": {
                    "national": {"sources": ["first"], "guards": free},
                    "guarded": {"sources": ["second"]},
                },
                "zones": {ZONE: {"list": "national"}},
                "dns": {"listen": [f"127.0.0.1:{self.dns_port}"]},
            },
        )

    def write(self, source: str, names: list[str]) -> None:
        (self.folder / f"{source}.txt").write_text("".join(f"{name}\n" for name in names))

    def fill(self) -> None:
        daemon = self.daemon
        for source in ("first", "second", "absent"):
            daemon.first_pull(source)
        added = self.subscriber("isp-late", lists=["national"], zones=[ZONE], objective="1s")
        self.subscriber("isp-new", lists=["guarded"])
        self.write("first", NAMES[2:])
        assert daemon.pull("first")["outcome"] == "published"
        self.receive(added["token"])
        secondary = Secondary(self.dns_port, self.key(added))
        secondary.refresh("AXFR")
        secondary.refresh()
        assert daemon.pull("second")["outcome"] == "unchanged"
        self.write("second", NAMES[:50])
        assert daemon.pull("second")["outcome"] == "held"
        done = daemon.ask("entry delist", list="national", entry=NAMES[9], why=WHY)  # of which the node knows nothing
        assert done.status == 200, done.body
        first = daemon.ask("candidate list").json[0]["id"]
        assert daemon.ask("candidate reject", candidate=first, why=WHY).status == 200
        self.write("second", NAMES[:40])
        assert daemon.pull("second")["outcome"] == "held"

    def subscriber(self, name: str, **more: Any) -> dict[str, Any]:
        answer = self.daemon.ask("subscriber add", id=name, **more)
        assert answer.status == 200, answer.body
        made: dict[str, Any] = answer.json
        return made

    def key(self, made: dict[str, Any]) -> Any:
        tsig = made["tsig"]
        return dns.tsig.Key(tsig["name"], base64.b64decode(tsig["secret"]), tsig["algorithm"])

    def receive(self, token: str) -> None:
        status = self.daemon.get("/v1/lists/national", token).json
        receipt = {"session": status["session"], "version": status["version"], "node": "edge-1", "state": "applied"}
        receipt |= {"reason": None, "applied_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "probe": None}
        answer = self.daemon.post("/v1/lists/national/receipts", token, json.dumps(receipt).encode())
        assert answer.status == 204, answer.body

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.daemon.ops_port}/"

    def text(self, query: str) -> str:
        return self.page(query).body.decode().replace("<wbr>", "")

    def page(self, query: str = "") -> Answer:
        answer = self.daemon.ops(f"/{query}")
        assert answer.status == 200, answer.body
        return answer


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    made = Watched(tmp_path_factory.mktemp("dashboard"))
    with made.daemon as daemon:
        made.fill()

        def is_complete() -> bool:  # a version is counted after its release, a secondary is believed after a while
            text = made.text("?lang=en")
            return "2 nodes late" in text and text.count('class="plot"') == 3

        daemon.wait_for(is_complete)
        yield made


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("browser")) as made:
        yield made


@pytest.mark.parametrize(("width", "dark"), [(400, False), (400, True), (1400, False), (1400, True), (900, False)])
@pytest.mark.parametrize("language", ["en", "fr", "de"])
def test_it_can_be_read(watched: Watched, browser: Browser, width: int, dark: bool, language: str) -> None:
    browser.open(watched.url, width=width, dark=dark, language=f"{language}-CH,en;q=0.5")
    assert browser.requested == [watched.url]
    assert browser.complaints == []
    assert browser.evaluate("document.documentElement.lang") == language
    assert TITLES[language] in browser.evaluate("document.querySelector('h1').innerText")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate(TOO_WIDE) == []
    contrasts = browser.evaluate(CONTRASTS)
    assert len(contrasts) > 100
    assert [one for one in contrasts if one[0] < 4.5] == []
    assert browser.evaluate("[...document.querySelectorAll('section')].map(one => one.id)") == SECTIONS
    ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, re.findall(r"\d+", ground))) < 60) is dark, "prefers-color-scheme"
    assert browser.evaluate("[...document.querySelectorAll('.figure svg.plot')].length") == 3


def test_the_policy_stops_what_the_page_does_not_need(watched: Watched, browser: Browser) -> None:
    browser.open(watched.url)
    browser.evaluate("document.body.append(Object.assign(new Image(), {src: 'http://192.0.2.1/x.png'}))")
    script = "document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))"
    browser.evaluate(script)
    browser.evaluate("document.body.setAttribute('style', 'display: none')")
    assert browser.evaluate("window.ran === undefined")
    assert browser.evaluate("getComputedStyle(document.body).display") == "block"
    blocked = [found.get("blockedReason") for found in browser.reported("Network.loadingFailed")]
    assert browser.requested == [watched.url, "http://192.0.2.1/x.png"]
    assert blocked == ["csp"], "nothing was sent"
    assert len([text for text in browser.complaints if "Content Security Policy" in text]) >= 3


def test_links_choose_language_and_list(watched: Watched, browser: Browser) -> None:
    def follow(link: str) -> None:
        browser.open(browser.evaluate(f"document.querySelector({link!r}).href"), language="fr")

    browser.open(watched.url, language="fr")
    follow("header nav a[hreflang=de]")
    assert browser.evaluate("document.documentElement.lang") == "de"
    follow("#lists tbody th a")
    assert browser.evaluate("document.documentElement.lang") == "de"
    assert browser.evaluate("location.hash") == "#course"
    assert "guarded" in browser.evaluate("document.querySelector('.choice').innerText")
    follow("header nav a[hreflang=en]")
    assert "list guarded" in browser.evaluate("document.querySelector('.choice').innerText")


def test_it_shows_what_is_there_and_no_entry_and_no_reason(watched: Watched) -> None:
    held = watched.daemon.ask("candidate list").json[0]["id"]
    lines = watched.daemon.ask("audit").json
    rejected = next(line for line in reversed(lines) if line["action"] == "candidate reject")
    for language in ("en", "fr", "de"):
        for chosen in ("", "national", "guarded"):
            text = watched.text(f"?lang={language}&list={chosen}")
            assert MARK not in text
            assert WHY not in text
            for shown in (held, "isp-late", "isp-new", "127.0.0.1", ZONE, "max_removed", "entry delist", "national"):
                assert shown in text, shown
    text = watched.text("?lang=en")
    assert f"<code>{rejected['object']}</code>" in text
    assert "source pull" not in text
    assert text.index("isp-late") < text.index("isp-new")
    assert "last pull failed" in text
    assert "A forecast needs samples over 3 days" in text
    assert ORIGIN.to_text(omit_final_dot=True) in text


def test_many_readers_get_the_page_that_was_made_once(watched: Watched) -> None:
    pages = {watched.page("?lang=en").body for _ in range(30)}
    assert len(pages) <= 2, "30 requests take less than the five seconds of a page, or cross one end of them"


def test_who_asks_for_what(watched: Watched) -> None:
    answer = watched.page()
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "server" not in answer.headers
    assert watched.daemon.ops("/no-page").status == 404
    assert watched.daemon.ops("/?lang=xx&list=%3Cb%3E").status == 200
