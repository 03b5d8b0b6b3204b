"""`python -m tests.fuzz SECONDS [TARGET…]`: fuzz each target for so long, one after the other; all without names.

Prints runs and coverage. A crash is written to .fuzz/TARGET/crash-…, and ends with exit status 1. With `--keep`, inputs
that reach new code are added to the corpus in tests/fuzz/corpus, at most KEPT bytes each: run it with hours, seldom.
"""

from __future__ import annotations

import base64
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
CORPUS: Final = HERE / "corpus"
"""A file for each target: an input in base64 on each line."""
WORK: Final = Path(".fuzz")
KEPT: Final = 512  # bytes of an input that is kept in the corpus
MOST: Final = 4096  # bytes of an input while fuzzing
MEMORY: Final = 2048  # MiB


def fuzz_one(name: str, arguments: list[str]) -> None:
    """Runs one target in this process, until libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=["blocklistd"]):
        from tests.fuzz.targets import targets
    target = targets()[name]
    again = WORK / f"{name}.sh"  # libFuzzer runs its first argument again to merge a corpus
    again.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m tests.fuzz --one {name} "$@"\n')
    again.chmod(0o755)
    atheris.Setup([str(again.resolve()), *arguments], lambda data: target(bytes(data)))
    atheris.Fuzz()


def _run(name: str, *arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", "tests.fuzz", "--one", name, *arguments], check=False).returncode


def corpus(name: str) -> list[bytes]:
    """The kept inputs of a target: a line of base64 each."""
    path = CORPUS / f"{name}.txt"
    return [base64.b64decode(line) for line in path.read_bytes().split()] if path.exists() else []


def _keep(name: str, found: Path) -> None:
    """Replace the corpus of a target by the fewest of its inputs that reach the same code."""
    smaller = found.with_name(f"{name}.kept")
    shutil.rmtree(smaller, ignore_errors=True)
    smaller.mkdir()
    _run(name, "-merge=1", f"-max_len={KEPT}", "-verbosity=0", str(smaller), str(found))
    inputs = sorted((path.read_bytes() for path in smaller.iterdir()), key=lambda data: (len(data), data))
    lines = [base64.b64encode(data) + b"\n" for data in inputs if data]
    (CORPUS / f"{name}.txt").write_bytes(b"".join(lines))


def main(seconds: int, names: list[str], keep: bool) -> int:
    """Fuzzes the targets one after the other. Returns the exit status."""
    from tests.fuzz.options import SEEDS
    from tests.fuzz.targets import targets

    failed = []
    for name in names or sorted(targets()):
        found = WORK / name
        found.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate((*SEEDS.get(name, ()), *corpus(name))):
            (found / f"seed-{number}").write_bytes(seed)
        print(f"== {name}: {seconds} s", flush=True)
        limits = (f"-max_len={MOST}", f"-rss_limit_mb={MEMORY}", "-timeout=20", "-print_final_stats=1", "-verbosity=0")
        if _run(name, f"-max_total_time={seconds}", f"-artifact_prefix={found}/", *limits, str(found)):
            failed.append(name)
        elif keep:
            _keep(name, found)
    if failed:
        print(f"failed: {', '.join(failed)}: the inputs are in {WORK}/TARGET/crash-…")
    return int(bool(failed))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--one", name, *arguments]:
            fuzz_one(name, arguments)
        case [seconds, *names] if seconds.isdigit():
            sys.exit(main(int(seconds), [one for one in names if one != "--keep"], "--keep" in names))
        case _:
            sys.exit(__doc__)
