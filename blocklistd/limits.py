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

MAX_GUARD_FILE: Final = 64 * MIB  # bytes of a file of names that guards name (never_block, shared_hosts)
MAX_GUARD_NAMES: Final = 2_000_000  # names of one guard of a list: they are in the memory of a commit job
MAX_HITS: Final = 1000  # entries withheld by guard files that a list, and a candidate, names by id
GUARD_LINES: Final = 3  # unreadable lines of a file of names that a message shows
GUARD_CHECK: Final = 60  # seconds between two looks for changed files of names
GUARD_QUIET: Final = 5.0  # seconds without a change until a changed file of names is read: it may be half written

# -- pulling -------------------------------------------------------------------------------------------------------
DECOMPRESSED_FACTOR: Final = 8  # times `max_bytes`: size of a decompressed body
MAX_REDIRECTS: Final = 5  # HTTP redirects of one fetch
MAX_INTERIM_RESPONSES: Final = 8  # responses 1xx before the final response
MAX_FUTURE: Final = timedelta(hours=1)  # a signed time may be so far ahead of now: default of `verify.max_future`
MAX_SIGNATURE_BYTES: Final = 16 * KIB  # bytes of a signature file: the comment of minisign has at most 8 KiB
PROOF_LIFE: Final = timedelta(days=2)  # a proof that expires is verified again after this time at the latest
MAX_TUF_METADATA: Final = 384 * KIB  # bytes of all TUF metadata of a list; a job reports twice as many in hex
MAX_TUF_ROOTS: Final = 256  # versions of root.json after the trusted one
MAX_SIGNATURES: Final = 16  # signatures of one body, each of MAX_SIGNATURE_BYTES
MAX_OPENPGP_BYTES: Final = 1 * GIB  # bytes that OpenPGP has signed: the library takes twice as many of INTAKE_MEMORY
LOG_OVERLAP: Final = 4 * KIB  # bytes before the end of a log by which a rewritten log is recognised
LOG_REREAD: Final = 86400.0  # seconds after which a log is fetched completely again
LOG_YEAR_OVERLAP: Final = timedelta(days=7)  # of a year in which the file of the last year may still grow
MAX_LOG_YEARS: Final = 50  # files of a log that has one for each year
MAX_PAGES: Final = 100_000  # pages of one list
MAX_PAGE: Final = 64 * MIB  # bytes of one page
MAX_WALKS: Final = 3  # times that a pull begins with the first page, because a link to a further one fails
PAGES_DELAY: Final = 5  # seconds until an item is on the pages for sure
PAGES_OVERLAP: Final = 900  # seconds before the end of the last pull from which on items are fetched again
PULL_JITTER: Final = 0.1  # share of the interval by which a scheduled pull is delayed, at most PULL_JITTER_MAX
PULL_JITTER_MAX: Final = 60.0  # seconds
MAX_CONCURRENT_PULLS: Final = 4  # pulls that run at once
MAX_CONCURRENT_TESTS: Final = 2  # dry runs of pulls (`source test`) that run at once, beside the pulls
TEST_LINES: Final = 20  # line numbers of rejects, for each reason, that a dry run shows
UPLOAD_STALL: Final = 60.0  # seconds without a byte of a file that the command line sends
EVIDENCE_DAYS: Final = 90  # days that a body is kept as evidence: default of `evidence.keep`
EVIDENCE_BYTES: Final = 10 * GIB  # bytes of a source's kept bodies and their records: default of `evidence.max_bytes`
EVIDENCE_BODIES: Final = 1000  # kept bodies of a source, of any size
EVIDENCE_RECORDS: Final = 100  # records of one kept body, beside its first one

# -- records -------------------------------------------------------------------------------------------------------
MAX_LINE: Final = 64 * KIB  # bytes of one record in a body
MAX_URL: Final = 8 * KIB  # characters of a canonical URL
MAX_URL_INPUT: Final = 3 * MAX_URL  # characters of a URL before canonicalisation: each may be percent-encoded
MAX_ITEM_PARTS: Final = 100_000  # elements and attributes of one item of an XML page, most of which are votes
MAX_ATTRIBUTE: Final = 256  # characters of one attribute

