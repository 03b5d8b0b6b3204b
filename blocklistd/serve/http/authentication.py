"""Authenticates requests: by a bearer token (RFC 6750), or by the client certificate of their connection.

A token decides alone if the request has one; a certificate of another subscriber beside it is refused. State: the
subscribers by token and by public key; `replace` replaces all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Final

from blocklistd.limits import MAX_KNOWN_HEADERS
from blocklistd.model import SubscriberId
from blocklistd.serve.http.problems import Problem
from blocklistd.serve.tls_context import ClientCertificate
from blocklistd.store.credentials import digest
from blocklistd.store.subscribers import Subscriber
from blocklistd.times import Clock

CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="blocklistd"'}
_EXPECTED: Final = "expected `Authorization: Bearer` and a subscriber's token"
_OTHERWISE: Final = ", or a client certificate that is registered for a subscriber"


class Unauthorized(Problem):
    """Problem 401 (RFC 6750 3.1). It closes the connection, so that no more requests on it are read.

    `reason` is for the log only. `subscriber` is the owner of a revoked or expired credential, else "". `detail` is for
    the client.
    """

    ends_connection = True

    def __init__(self, reason: str, subscriber: str = "", detail: str = _EXPECTED + _OTHERWISE) -> None:
        super().__init__(HTTPStatus.UNAUTHORIZED, detail, CHALLENGE)
        self.reason = reason
        self.subscriber = subscriber


@dataclass(frozen=True, slots=True)
class Admission:
    """By what a request was authenticated: the digest of a token, or a certificate (the token is ""); and whose it was
    then."""

    subscriber: Subscriber
    token: str
    certificate: ClientCertificate | None = None


class Credentials:
    """The subscribers by the SHA-256 of their token and of their public keys, in memory: a request reads neither
    database nor disk. `authorities`: by which client certificates are verified, as in ClientCertificate."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.authorities = ""
        self.old_seen: dict[str, datetime] = {}
        """When each token that was replaced was last used, by its digest. Empty after a restart."""
        self._by_token: Mapping[str, Subscriber] = {}
        self._by_old_token: Mapping[str, tuple[datetime, Subscriber]] = {}
        """The subscribers by tokens that were replaced, and when these expire."""
        self._by_key: Mapping[str, Subscriber] = {}
        self._revoked: Mapping[str, SubscriberId] = {}
        """Revoked subscribers, by token and by public key."""
        self._by_header: dict[str, Admission] = {}

    def replace(self, by_token: Mapping[str, Subscriber]) -> None:
        """Replaces the subscribers, by the digest of their token; revoked ones included."""
        self._by_token = {token: owner for token, owner in by_token.items() if owner.revoked is None}
        self._by_old_token = {
            old.token: (old.expires, owner) for owner in self._by_token.values() for old in owner.old_tokens
        }
        self._by_key = {key: owner for owner in self._by_token.values() for key in owner.certificates}
        revoked = {token: owner for token, owner in by_token.items() if owner.revoked is not None}
        others = {old.token: owner for owner in revoked.values() for old in owner.old_tokens}
        others |= {key: owner for owner in revoked.values() for key in owner.certificates}
        self._revoked = {credential: owner.id for credential, owner in (revoked | others).items()}
        self.old_seen = {token: seen for token, seen in self.old_seen.items() if token in self._by_old_token}
        self._by_header = {}

    def authenticate(self, authorization: str | None, certificate: ClientCertificate | None) -> Admission:
        """Authenticates by an Authorization header, or without one by a certificate. Raises Unauthorized."""
        if authorization is None and certificate is not None:
            return self._by_certificate(certificate)
        found = self._by_authorization(authorization)
        other = self._by_key.get(certificate.public_key) if certificate is not None else None
        if other is not None and other.id != found.subscriber.id:
            raise Unauthorized(
                "its token and its client certificate belong to two subscribers",
                found.subscriber.id,
                "the token and the client certificate belong to two subscribers: send only one of them",
            )
        return found

    def is_valid(self, admission: Admission) -> bool:
        """Whether what an earlier request was authenticated by is valid still, and its subscriber has lost no list."""
        if admission.certificate is not None:
            owner = None if self._fault(admission.certificate) else self._by_key.get(admission.certificate.public_key)
        else:
            owner = self._by_token.get(admission.token)
            if owner is None and (old := self._by_old_token.get(admission.token)) and self._clock() < old[0]:
                owner = old[1]
        return owner is not None and owner.id == admission.subscriber.id and owner.lists >= admission.subscriber.lists

    def _by_authorization(self, authorization: str | None) -> Admission:
        """Tokens are looked up by their SHA-256, so that timing reveals no token. A valid header is remembered until
        the subscribers change, and then found without SHA-256. That look-up is safe too: the key of Python's string
        hash differs in each process."""
        known = self._by_header.get(authorization or "")
        if known is not None:
            return known
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthorized("it sent no token")
        hashed = digest(token.strip())
        found = self._by_token.get(hashed)
        if found is None and (old := self._by_old_token.get(hashed)) is not None:
            expires, owner = old
            if (now := self._clock()) >= expires:
                raise Unauthorized("its token has expired: the subscriber has a newer one", owner.id)
            self.old_seen[hashed] = now
            return Admission(owner, hashed)  # not remembered by its header: it expires
        if found is None and hashed in self._revoked:
            raise Unauthorized("the subscriber was revoked", self._revoked[hashed])
        if found is None:
            raise Unauthorized("its token is unknown")
        admission = Admission(found, hashed)
        if authorization is not None and len(self._by_header) < MAX_KNOWN_HEADERS:
            self._by_header[authorization] = admission
        return admission

    def _by_certificate(self, certificate: ClientCertificate) -> Admission:
        found = self._by_key.get(certificate.public_key)
        if fault := self._fault(certificate):
            owner = found.id if found is not None else ""
            raise Unauthorized(f"its client certificate {fault}", owner, f"the client certificate {fault}")
        if found is None and certificate.public_key in self._revoked:
            raise Unauthorized("the subscriber was revoked", self._revoked[certificate.public_key])
        if found is None:
            raise Unauthorized(
                "its client certificate is not registered",
                detail="the client certificate is registered for no subscriber: give the publisher the SHA-256 of its "
                "public key, or send a token",
            )
        return Admission(found, "", certificate)

    def _fault(self, certificate: ClientCertificate) -> str | None:
        """Why a certificate authenticates no subscriber, registered or not; None if there is no such reason."""
        now = self._clock()
        if now < certificate.begins:
            return "is not valid yet"
        if now >= certificate.ends:
            return "has expired: a new one with the same key needs no registration"
        if certificate.authorities != self.authorities:
            return "was verified by authorities that the publisher has replaced since: connect again"
        return None if certificate.trusted else "is signed by none of the authorities that the publisher accepts"
