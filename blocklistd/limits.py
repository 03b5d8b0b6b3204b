"""Every bound of the system, named once, with its unit. Nothing waits, grows or queues without one of these."""

from __future__ import annotations

from datetime import timedelta
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
MAX_INTERIM: Final = 8  # answers 1xx before the answer
MAX_FUTURE: Final = timedelta(hours=1)  # the most that a signed time may be ahead: the default of `verify.max_future`
MAX_SIGNATURE_BYTES: Final = 16 * KIB  # a minisign signature has at most 8 KiB of comment
PULL_JITTER: Final = 0.1  # share of the interval that a scheduled pull may come later, at most PULL_JITTER_MAX
PULL_JITTER_MAX: Final = 60.0  # seconds
MAX_CONCURRENT_PULLS: Final = 4
EVIDENCE_DAYS: Final = 90  # that a refused body is kept: the default of `evidence.keep`
EVIDENCE_BYTES: Final = 10 * GIB  # of a source's refused bodies and signatures: the default of `evidence.max_bytes`
EVIDENCE_BODIES: Final = 1000  # refused bodies of a source, however small

# -- records -------------------------------------------------------------------------------------------------------
MAX_LINE: Final = 64 * KIB  # bytes of one record in a body
MAX_URL: Final = 8 * KIB  # characters of a canonical URL
MAX_URL_INPUT: Final = 3 * MAX_URL  # characters of a URL as it is sent: each may be percent-encoded
MAX_ATTRIBUTE: Final = 256  # characters of one attribute

# -- jobs ----------------------------------------------------------------------------------------------------------
INTAKE_MEMORY: Final = 2560 * MIB  # RLIMIT_DATA of the job that reads hostile bytes
INTAKE_FILE: Final = 4 * GIB  # bytes that each file of that job may grow to; more where a body may unpack to more
FETCH_MEMORY: Final = 512 * MIB  # RLIMIT_DATA of a transport in a process of its own
MAX_READING: Final = 2200 * MIB  # of INTAKE_MEMORY, for the lines of a body, which are all read before one is written
MAX_REJECTS: Final = 4_000_000  # records of a body that are no entries
MAX_HASHES: Final = 30_000_000  # lines of a body of hashes: some 70 bytes each
MAX_REREAD: Final = 100_000  # lines of a CSV read again because a quote does not close; and 8 more for each line
MAX_STREAMS: Final = 100_000  # gzip members or zstd frames of a body
FETCH_THREADS: Final = 4  # of a transport in a process of its own, beside its first thread
JOB_DESCRIPTORS: Final = 1024  # that a job which reads hostile bytes may have open
MAX_NOTES: Final = 16 * MIB  # bytes of the notes on a body, which let the next pull read only its changes
OVERLAY_SHARE: Final = 64  # a source's canonical file is written anew once one line in so many has changed
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
SHORT_DISK: Final = 4  # where less than one part in so many of the disk is free, each pull is followed by a sweep
SHORT_SPARES: Final = 1.0  # seconds, instead of SWEEP_SPARES, in such a sweep
SWEEP_MINUTES: Final = 5  # between two sweeps of the files that nothing names any more
KEPT_PULLS: Final = 1000  # rows of history per source
MAX_RENDERINGS: Final = 2  # made at once for the feed: pulls and commits come first
DIFF_CACHE: Final = 1 * GIB  # bytes of diffs kept as files
KEPT_METADATA: Final = 16  # versions of each signed role that stay downloadable

# -- feed ----------------------------------------------------------------------------------------------------------
OPEN_FILES: Final = 16384  # connections of every listener, each with a file that is sent, and all else; as in the unit
RESERVED_FILES: Final = 1024  # of these, for operators, pulls and files; at most a quarter of the system's limit
ACCEPT_PAUSE: Final = 0.25  # seconds until connections are accepted again where there was no descriptor left
SHORTAGE_OVER: Final = 60.0  # seconds with enough descriptors until the log says that the shortage is over
TLS_HANDSHAKE: Final = 10.0  # seconds
KNOWN_HEADERS: Final = 4096  # Authorization headers that are recognised without hashing their token
OPERATOR_CONNECTIONS: Final = 256  # of one uid, and twice as many in all: on the control socket, and for metrics
STATUS_CONNECTIONS: Final = 32  # of one uid on everybody's status socket, and eight times as many in all
REFUSALS_PERIOD: Final = 60.0  # seconds until the same refusal is logged again
REFUSALS_AT_ONCE: Final = 20  # different refusals that are logged in that time
MAX_HEAD: Final = 16 * KIB  # bytes of a request line and its headers, and of what is sent before the answer
MAX_REQUEST_BODY: Final = 64 * KIB
MAX_FREE_TEXT: Final = 500  # characters that an operator writes for the record
MAX_AUDIT_LINES: Final = 100_000  # that one answer has
MAX_WAIT: Final = 55  # seconds of a long poll
FIRST_REQUEST: Final = 20.0  # seconds until the first whole request of a connection, and for an operator's arguments
KEEPALIVE: Final = 75.0  # seconds
WRITE_STALL: Final = 30.0  # seconds that one chunk may take to leave
PIECE: Final = 1 * MIB  # of a file read, or written and synced, at once
CHUNK: Final = 256 * KIB  # bytes written between two turns of the loop
DRAIN: Final = 10.0  # seconds that SIGTERM gives to requests under way
SMALL_DIFF: Final = 2000  # changes that are rendered in a thread; more go to a job

# -- signing -------------------------------------------------------------------------------------------------------
RESIGN_SLACK: Final = 60.0  # seconds that the time of a signature may be ahead of now: clocks differ
RESIGN_PARTS: Final = 4  # roles are signed again after this part of their life
CERTIFICATE_ALARM_DAYS: Final = 14  # before a certificate expires
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
MAX_DNS_REQUEST: Final = 4 * KIB  # octets: the longest names, OPT with padding and TSIG are less than 3 KiB
DNS_IDLE: Final = 20.0  # seconds until the next whole request on a connection (RFC 7766 6.2.3)
MAX_SECONDARIES: Final = 256  # addresses of a subscriber that are remembered, by zone: those that asked last
SECONDARY_KNOWN: Final = 86400.0  # seconds without a request after which an address no longer counts as a secondary
POLL_FOLLOWED: Final = 5.0  # seconds after a poll within which a secondary asks for the transfer that it needs
OMITTED_SHOWN: Final = 100  # ids of omitted entries in a status
