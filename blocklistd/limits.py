"""The limits of the system, each with its unit and its subject. Every queue, wait and buffer has a limit."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

# -- configuration -------------------------------------------------------------------------------------------------
MAX_CONFIG: Final = 1 * MIB  # bytes of the configuration file
MAX_DURATION_DAYS: Final = 36500  # days of a configured duration, so that now plus the duration is still a date

# -- pulling -------------------------------------------------------------------------------------------------------
DECOMPRESSED_FACTOR: Final = 8  # times `max_bytes`: size of a decompressed body
MAX_REDIRECTS: Final = 5  # HTTP redirects of one fetch
MAX_INTERIM_RESPONSES: Final = 8  # responses 1xx before the final response
MAX_FUTURE: Final = timedelta(hours=1)  # a signed time may be so far ahead of now: default of `verify.max_future`
MAX_SIGNATURE_BYTES: Final = 16 * KIB  # bytes of a signature file: the comment of minisign has at most 8 KiB
PULL_JITTER: Final = 0.1  # share of the interval by which a scheduled pull is delayed, at most PULL_JITTER_MAX
PULL_JITTER_MAX: Final = 60.0  # seconds
MAX_CONCURRENT_PULLS: Final = 4  # pulls that run at once
EVIDENCE_DAYS: Final = 90  # days that a refused body is kept: default of `evidence.keep`
EVIDENCE_BYTES: Final = 10 * GIB  # bytes of a source's refused bodies and signatures: default of `evidence.max_bytes`
EVIDENCE_BODIES: Final = 1000  # refused bodies of a source, of any size

# -- records -------------------------------------------------------------------------------------------------------
MAX_LINE: Final = 64 * KIB  # bytes of one record in a body
MAX_URL: Final = 8 * KIB  # characters of a canonical URL
MAX_URL_INPUT: Final = 3 * MAX_URL  # characters of a URL before canonicalisation: each may be percent-encoded
MAX_ATTRIBUTE: Final = 256  # characters of one attribute

# -- jobs ----------------------------------------------------------------------------------------------------------
INTAKE_MEMORY: Final = 2560 * MIB  # bytes, RLIMIT_DATA of an intake job (it reads a hostile body)
INTAKE_FILE: Final = 4 * GIB  # bytes of each file that an intake job writes; more if a body may decompress to more
FETCH_MEMORY: Final = 512 * MIB  # bytes, RLIMIT_DATA of a transport that runs in a job
MAX_LINES_MEMORY: Final = 2200 * MIB  # bytes of INTAKE_MEMORY for a body's lines, all of which are in memory at once
MAX_REJECTS: Final = 4_000_000  # records of a body that are not entries
MAX_HASHES: Final = 30_000_000  # lines of a body of hashes, about 70 bytes each
MAX_REREAD: Final = 100_000  # lines of a CSV read again after an unclosed quote; plus 8 for each line of the body
MAX_COMPRESSED_STREAMS: Final = 100_000  # gzip members or zstd frames of a body
FETCH_THREADS: Final = 4  # threads of a transport that runs in a job, beside its first thread
JOB_DESCRIPTORS: Final = 1024  # open descriptors of a job that reads hostile bytes
MAX_NOTES: Final = 16 * MIB  # bytes of the notes on a body, with which the next pull reads only its changes
PATCH_SHARE: Final = 64  # a patch changes at most 1 / PATCH_SHARE of its base; else a new base is written
JOB_START: Final = 120.0  # seconds until a job has a process; the first job waits for the imports of the forkserver
INTAKE_CPU_SECONDS: Final = 600  # seconds of processor time, RLIMIT_CPU of an intake job
INTAKE_SECONDS: Final = 900.0  # seconds of an intake job
COMMIT_SECONDS: Final = 1800.0  # seconds of a commit job
MAX_JOBS: Final = 8  # jobs at once; more than MAX_CONCURRENT_PULLS, so that no hotline makes others wait
MAX_JOB_REPORT: Final = 1 * MIB  # bytes of a job's result

THREADS: Final = 48  # threads for calls to the database and to files: more than can wait for one writer at a time

# -- store ---------------------------------------------------------------------------------------------------------
SQLITE_BUSY: Final = 60.0  # seconds that a writer of the database waits for another one
RESERVE: Final = 1 * MIB  # bytes of the reserve, which is freed at a start on a full disk
KEPT_SNAPSHOTS: Final = 8  # newest snapshots of a list that stay downloadable
MIN_KEPT_VERSIONS: Final = 100  # newest versions of a list from which diffs can start, whatever their age
UPKEEP_MINUTES: Final = 60  # minutes between two removals of deltas older than the retention
SWEEP_MIN_AGE: Final = 60.0  # seconds: a sweep keeps files younger than the oldest running work plus this
SHORT_DISK_PARTS: Final = 4  # with less than 1 / SHORT_DISK_PARTS of the disk free, a sweep follows each pull
SHORT_DISK_MIN_AGE: Final = 1.0  # seconds: in place of SWEEP_MIN_AGE in such a sweep
SWEEP_MINUTES: Final = 5  # minutes between two sweeps of the files that no row names
KEPT_PULLS: Final = 1000  # pulls of a source that stay in the history
MAX_RENDERINGS: Final = 2  # renderings that are made at once for the feed, so that pulls and commits come first
DIFF_CACHE: Final = 1 * GIB  # bytes of the diffs that are kept as files
KEPT_METADATA: Final = 16  # newest versions of each signed role that stay downloadable

# -- feed ----------------------------------------------------------------------------------------------------------
OPEN_FILES: Final = 16384  # open descriptors of the daemon (RLIMIT_NOFILE); the systemd unit has the same number
RESERVED_FILES: Final = 1024  # descriptors of these that clients can't use; at most a quarter of the system's limit
ACCEPT_PAUSE: Final = 0.25  # seconds without accepting connections when no descriptor is left
SHORTAGE_OVER: Final = 60.0  # seconds with enough descriptors until the end of the shortage is logged
TLS_HANDSHAKE: Final = 10.0  # seconds of a TLS handshake
MAX_KNOWN_HEADERS: Final = 4096  # Authorization headers that are recognised without hashing their token
OPERATOR_CONNECTIONS: Final = 256  # connections of one uid to control socket or metrics; of all uids twice as many
STATUS_CONNECTIONS: Final = 32  # connections of one uid to the public status socket; of all uids eight times as many
REFUSALS_PERIOD: Final = 60.0  # seconds until the same refusal is logged again
REFUSALS_AT_ONCE: Final = 20  # different refusals that are logged in REFUSALS_PERIOD
MAX_REQUEST_HEAD: Final = 16 * KIB  # bytes of a request line with its headers; of pipelined bytes that wait
MAX_REQUEST_BODY: Final = 64 * KIB  # bytes of a request's body
MAX_FREE_TEXT: Final = 500  # characters of an operator's free text, such as a reason
MAX_AUDIT_LINES: Final = 100_000  # lines of the audit in one response
MAX_WAIT: Final = 55  # seconds of a long poll
FIRST_REQUEST: Final = 20.0  # seconds until a connection's first complete request, or an operator's arguments
KEEPALIVE: Final = 75.0  # seconds that a connection may be idle between two requests
WRITE_STALL: Final = 30.0  # seconds until the client has taken one chunk
FILE_CHUNK: Final = 1 * MIB  # bytes of a file that are read, or written and synced, at once
CHUNK: Final = 256 * KIB  # bytes that are written between two turns of the event loop
SHUTDOWN_GRACE: Final = 10.0  # seconds that running requests have after SIGTERM
SMALL_DIFF: Final = 2000  # changed lines of a diff that is rendered in a thread; larger diffs need a job

# -- signing -------------------------------------------------------------------------------------------------------
RESIGN_SLACK: Final = 60.0  # seconds that the time of a signature may be ahead of now, since clocks differ
RESIGN_PARTS: Final = 4  # a role is signed again after 1 / RESIGN_PARTS of its lifetime
CERTIFICATE_ALARM_DAYS: Final = 14  # days before a certificate expires that its alarm is raised
ROOT_ALARM_DAYS: Final = 60  # days before root.json expires that its alarm is raised

# -- client --------------------------------------------------------------------------------------------------------
CLIENT_TIMEOUT: Final = 60.0  # seconds without a byte
CLIENT_METADATA: Final = 60.0  # seconds of the download of a metadata file
CLIENT_BODY: Final = 3600.0  # seconds of the download of a snapshot or diff
CLIENT_BACKOFF_MAX: Final = 60.0  # seconds between two attempts of `sync --watch`
CLIENT_POLL_INTERVAL: Final = 10.0  # seconds between two polls of a feed that does not support long polls
CLIENT_REFRESH: Final = 3600.0  # seconds without a change until the metadata is fetched again
CLIENT_EXEC: Final = 600.0  # seconds that --exec may run
MAX_STATUS: Final = 64 * KIB  # bytes of a STATUS file

# -- DNS -------------------------------------------------------------------------------------------------------------
MAX_DNS_REQUEST: Final = 4 * KIB  # octets of a request: the longest names, OPT with padding and TSIG are below 3 KiB
DNS_IDLE: Final = 20.0  # seconds until the next complete request on a connection (RFC 7766, 6.2.3)
MAX_SECONDARIES: Final = 256  # addresses of a subscriber that are remembered for each zone: the latest
SECONDARY_KNOWN: Final = 86400.0  # seconds without a request after which an address is no longer a secondary
POLL_TO_TRANSFER: Final = 5.0  # seconds from a SOA query to the transfer request of a secondary that is behind
OMITTED_SHOWN: Final = 100  # ids of omitted entries that a status shows
