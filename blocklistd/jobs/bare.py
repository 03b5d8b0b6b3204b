"""The server of the jobs begins anew without the daemon's environment, and a job is a fork of it: the daemon can have
secrets there (`env:` in the configuration), and no job is to have them in its memory. The server imports this first.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from typing import Final

KEPT: Final = ("LANG", "LC_ALL", "LC_CTYPE", "PYTHONHOME", "PYTHONPATH", "SSL_CERT_DIR", "SSL_CERT_FILE", "TMPDIR")
_SERVER: Final = "from multiprocessing.forkserver import main"


def environment(daemons: Mapping[str, str]) -> dict[str, str]:
    """What the server has of the daemon's environment. numpy starts no threads: what forks has one."""
    return {"OPENBLAS_NUM_THREADS": "1"} | {name: daemons[name] for name in KEPT if name in daemons}


if sys.orig_argv[-1].startswith(_SERVER):
    _bare = environment(os.environ)
    if _bare != dict(os.environ):
        os.execve(sys.executable, sys.orig_argv, _bare)
    with contextlib.suppress(ImportError, OSError, RuntimeError):  # a job that needs it says so
        import pyseccomp  # noqa: F401 - searching for its library takes four processes, for which a job has no right