# -- jobs ----------------------------------------------------------------------------------------------------------
INTAKE_MEMORY: Final = 2560 * MIB  # bytes, RLIMIT_DATA of an intake job (it reads a hostile body)
INTAKE_FILE: Final = 4 * GIB  # bytes of each file that an intake job writes; more if a body may decompress to more
FETCH_MEMORY: Final = 512 * MIB  # bytes, RLIMIT_DATA of a transport that runs in a job
MAX_LINES_MEMORY: Final = 2200 * MIB  # bytes of INTAKE_MEMORY for a body's lines, all of which are in memory at once
MAX_REJECTS: Final = 4_000_000  # records of a body that are not entries
MAX_HASHES: Final = 30_000_000  # lines of a body of hashes, about 70 bytes each
MAX_REREAD: Final = 100_000  # lines of a CSV read again after an unclosed quote; plus 8 for each line of the body
DNS_CONNECT: Final = 10.0  # seconds of connecting to one address of a name server from which a zone is transferred
MAX_DIFFERENCES: Final = 16 * MIB  # bytes of differences between zones, as text in memory; else the zone is transferred
MAX_UNSIGNED: Final = 99  # messages between two signed ones of a zone transfer (RFC 8945 section 5.3.1)
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

# -- alarms to people ----------------------------------------------------------------------------------------------
ALARM_TIMEOUT: Final = 20.0  # seconds of one request of the webhook, or one run of the command
ALARM_RETRY: Final = 5.0  # seconds after the first failed delivery; doubled with each further one
ALARM_RETRY_MAX: Final = 600.0  # seconds between two tries, at most
ALARM_PAUSE: Final = 60.0  # seconds between two looks, if nothing changes
ALARM_QUIET: Final = timedelta(minutes=15)  # an alarm that comes back is sent again after this time at the earliest
MAX_ALARMS_SENT: Final = 1000  # alarms that are followed for each way to people
MAX_ALARM_TEXT: Final = 4 * KIB  # characters of an alarm's text as it is sent

# -- store ---------------------------------------------------------------------------------------------------------
SQLITE_BUSY: Final = 60.0  # seconds that a writer of the database waits for another one
POSTGRESQL_CONNECT: Final = 4.0  # seconds to connect to the server
POSTGRESQL_WAIT: Final = 60.0  # seconds that a writer of the database waits for another one
POSTGRESQL_IDLE: Final = 4.0  # seconds after which the server ends a transaction that sends nothing
RESERVE: Final = 1 * MIB  # bytes of the reserve, which is freed at a start on a full disk
KEPT_SNAPSHOTS: Final = 8  # newest snapshots of a list that stay downloadable
MIN_KEPT_VERSIONS: Final = 100  # newest versions of a list from which diffs can start, whatever their age
MAX_CATEGORIES: Final = 64  # categories of a list in its statistics; entries of all others are counted together
MAX_CATEGORY: Final = 64  # characters of the name of a category in statistics
MAX_UNCOUNTED: Final = 100  # newest versions whose files are kept until they are counted for statistics
EXPIRY_PAUSE: Final = 60  # seconds after expiries before the next ones: each writes a version
UPKEEP_MINUTES: Final = 60  # minutes between two removals of deltas older than the retention
SWEEP_MIN_AGE: Final = 60.0  # seconds: a sweep keeps files younger than the oldest running work plus this
SHORT_DISK_PARTS: Final = 4  # with less than 1 / SHORT_DISK_PARTS of the disk free, a sweep follows each pull
SHORT_DISK_MIN_AGE: Final = 1.0  # seconds: in place of SWEEP_MIN_AGE in such a sweep
SWEEP_MINUTES: Final = 5  # minutes between two sweeps of the files that no row names
KEPT_PULLS: Final = 1000  # pulls of a source that stay in the history
MAX_RENDERINGS: Final = 2  # renderings that are made at once for clients, so that pulls and commits come first
DIFF_CACHE: Final = 1 * GIB  # bytes of the diffs that are kept as files
PUBLIC_GRACE: Final = 6 * 3600.0  # seconds that an old file of the static tree stays: a client may resume its download
PUBLIC_DIFFS: Final = 1000  # newest diffs between consecutive versions in the static tree
DISK_SAMPLES: Final = 90  # days whose free disk space is kept, for the forecast
KEPT_METADATA: Final = 16  # newest versions of each signed role that stay downloadable

