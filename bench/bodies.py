"""Generates bodies of sources from a seed: lists of values in random order, under reserved names."""

from __future__ import annotations

import random

WORDS = (
    "a",
    "album",
    "archive",
    "board",
    "download",
    "f",
    "files",
    "gallery",
    "i",
    "img",
    "p",
    "page",
    "post",
    "set",
    "t",
)
DIGITS = "abcdefghijklmnopqrstuvwxyz0123456789"


def urls(count: int, seed: int = 1) -> list[bytes]:
    """URLs of 60 to 100 octets, about twenty for each host."""
    chance = random.Random(seed)
    hosts = [f"{_word(chance, 8)}.{_word(chance, 5)}.example" for _ in range(max(1, count // 20))]
    return [
        f"https://{chance.choice(hosts)}/{chance.choice(WORDS)}/{_word(chance, 26)}-{number}".encode()
        for number in range(count)
    ]


def domains(count: int, seed: int = 2) -> list[bytes]:
    """Domain names of two labels."""
    chance = random.Random(seed)
    return [f"{_word(chance, 6)}{number}.example".encode() for number in range(count)]


def sha256(count: int, seed: int = 3) -> list[bytes]:
    """Random SHA-256 values in hexadecimal."""
    chance = random.Random(seed)
    return [chance.randbytes(32).hex().encode() for _ in range(count)]


def churned(lines: list[bytes], fresh: list[bytes], seed: int = 4) -> list[bytes]:
    """A copy of `lines` in which each fresh line replaces a random line."""
    chance = random.Random(seed)
    lines = list(lines)
    for line in fresh:
        lines[chance.randrange(len(lines))] = line
    return lines


def shuffled(lines: list[bytes], seed: int = 5) -> list[bytes]:
    """A copy of `lines` in random order."""
    lines = list(lines)
    random.Random(seed).shuffle(lines)
    return lines


def _word(chance: random.Random, length: int) -> str:
    return "".join(chance.choices(DIGITS, k=length))
