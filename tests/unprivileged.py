"""What refuses a file that one may not look at, also where the tests run as root."""

from __future__ import annotations

import os
from typing import Final

UNPRIVILEGED: Final = (
    ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"] if os.geteuid() == 0 else []
)
"""Before a command: it has no more rights to files than their modes give."""
