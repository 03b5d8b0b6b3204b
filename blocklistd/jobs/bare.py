"""Clears the environment of the server that forks the jobs. The server imports this module first.

The daemon's environment can hold secrets (`env:` in the configuration), and no job may have them in its memory. So the
server executes itself again with the few variables in KEPT.
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
    """The server's environment, from the daemon's. numpy starts no threads in it: a process that forks must have one
    thread."""
    return {"OPENBLAS_NUM_THREADS": "1"} | {name: daemons[name] for name in KEPT if name in daemons}


if sys.orig_argv[-1].startswith(_SERVER):
    _bare = environment(os.environ)
    if _bare != dict(os.environ):
        os.execve(sys.executable, sys.orig_argv, _bare)
    with contextlib.suppress(ImportError, OSError, RuntimeError):  # a job that needs it says so
        import pyseccomp  # noqa: F401 - searching for its library takes four processes, for which a job has no right
