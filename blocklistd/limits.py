"""Every bound of the system, named once, with its unit. Nothing waits, grows or queues without one of these."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

# -- configuration -------------------------------------------------------------------------------------------------
MAX_CONFIG: Final = 1 * MIB  # bytes of the configuration file
MAX_DURATION_DAYS: Final = 36500  # so that a time added to now is still a date

# -- pulling -------------------------------------------------------------------------------------------------------
DECOMPRESSED_FACTOR: Final = 8  # a body may grow to so many times max_bytes when it is decompressed
MAX_REDIRECTS: Final = 5
MAX_SIGNATURE_BYTES: Final = 16 * KIB  # a minisign signature has at most 8 KiB of comment
PULL_JITTER: Final = 0.1  # share of the interval that a scheduled pull may come later, at most PULL_JITTER_MAX
PULL_JITTER_MAX: Final = 60.0  # seconds
MAX_CONCURRENT_PULLS: Final = 4
MAX_EVIDENCE_PER_SOURCE: Final = 8  # refused bodies kept for the operator

# -- records -------------------------------------------------------------------------------------------------------
MAX_LINE: Final = 64 * KIB  # bytes of one record in a body
MAX_URL: Final = 8 * KIB  # characters of a canonical URL
MAX_ATTRIBUTE: Final = 256  # characters of one attribute

# -- jobs ----------------------------------------------------------------------------------------------------------
INTAKE_MEMORY: Final = 2560 * MIB  # RLIMIT_DATA of the job that reads hostile bytes
FETCH_MEMORY: Final = 512 * MIB  # RLIMIT_DATA of a transport in a process of its own
MAX_NOTES: Final = 16 * MIB  # bytes of what is noted of a body, so that a change of it is not read whole
OVERLAY_SHARE: Final = 64  # what a source asserts is written anew when one line in so many has changed
JOB_START: Final = 120.0  # seconds until a job has a process; the first waits for the imports of their server
INTAKE_CPU: Final = 600  # seconds, RLIMIT_CPU
INTAKE_WALL: Final = 900.0  # seconds
COMMIT_WALL: Final = 1800.0  # seconds
MAX_JOBS: Final = 8  # processes at once; above MAX_CONCURRENT_PULLS, so that no hotline keeps the others waiting
MAX_JOB_REPORT: Final = 1 * MIB  # bytes of the answer that a job may send

THREADS: Final = 48  # for calls to the database and to files: more than can wait for one writer at a time

# -- store ---------------------------------------------------------------------------------------------------------
SQLITE_BUSY: Final = 60.0  # seconds that a writer waits for another
RESERVE: Final = 1 * MIB  # bytes that are kept for a start on a full disk
KEPT_SNAPSHOTS: Final = 8  # newest snapshots that stay downloadable per list
MIN_KEPT_VERSIONS: Final = 100  # diffs start at any of these, however old they are
UPKEEP_MINUTES: Final = 60  # between two prunings of the deltas to the retention
SWEEP_SPARES: Final = 60.0  # seconds before the oldest work that runs: younger files are not swept
SWEEP_MINUTES: Final = 5  # between two sweeps of the files that nothing names any more
KEPT_PULLS: Final = 1000  # rows of history per source
MAX_RENDERINGS: Final = 2  # made at once for the feed: pulls and commits come first
DIFF_CACHE: Final = 1 * GIB  # bytes of diffs kept as files
KEPT_METADATA: Final = 16  # versions of each signed role that stay downloadable

# -- feed ----------------------------------------------------------------------------------------------------------
MAX_CONNECTIONS: Final = 4096
OPEN_FILES: Final = 16384  # connections of every listener, each with a file that is sent, and all else; as in the unit
MAX_CONNECTIONS_PER_SUBSCRIBER: Final = 256  # requests under way at once: dozens of nodes, each waiting and polling
MAX_REQUEST_BODY: Final = 64 * KIB
MAX_FREE_TEXT: Final = 500  # characters that an operator writes for the record
MAX_AUDIT_LINES: Final = 100_000  # that one answer has
MAX_WAIT: Final = 55  # seconds of a long poll
FIRST_REQUEST: Final = 20.0  # seconds until the first whole request of a connection
KEEPALIVE: Final = 75.0  # seconds
WRITE_STALL: Final = 30.0  # seconds that one chunk may take to leave
PIECE: Final = 1 * MIB  # of a file read, or written and synced, at once
CHUNK: Final = 256 * KIB  # bytes written between two turns of the loop
DRAIN: Final = 10.0  # seconds that SIGTERM gives to requests under way
SMALL_DIFF: Final = 2000  # changes that are rendered in a thread; more go to a job

# -- signing -------------------------------------------------------------------------------------------------------
RESIGN_PARTS: Final = 4  # roles are signed again after this part of their life
CERTIFICATE_ALARM_DAYS: Final = 7  # before the feed's certificate expires
ROOT_ALARM_DAYS: Final = 60

# -- client --------------------------------------------------------------------------------------------------------
CLIENT_TIMEOUT: Final = 60.0  # seconds without a byte
CLIENT_METADATA: Final = 60.0  # seconds until a metadata file has arrived whole
CLIENT_BODY: Final = 3600.0  # seconds until a body has arrived whole
CLIENT_BACKOFF_MAX: Final = 60.0  # seconds between two tries of `sync --watch`
CLIENT_POLL: Final = 10.0  # seconds between two polls of a feed that does not hold its answers
CLIENT_REFRESH: Final = 3600.0  # seconds without a change until the metadata is looked at all the same
CLIENT_EXEC: Final = 600.0  # seconds that --exec may take
MAX_STATUS: Final = 64 * KIB  # bytes of a STATUS

# -- DNS -------------------------------------------------------------------------------------------------------------
DNS_CONNECTIONS: Final = 512
DNS_IDLE: Final = 20.0  # seconds until the next whole request on a connection (RFC 7766 6.2.3)
MAX_SECONDARIES: Final = 256  # addresses of a subscriber that are remembered, by zone: those that asked last
OMITTED_SHOWN: Final = 100  # ids of omitted entries in a status
