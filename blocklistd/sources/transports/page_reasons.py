"""The messages of errors of HTTP requests in a process of its own: for pages, whose links it follows, and for feeds.

The text of a TLS error or of an error of the system is not the hotline's, but a process that was taken over could write
any text there. So the usual ones are listed.
"""

from __future__ import annotations

import errno
import os
from typing import Final

from blocklistd.sources.formats import elements, pages

_CERTIFICATE: Final = (
    "self-signed certificate",
    "self-signed certificate in certificate chain",
    "unable to get local issuer certificate",
    "unable to get issuer certificate",
    "certificate has expired",
    "certificate is not yet valid",
    "Hostname mismatch",
    "IP address mismatch",
)
_ERRORS: Final = (
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.ECONNABORTED,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.ETIMEDOUT,
    errno.EPIPE,
    errno.EADDRNOTAVAIL,
)
_AT_URL: Final = (
    *("status N: expected 200, check `auth`", "status N: expected 200, check `url`"),
    "status N: expected 200, the next pull tries again",
    "a transfer coding that was not requested: expected none, or chunked",
    "a content coding that was not requested: expected none",
    "no length and not chunked: expected Content-Length or chunks; ask the hotline",
    "a page of more than N bytes: expected smaller ones",
    "a page that contains zeros: expected UTF-8; ask the hotline",
    *(
        f"its certificate is not trusted: {found}: expected one for this host by `ca` or the system's authorities"
        for found in _CERTIFICATE
    ),
    *(f"{os.strerror(one)}: expected a response, check `url` and the network" for one in _ERRORS),
    "more than N interim responses (1xx): expected a final response, check `url`",
    "the connection was closed without an answer: expected HTTP, check `url`",
    "the body was cut short: expected as many bytes as announced; the next pull tries again",
    "not an HTTP answer: expected HTTP/1.1 with headers of at most N KiB, check `url`",
    "the connection broke: expected a complete answer; the next pull tries again",
    "redirects to another host: expected the same one, or one that `redirects` names",
    "redirects without a Location: expected the list, check `url`",
    "redirects in a circle: expected the list, check `url`",
    "redirects more than N times: expected the list, check `url`",
    "another origin, for which the `ca` of this source does not count: expected that of `url`",
)
HTTP_REASONS: Final = (
    *(f"OURS{redirected}: {text}" for redirected in ("", " (redirected)") for text in _AT_URL),
    "OURS: its name does not resolve: check `url`, and the resolver of this machine",
    "OURS: its TLS files can't be read: check `ca` and `auth.client_cert`",
)
"""The messages of HttpRequests (http.py) and of the modules that use it in a process of its own."""
PAGE_REASONS: Final = (
    *pages.REASONS,
    *elements.REASONS,
    *HTTP_REASONS,
    "OURS: links of pages lead in a circle: expected a last page; ask the hotline",
    "OURS: more than N pages: expected fewer; ask the hotline",
    "OURS: a further page did not arrive, N times: expected all pages; the next pull tries again",
    "OURS: a link to a text that is no URL: expected a URL; ask the hotline",
    "OURS: a link to another origin: expected that of `url`, or a host that `redirects` names",
)
"""The messages of PageDownload (pages.py)."""
