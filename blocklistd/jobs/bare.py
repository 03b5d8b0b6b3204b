"""Clears the environment of the forkserver, which forks the jobs. It imports this module first.

The daemon's environment can contain secrets (`env:` in the configuration), and no job may have them in its memory. So
the forkserver executes itself again (execve) with only the variables in KEPT.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from typing import Final

KEPT: Final = ("LANG", "LC_ALL", "LC_CTYPE", "PYTHONHOME", "PYTHONPATH", "SSL_CERT_DIR", "SSL_CERT_FILE", "TMPDIR")
IN_FORKSERVER: Final = sys.orig_argv[-1].startswith("from multiprocessing.forkserver import main")
"""Whether this process is the forkserver, or one of its forks."""


def environment(daemons: Mapping[str, str]) -> dict[str, str]:
    """The forkserver's environment, from the daemon's. OPENBLAS_NUM_THREADS prevents that numpy starts threads: a
    process that forks must have only one."""
    return {"OPENBLAS_NUM_THREADS": "1"} | {name: daemons[name] for name in KEPT if name in daemons}


if IN_FORKSERVER:
    _bare = environment(os.environ)
    if _bare != dict(os.environ):
        os.execve(sys.executable, sys.orig_argv, _bare)
    with contextlib.suppress(ImportError, OSError, RuntimeError):  # a job that needs it raises the error
        # here, since it finds its library by starting four processes, which a job may not do
        import pyseccomp  # noqa: F401