# -- doctor --------------------------------------------------------------------------------------------------------
LOW_DISK_PARTS: Final = 10  # with less than 1 / LOW_DISK_PARTS of a disk free, `doctor` warns
FULL_DISK_PARTS: Final = 50  # with less than 1 / FULL_DISK_PARTS free, that is critical
EVIDENCE_FULL_PARTS: Final = 20  # evidence is full while less than 1 / EVIDENCE_FULL_PARTS of its max_bytes is free
OLD_GUARD_FILE_DAYS: Final = 365  # days without a change after which a file of names is mentioned
NOTIFY_UNANSWERED: Final = 3  # NOTIFY requests without an answer until the target counts as unreachable
BEHIND_REFRESHES: Final = 10  # times the zone's refresh for which a secondary may lack the newest serial
BEHIND_LEAST: Final = timedelta(minutes=10)  # for which it may lack it at least

# -- feed ----------------------------------------------------------------------------------------------------------
OPEN_FILES: Final = 16384  # open descriptors of the daemon (RLIMIT_NOFILE); the systemd unit has the same number
RESERVED_FILES: Final = 1024  # descriptors of these that clients can't use; at most a quarter of the system's limit
ACCEPT_PAUSE: Final = 0.25  # seconds without accepting connections when no descriptor is left
SHORTAGE_OVER: Final = 60.0  # seconds with enough descriptors until the end of the shortage is logged
TLS_HANDSHAKE: Final = 10.0  # seconds of a TLS handshake
MAX_TLS_HANDSHAKE: Final = 32 * KIB  # octets that a client sends in a handshake, its certificates included
MAX_AUTHORITIES: Final = 3  # between a client certificate and the root: each costs OpenSSL a signature's verification
MAX_KNOWN_HEADERS: Final = 4096  # Authorization headers that are recognised without hashing their token
OPERATOR_CONNECTIONS: Final = 256  # connections of one uid to control socket or metrics; of all uids twice as many
STATUS_CONNECTIONS: Final = 32  # connections of one uid to the public status socket; of all uids eight times as many
REFUSALS_PERIOD: Final = 60.0  # seconds until the same refusal is logged again
REFUSALS_AT_ONCE: Final = 20  # different refusals that are logged in REFUSALS_PERIOD
LEAST_RATE: Final = 20  # requests in a minute, and at once, that one node needs to follow a few lists
RATED_NODES: Final = 64  # times feed.rate_limit, which is for one node: the requests of all nodes of a subscriber
MAX_RATED: Final = 65536  # nodes and subscribers whose requests are counted
CLAIM_ALARM_HOURS: Final = 24  # hours of the alarm about a client that claims to hold a number above the newest here
CLAIM_DAYS: Final = 30  # days from such a claim until another one of the subscriber counts
MAX_REPEATED_HEAD: Final = 1 * KIB  # bytes of a head that its connection keeps, to answer it again
MAX_REQUEST_HEAD: Final = 16 * KIB  # bytes of a request line with its headers; of pipelined bytes that wait
MAX_REQUEST_BODY: Final = 64 * KIB  # bytes of a request's body
MAX_ENTRY_TEXT: Final = 8 * KIB  # bytes of an entry on the stdin of a command
MAX_EXCEPTIONS: Final = 10_000  # local exceptions of a list
MAX_EXCEPTIONS_BYTES: Final = 8 * MIB  # bytes of a file of local exceptions
MAX_FREE_TEXT: Final = 500  # characters of an operator's free text, such as a reason
MAX_AUDIT_LINES: Final = 100_000  # lines of the audit in one response
MAX_BACKUP_MANIFEST: Final = 64 * MIB  # bytes of the manifest of a backup: some 200 for each file
MAX_WAIT: Final = 55  # seconds of a long poll
HEARTBEAT: Final = 20.0  # seconds without an event until a comment is sent in its place
RECONNECT: Final = 3000  # milliseconds until a client of the events connects again; each gets up to twice as many
EVENTS_AT_ONCE: Final = 64  # events that are written at once, before the client has taken them
FIRST_REQUEST: Final = 20.0  # seconds until a connection's first complete request, or an operator's arguments
REPEATS_FOR: Final = 5.0  # seconds in which identical polls of a connection are answered without being parsed
KEEPALIVE: Final = 75.0  # seconds that a connection may be idle between two requests
WRITE_STALL: Final = 30.0  # seconds until the client has taken one chunk
FILE_CHUNK: Final = 1 * MIB  # bytes of a file that are read, or written and synced, at once
CHUNK: Final = 256 * KIB  # bytes that are written between two turns of the event loop
SHUTDOWN_GRACE: Final = 10.0  # seconds that running requests have after SIGTERM
DRAIN: Final = 1.0  # seconds that accepted connections have after SIGTERM to send their first request
MAX_RECEIPT: Final = 4 * KIB  # bytes of a receipt
MAX_NODE_NAME: Final = 64  # characters of the name of a subscriber's node
MAX_NODES: Final = 1000  # nodes of a subscriber that send receipts
MAX_RECEIPTS_WAITING: Final = 4096  # receipts that wait to be written
RECEIPTS_AT_ONCE: Final = 128  # receipts that one transaction writes
RECEIPTS_PAUSE: Final = 0.25  # seconds in which receipts gather before such a transaction
MAX_REASONS: Final = 1024  # reasons of receipts whose words are remembered
NODE_CLOCK_SLACK: Final = 10.0  # seconds by which a node's clock may differ before it counts as wrong
RECEIPT_DAYS: Final = 90  # days that a receipt is kept, and a silent node is remembered
MAX_RECEIPTS: Final = 1_000_000  # kept receipts of a subscriber, the newest
SILENT_HOURS: Final = 24  # hours without a word of a node until it is silent
LISTENED_MINUTES: Final = 10  # minutes after a start until a node can be silent: it could not be heard before
MAX_OBJECTIVE_DAYS: Final = 90  # days of a subscriber's objective
NODES_SHOWN: Final = 5  # names of nodes in an alarm, and in a line of a status
MAX_REPORT_CELLS: Final = 5_000_000  # pairs of a version and a node in the report of a subscriber
MAX_REPORT_DETAILS: Final = 100_000  # such pairs that are listed one by one
SMALL_DIFF: Final = 2000  # changed lines of a diff that is rendered in a thread; larger diffs need a job

