"""When the roles of a list are signed again, and how long their signatures are valid."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from securesystemslib.signer import CryptoSigner

from blocklistd.limits import RESIGN_SLACK
from blocklistd.model import Version
from blocklistd.signing.roles import Lifetimes, newest, sign
from blocklistd.store.metadata import SignedRole
from tests.versions_of import LIST

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
LIVES = Lifetimes(14 * DAY, DAY)
KEY = CryptoSigner.generate_ed25519()


def signed(
    roles: dict[str, SignedRole],
    now: datetime,
    latest: datetime | None = None,
    lives: Lifetimes = LIVES,
    above: int = 0,
) -> dict[str, SignedRole]:
    """The newest version of each role after signing those that are due."""
    return newest([*roles.values(), *sign(LIST, None, roles, lives, now, KEY, above, latest)])


def ends(roles: dict[str, SignedRole]) -> dict[str, timedelta]:
    """How long each role is valid from NOW on."""
    return {name: role.expires - NOW for name, role in roles.items()}


def test_a_role_is_signed_again_after_a_quarter_of_its_lifetime() -> None:
    first = signed({}, NOW)
    assert signed(first, NOW + 5 * HOUR) == first
    later = signed(first, NOW + 7 * HOUR)
    assert later["timestamp"].version == 2
    assert (later["targets"], later["snapshot"]) == (first["targets"], first["snapshot"])
    assert {role.version for role in signed(first, NOW + 4 * DAY).values()} == {2}


def test_a_clock_behind_within_the_slack_signs_nothing_again() -> None:
    first = signed({}, NOW)
    assert signed(first, NOW - timedelta(seconds=RESIGN_SLACK)) == first


def test_roles_signed_by_a_clock_that_was_ahead_are_signed_again() -> None:
    for far in (30 * DAY, 800 * DAY):
        ahead = signed({}, NOW + far)
        right = signed(ahead, NOW)
        assert {role.version for role in right.values()} == {2}
        assert ends(right) == ends(signed({}, NOW))


def test_while_clocks_differ_signatures_are_valid_by_both() -> None:
    """`now` is the recorded time; `latest` is a clock that is more than a year ahead."""
    first = signed({}, NOW)
    ahead = NOW + 400 * DAY
    both = signed(first, NOW, ahead)
    assert both["timestamp"].signed == NOW
    assert all(role.expires > ahead for role in both.values())
    assert signed(both, NOW + 5 * HOUR, ahead + 5 * HOUR) == both
    assert signed(both, NOW + 7 * HOUR, ahead + 7 * HOUR)["timestamp"].version == 3
    assert ends(signed(both, NOW)) == ends(signed({}, NOW)), "after the clock is right again"


def test_a_shorter_lifetime_takes_effect_at_once() -> None:
    first = signed({}, NOW)
    assert ends(signed(first, NOW, lives=Lifetimes(7 * DAY, HOUR))) == ends(
        signed({}, NOW, lives=Lifetimes(7 * DAY, HOUR))
    )


def test_all_versions_exceed_the_given_number() -> None:
    first = signed({}, NOW)
    above = signed(first, NOW, above=1000)
    assert {role.version for role in above.values()} == {1001}
    assert signed(above, NOW, above=1000) == above
    assert {role.target for role in above.values()} == {Version(0)}
