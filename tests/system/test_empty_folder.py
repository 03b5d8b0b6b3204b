"""The operator's guide: start in an empty folder, without systemd."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.system.daemon import USER, free_port

GUIDE = Path(__file__).parents[2] / "docs" / "operator.md"


def test_the_daemon_starts_in_an_empty_folder_as_the_guide_says(tmp_path: Path) -> None:
    """The configuration and the commands are those of the guide, with other ports and this user."""
    section = GUIDE.read_text().partition("**Without systemd**")[2].partition("`serve` stays")[0]
    configuration, script = (textwrap.dedent(block) for block in re.findall(r"(?:^    .*\n)+", section, re.M))
    assert script.endswith("blocklistd serve\n")
    for port in ("8080", "9153"):
        configuration = configuration.replace(f":{port}", f":{free_port()}")
    (tmp_path / "blocklistd.yaml").write_text(configuration.replace("alice", USER))
    program = f'blocklistd() {{ "{sys.executable}" -m blocklistd "$@"; }}\n'
    stop = "serving=$!\nuntil blocklistd status; do kill -0 $serving; done\nkill -TERM $serving\nwait $serving\n"
    steps = script.replace("blocklistd serve\n", f'"{sys.executable}" -m blocklistd serve 2> log &\n{stop}')
    done = subprocess.run(
        ["bash", "-ec", program + steps], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode in (0, -signal.SIGTERM), done.stderr + (tmp_path / "log").read_text()
    assert f"{tmp_path}/blocklistd.yaml: ok" in done.stdout
    assert "national\t" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("blocklistd.yaml", "drop", "keys", "log", "root-keys", "state"),
    ]