# -- dashboard -----------------------------------------------------------------------------------------------------
DASHBOARD_SECONDS: Final = 5.0  # seconds for which a page is sent again as it was made
DASHBOARD_COURSE: Final = 60.0  # seconds until the figures of the last days are read again
DASHBOARD_PAGES: Final = 64  # pages, by language and list, that are kept for DASHBOARD_SECONDS
DASHBOARD_DECISIONS: Final = 12  # newest decisions of people on the page
DASHBOARD_AUDIT: Final = 5000  # newest lines of the audit that are searched for these decisions
DASHBOARD_REPORTS: Final = 5000  # reports of nodes in the figures of a day, the first of the day
DASHBOARD_CANDIDATES: Final = 5000  # newest candidates that count in the trend of guards

# -- signing -------------------------------------------------------------------------------------------------------
RESIGN_SLACK: Final = 60.0  # seconds that the time of a signature may be ahead of now, since clocks differ
RESIGN_PARTS: Final = 4  # a role is signed again after 1 / RESIGN_PARTS of its lifetime
CERTIFICATE_ALARM_DAYS: Final = 14  # days before a certificate expires that its alarm is raised
ROOT_ALARM_DAYS: Final = 60  # days before root.json expires that its alarm is raised
MAX_ROOT_KEYS: Final = 32  # root keys that a root.json names

