"""The stop page of config/stop-page, served by a real nginx, and seen in a real browser."""

from __future__ import annotations

import http.client
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.programs import running
from tests.peers import peer
from tests.system.daemon import free_port

KIT = Path(__file__).parents[2] / "config" / "stop-page"
TITLES = {"en": "This page is blocked", "fr": "Cette page est bloquée", "de": "Diese Seite ist gesperrt"}
BLOCKED = "listed.example"


class Nginx:
    """nginx with the kit's configuration; only the ports and the folder are other ones."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port

    def get(self, path: str = "/", method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path, headers={"Host": BLOCKED, **headers})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer, text


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    program = peer("nginx", "nginx-light")
    folder = tmp_path_factory.mktemp("stop-page")
    port = free_port()
    shutil.copytree(KIT / "pages", folder / "pages")
    text = (KIT / "nginx.conf").read_text()
    text = text.replace("listen 80 default_server", f"listen 127.0.0.1:{port} default_server")
    text = re.sub(r"    listen \[::\].*\n", "", text).replace("/usr/share/blocklistd/stop-page", str(folder))
    main = folder / "nginx.conf"
    main.write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log info;\n"
        f"events {{}}\nhttp {{\n  types {{ text/html html; }}\n  access_log {folder}/access.log;\n"
        f"  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;\n"
        f"  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;\n{text}\n}}\n"
    )
    folder.chmod(0o755)
    with running([program, "-c", str(main), "-p", str(folder)], folder / "log") as process:
        made = Nginx(folder, port)
        for _ in range(200):
            assert process.poll() is None, (folder / "log").read_text()
            try:
                made.get()
                break
            except ConnectionRefusedError:
                process_waits(process)
        yield made


def process_waits(process: subprocess.Popen[bytes]) -> None:
    """Waits a little, or until the process ends."""
    try:
        process.wait(0.05)
    except subprocess.TimeoutExpired:
        return


@pytest.mark.parametrize("path", ["/", "/some/page?query=1", "/stop-page", "/pages/de.html", "/favicon.ico"])
def test_every_path_of_a_blocked_site_is_the_page_with_status_451(nginx: Nginx, path: str) -> None:
    answer, text = nginx.get(path)
    assert answer.status == 451
    assert TITLES["en"] in text
    assert answer.getheader("Link") == '<https://isp.example/>; rel="blocked-by"'
    assert answer.getheader("Cache-Control") == "no-store"


@pytest.mark.parametrize(
    ("asked", "language"),
    [("fr-CA,fr;q=0.9,en;q=0.8", "fr"), ("de", "de"), ("en-GB,de;q=0.5", "en"), ("pl,de;q=0.5", "en"), ("", "en")],
)
def test_the_page_is_in_the_first_language_of_the_browser(nginx: Nginx, asked: str, language: str) -> None:
    answer, text = nginx.get(**{"Accept-Language": asked})
    assert TITLES[language] in text
    assert f'<html lang="{language}">' in text
    assert answer.getheader("Content-Type") == "text/html; charset=utf-8"
    for other in TITLES.keys() - {language}:
        assert f'href="/stop-page/{other}"' in text
        linked, there = nginx.get(f"/stop-page/{other}", **{"Accept-Language": asked})
        assert (linked.status, TITLES[other] in there) == (451, True)


def test_a_page_loads_nothing_and_asks_for_nothing(nginx: Nginx) -> None:
    for page in (nginx.folder / "pages").iterdir():
        text = page.read_text()
        assert not re.search(r"<(script|img|link|form|input|iframe)|src=|url\(", text)
        assert "complaints@isp.example" in text
    assert nginx.get(method="POST", path="/")[0].status == 451


def test_nobody_keeps_who_asked(nginx: Nginx) -> None:
    nginx.get("/secret-path", **{"User-Agent": "somebody", "Cookie": "a=b"})
    nginx.get("/%00")
    written = b"".join(one.read_bytes() for one in nginx.folder.iterdir() if one.is_file() and one.suffix == ".log")
    for part in (BLOCKED.encode(), b"secret-path", b"somebody", b"127.0.0.1"):
        assert part not in written


@pytest.mark.parametrize("language", ["en", "fr", "de"])
def test_a_browser_shows_it(nginx: Nginx, tmp_path: Path, language: str) -> None:
    shown = subprocess.run(
        [
            peer("chromium", "chromium"),
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
            *("--disable-background-networking", "--disable-component-update", f"--user-data-dir={tmp_path}/profile"),
            f"--host-resolver-rules=MAP {BLOCKED} 127.0.0.1, MAP * ~NOTFOUND",
            *(f"--accept-lang={language}", f"--screenshot={tmp_path}/shown.png", "--window-size=400,800", "--dump-dom"),
            f"http://{BLOCKED}:{nginx.port}/some/page",
        ],
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert TITLES[language] in shown.stdout.decode()