# -- client --------------------------------------------------------------------------------------------------------
CLIENT_TIMEOUT: Final = 60.0  # seconds without a byte
CLIENT_METADATA: Final = 60.0  # seconds of the download of a metadata file
CLIENT_BODY: Final = 3600.0  # seconds of the download of a snapshot or diff
CLIENT_BACKOFF_MAX: Final = 60.0  # seconds between two attempts of `sync --watch`
CLIENT_POLL_INTERVAL: Final = 10.0  # seconds between two polls of a feed that does not support long polls
CLIENT_REFRESH: Final = 3600.0  # seconds without a change until the metadata is fetched again
CLIENT_EXEC: Final = 600.0  # seconds that --exec may run: default of --exec-timeout
CLIENT_EXEC_GRACE: Final = 5.0  # seconds between SIGTERM and SIGKILL for --exec
CLIENT_CONNECT: Final = 10.0  # seconds of connecting to the feed or to a proxy
CLIENT_MIN_RATE: Final = KIB  # bytes a second of a body on average, after CLIENT_TIMEOUT
CLIENT_RETRY_AFTER: Final = 3600.0  # seconds that a Retry-After header may make the client wait
CLIENT_RESUMES: Final = 16  # times that one sync continues a snapshot at one feed after a cut
CLIENT_RESUME_MIN: Final = MIB  # bytes of a part of a snapshot that is worth continuing
CLIENT_DIFF_MEMORY: Final = 16 * MIB  # bytes of a diff that the client applies in one piece
CLIENT_DROP: Final = 32 * MIB  # bytes of a mapped snapshot after which its pages are given back
CLIENT_REPEAT: Final = 3600.0  # seconds until `sync --watch` prints the same line again
CLIENT_RECEIPT: Final = 10.0  # seconds without a byte of the answer to a receipt
CLIENT_RECEIPT_RETRY: Final = 60.0  # seconds until `sync --watch` sends a receipt again that was not taken
CLIENT_PROBE: Final = 30.0  # seconds for which a resolver may answer with an older list after --exec
CLIENT_PROBE_PAUSE: Final = 1.0  # seconds between two probes of a resolver
CLIENT_PROBE_ANSWER: Final = 2.0  # seconds until a resolver has answered one query
CLIENT_PROBES: Final = 8  # test entries of a list that are probed
MAX_STATUS: Final = 64 * KIB  # bytes of a STATUS file

# -- DNS -------------------------------------------------------------------------------------------------------------
MAX_DNS_REQUEST: Final = 4 * KIB  # octets of a request: the longest names, OPT with padding and TSIG are below 3 KiB
DNS_IDLE: Final = 20.0  # seconds until the next complete request on a connection (RFC 7766, 6.2.3)
TLS_MESSAGES: Final = 200  # TLS messages of a connection after its handshake: KeyUpdates (RFC 8446 4.6.3) and answers
USE_RECORDED: Final = 3600.0  # seconds from one recorded use of a key or a token to the next
MAX_GRACE_DAYS: Final = 90  # days for which `subscriber rotate` may keep old credentials valid
MAX_SECONDARIES: Final = 256  # addresses of a subscriber that are remembered for each zone: the latest
SECONDARY_KNOWN: Final = 86400.0  # seconds without a request after which an address is no longer a secondary
POLL_TO_TRANSFER: Final = 5.0  # seconds from a SOA query to the transfer request of a secondary that is behind
FULL_TRANSFERS_AT_ONCE: Final = 64  # complete transfers of a zone that a subscriber's secondaries may take at once
FULL_TRANSFER_PERIOD: Final = 5.0  # seconds until it may take another one
LARGE_DIFFERENCE: Final = 1 * MIB  # octets of a difference (IXFR) that counts as a part of a complete transfer
OMITTED_SHOWN: Final = 100  # ids of omitted entries that a status shows
