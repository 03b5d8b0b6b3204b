"""The log events: the name, level, message and meaning of every record that the package logs.

Names and fields never change: programs may rely on them. A message is for people, and may change. No field contains
anything of an entry. docs/metrics.md is made from this table.
"""

from __future__ import annotations

from enum import unique
from logging import CRITICAL, DEBUG, ERROR, INFO, WARNING

from blocklistd.log_event import LogEvent


@unique
class Event(LogEvent):
    """Level, message template, meaning with the operator's next step, and fields that the message does not show."""

    # -- the daemon
    DAEMON_READY = INFO, "ready: version {version}, configuration {file}; {listeners}", "The daemon serves."
    DAEMON_STOPPING = INFO, "stopping: requests in progress may end", "The daemon got SIGTERM or SIGINT."
    DAEMON_HALTED = (
        CRITICAL,
        "{reason}",
        "The state is not the newest, or is damaged: all requests get 503 or SERVFAIL. Do what the message says.",
    )
    DAEMON_CRASHED = (
        CRITICAL,
        "the daemon ended with an unexpected {error}: this is a bug, please report it with the traceback",
        "The daemon ended with an unexpected error. Report it with the traceback.",
    )
    STATE_NOT_CHECKED = (
        ERROR,
        "can't check whether the state is the newest: {reason}",
        "The daemon serves the lists that it can read. Restore a backup of the state_dir if the database is damaged.",
    )
    CONFIGURATION_WARNING = (
        WARNING,
        "{warning}",
        "The configuration is accepted. Correct the key that the message names.",
    )
    RELOADED = (
        INFO,
        "reloaded {file}[: changed {changed}]",
        "The new configuration applies; `changed`: the keys with another value.",
    )
    RELOAD_REFUSED = (
        ERROR,
        "reload refused, the running configuration stays: {reason}",
        "Nothing changed. Correct what the message names, then run `blocklistd reload`. One record for each error.",
    )
    RELOAD_FAILED = (
        ERROR,
        "the reload failed before it was complete: {reason}: run `blocklistd reload` again, and report this bug",
        "A part of the new configuration may not apply yet. Reload again, and report the bug with the traceback.",
    )
    RELOAD_NOT_AUDITED = (
        ERROR,
        "the reload is done, but could not be written into the audit: {reason}",
        "The new configuration applies; the audit lacks the line. Do what the reason says.",
    )
    STEP_FAILED = (
        ERROR,
        "the step {step} of a start or reload failed: {reason}",
        "The steps after it go on. Do what the reason says; with a traceback, report the bug.",
    )
    LOOP_ERROR = (
        ERROR,
        "unexpected error on the event loop: {error}: this is a bug, please report it",
        "An error that no other code handles. Report it with the traceback.",
    )
    HOUSEKEEPING_FAILED = (
        ERROR,
        "the task {task} failed unexpectedly: {error}: this is a bug, please report it with the traceback",
        "There is an alarm, and the task is tried again. Report the bug with the traceback.",
    )
    TASK_FAILED = (
        ERROR,
        "scheduled task failed: {task}: {reason}",
        "It runs again at its next time. Do what the reason says.",
    )
    CLOCK_SET_BACK = (
        WARNING,
        "the clock was set back by {seconds:.0f} s: the times of all scheduled tasks are computed again",
        "Tasks do not wait until the clock reaches the old time again. Check the host's time service.",
    )
    ALARM_RAISED = (
        WARNING,
        "{text}",
        "An alarm is active, or its text changed. Do what the text says.",
        *("alarm", "subject"),
    )
    ALARM_CLEARED = INFO, "alarm cleared: {alarm}[ {subject}]", "The alarm is no longer active."
    ALARM_DELIVERED = INFO, "alarm sent by {way}: {alarm}[ {subject}] {state}", "The way has taken it: no try follows."
    ALARM_NOT_DELIVERED = (
        WARNING,
        "alarm not sent by {way}: {alarm}[ {subject}]: {reason}: it is tried again",
        "People do not know of it yet. Do what the reason says, then run `blocklistd alarms test`.",
    )
    JOB_SERVER_FAILED = (
        ERROR,
        "the process that starts jobs did not start: {reason}",
        "The next job starts that process again. Check the host's memory if this recurs.",
    )
    METRICS_STALE = (
        ERROR,
        "the metrics from the database keep their last values: {reason}",
        "The database can't be read. Do what the reason says.",
    )
    # -- pulls and sources
    SOURCE_NOT_PROVED = (
        WARNING,
        "source {source}: its list is accepted without a proof of its origin (verify: {verify}): "
        "configure a signature or a pin if the hotline has one",
        "An attacker on the network path can change the list, and so block names.",
    )
    PULL_ENDED = (
        INFO,
        "source {source}[ (verify: {verify})]: {outcome}[: {reason}]",
        "A pull ended: `outcome` is published, unchanged or held.",
    )
    PULL_FAILED = (
        WARNING,
        "source {source}[ (verify: {verify})]: failed[: {reason}]",
        "The last good version stays live. `blocklistd source show SOURCE` shows the reason of each pull.",
    )
    PULL_CRASHED = (
        ERROR,
        "source {source}: the pull failed unexpectedly: {error}: this is a bug, please report it with the traceback",
        "The last good version stays live. Report the bug with the traceback.",
    )
    PULL_NOT_RECORDED = (
        ERROR,
        "source {source}: the pull could not be recorded: {reason}",
        "The result of the pull applies, but `blocklistd source show` lacks it. Do what the reason says.",
    )
    SOURCE_RECEIPTS_NOT_SENT = (
        WARNING,
        "source {source}: receipts can't be sent to its publisher, and are sent again: {reason}",
        "The publisher does not learn what is applied here. Blocking goes on. Do what the reason says.",
    )
    SOURCE_RECEIPT_REFUSED = (
        WARNING,
        "source {source}: its publisher refused the receipt of {node} for version {version} with {status}",
        "It is not sent again. Ask the publisher.",
    )
    SOURCE_BODY_DAMAGED = (
        WARNING,
        "source {source}: its last body is damaged or missing: the next one is read completely",
        "This pull takes longer. Check the disk.",
    )
    SOURCE_BODY_NOT_STORED = (
        WARNING,
        "source {source}: its body could not be stored, the next one is read completely: {reason}",
        "The next pull takes longer. Do what the reason says.",
    )
    EVIDENCE_NOT_STORED = (
        WARNING,
        "source {source}: a body of {bytes} bytes is not kept as evidence: raise `evidence.max_bytes` to keep it",
        "The body is larger than `evidence.max_bytes` of the source, or it was refused and the others fill it.",
    )
    EVIDENCE_FAILED = (
        ERROR,
        "source {source}: a body can't be kept as evidence: {reason}",
        "The pull is not affected. Do what the reason says.",
    )

    KEY_DISTRUSTED = (
        WARNING,
        "source {source}: {user} distrusts the key {key} since {since}: its bodies are refused",
        "Replace the key in `verify.key`, once the hotline has a new one. A reviewer decides about the held changes.",
    )
    KEPT_BODY_NOT_READ = (
        WARNING,
        "source {source}: its body of {body} can't be read again, an older one is used: {reason}",
        "`blocklistd source distrust` restores the entries of an older body. Check the held change.",
    )
    # -- candidates and versions
    CANDIDATE_HELD = (
        WARNING,
        "list {list}: candidate {candidate} is held: {reason}: run `blocklistd candidate show {candidate}`",
        "A reviewer decides: `blocklistd candidate approve CANDIDATE`, or `blocklistd candidate reject CANDIDATE`.",
    )
    CANDIDATE_APPROVED = (
        INFO,
        "candidate {candidate} was approved by {user}; {missing} more approval is needed, by another user",
        "The list has `release: two-person`: a second reviewer runs `blocklistd candidate approve CANDIDATE`.",
    )
    CANDIDATE_REJECTED = WARNING, "candidate {candidate} was rejected by {user}", "Its change is never published."
    LIST_FROZEN = (
        WARNING,
        "list {list} is frozen by {user}",
        "Only corrections and rollbacks change it, until `list resume`.",
    )
    LIST_RESUMED = INFO, "list {list} is resumed by {user}", "Its policy and its sources change the list again."
    ENTRIES_CORRECTED = INFO, "list {list}: {entries}: {kind}, by {user}", "A correction has begun or ended (ids only)."
    VERSION_LIVE = (
        INFO,
        "list {list}: version {version} is live"
        "[: {added} added, {removed} removed, {changed} changed, {entries} entries], released by {released_by}",
        "Subscribers get the version. `released_by`: a user, or `auto`.",
    )
    LIST_BELOW_MINIMUM = (
        WARNING,
        "list {list}: after an expiry it has {entries} entries, fewer than min_entries ({minimum})",
        "Entries have ended; `min_entries` does not hold that. Ask the hotline if its list is still maintained.",
    )
    POLICY_APPLIED = (
        INFO,
        "list {list}: policy change: {outcome}[: {reason}]",
        "The configuration of the list has changed; `outcome` is as in `blocklistd source pull`.",
    )
    GUARD_NAMES_READ = (
        INFO,
        "list {list}: names of guards: never_block {never_block}, shared_hosts {shared_hosts}, own {own}",
        "The names of a list's guards have changed. A change of policy follows.",
    )
    OFFER_ENDED = (
        INFO,
        "list {list}: source {source}: {outcome}[: {reason}]",
        "The newest list of a source was offered to a list; `outcome` is as in `blocklistd source pull`.",
    )
    RECONCILE_FAILED = (
        ERROR,
        "list {list}[: source {source}]: the change could not be committed, the next pull or reload tries "
        "again: {reason}",
        "The live version stays. Do what the reason says.",
    )
    EXCEPTIONS_READ = (
        INFO,
        "list {list}: {exceptions} local exceptions are in force",
        "The file of a list's `exceptions` was read, or an exception has ended.",
    )
    LIST_SIGNED = DEBUG, "signed {roles} of list {list}", "New signatures of a list."
    LIST_NOT_SIGNED = (
        ERROR,
        "list {list} could not be signed again: {reason}",
        "The old signatures stay until they expire. Do what the reason says; check that the online key is there.",
    )
    SIGNATURE_NOT_WRITTEN = (
        CRITICAL,
        "list {list}: a signature can't be made or written, the last signed version is served: {reason}",
        "The last signed version is served until it expires. Free space, mount the disk read-write, or connect the "
        "HSM.",
    )
    LIST_NOT_SERVED = (
        CRITICAL,
        "list {list} can't be served: {reason}",
        "Subscribers of the list get errors; the daemon tries again each minute. Do what the reason says.",
    )
    DIFF_NOT_MADE = (
        ERROR,
        "list {list}: the diff {start}-{end} could not be made: {reason}",
        "The subscriber is sent to the snapshot. Do what the reason says.",
    )
    RENDERING_NOT_MADE = (
        ERROR,
        "the {coding} rendering of {file} could not be made: {reason}",
        "The file is sent without that coding. Do what the reason says.",
    )
    # -- damage and repair
    FILE_DAMAGED = (
        ERROR,
        "sealed file {file} is missing or damaged: check the disk",
        "The daemon repairs the file if it can. Check the disk: `smartctl -a`, `dmesg`.",
    )
    FILE_NOT_SENT = (
        ERROR,
        "sealed file {file} is missing or damaged: it is not sent",
        "Requests for it are answered 503 while the daemon repairs it. Check the disk: `smartctl -a`, `dmesg`.",
    )
    SOURCE_FILE_DAMAGED = (
        ERROR,
        "source {source}: a file of its last body is damaged: the next one is read completely",
        "The next pull takes longer. Check the disk.",
    )
    VERSION_DAMAGED = (
        ERROR,
        "list {list}: the file of version {version} is missing or damaged: check the disk",
        "The daemon repairs the file if it can. Check the disk.",
    )
    VERSION_NOT_REPAIRED = (
        ERROR,
        "list {list}: version {version} can't be made again yet: pull its sources (`blocklistd source pull`)",
        "Run `blocklistd source pull SOURCE` for each source. If that fails, restore a backup of the state_dir.",
    )
    VERSION_REPAIRED = WARNING, "list {list}: sealed files made again: {files}", "Files were repaired. Check the disk."
    DELTAS_LOST = (
        ERROR,
        "list {list}: the deltas of versions {versions} can't be made again: diffs start at the newest of them now",
        "Nothing to do: subscribers with an older version take the snapshot.",
    )
    FIGURES_INCOMPLETE = WARNING, "list {list}: statistics lack changes of versions {versions}", "Their files are lost."
    LIST_NOT_REPAIRED = ERROR, "list {list} could not be repaired: {reason}", "Do what the reason says; check the disk."
    FILES_SWEPT = (
        INFO,
        "removed {files} files that no version, candidate or zone needs any more",
        "Superseded files were removed.",
    )
    SWEEP_FAILED = (
        ERROR,
        "superseded files could not be removed: {reason}",
        "The disk may fill. Do what the reason says.",
    )
    # -- zones and DNS
    ZONE_LIVE = INFO, "zone {zone}: serial {serial} is live[: {records} records]", "Secondaries get the serial."
    ZONE_SENT = DEBUG, "zone {zone}: serial {serial} sent", "A transfer was sent completely."
    ZONE_BEHIND = (
        ERROR,
        "zone {zone} keeps its last serial: {reason}",
        "The zone lacks its list's newest version; the daemon tries again each minute. Do what the reason says.",
    )
    ZONE_NOT_LOADED = (
        ERROR,
        "zone {zone} could not be loaded, its files are made again: {reason}",
        "The daemon repairs the zone. Check the disk.",
    )
    ZONE_DAMAGED = ERROR, "zone {zone}: {reason}", "The daemon repairs the zone's files. Check the disk."
    ZONE_REPAIRED = WARNING, "zone {zone}: its files were made again", "The zone is repaired. Check the disk."
    ZONE_DELTA_DAMAGED = (
        ERROR,
        "zone {zone}: a delta of rules is damaged: secondaries with an older serial get AXFR instead of IXFR",
        "Nothing to do for the zone. Check the disk.",
    )
    IXFR_NOT_MADE = (
        ERROR,
        "zone {zone}: AXFR is sent instead of IXFR: {reason}",
        "The secondary gets the complete zone. Do what the reason says.",
    )
    TRANSFER_FAILED = (
        ERROR,
        "a transfer failed: {reason}",
        "The secondary keeps its serial and asks again. Do what the reason says; with a traceback it is a bug.",
    )
    # -- clients
    CLIENT_REFUSED = (
        WARNING,
        "{protocol}: {address}[ as {subscriber}] was refused: {reason}"
        "[ ({suppressed} more were refused since the last such line)]",
        "Check the token, the key, the clock and the entitlement. `subscriber`: as the client names itself.",
    )
    REQUEST_FAILED = (
        ERROR,
        "a request failed: {reason}",
        "The client got 500 or 503. Do what the reason says; with a traceback it is a bug.",
    )
    CONNECTION_FAILED = (
        ERROR,
        "{protocol}: a connection failed unexpectedly: {error}: this is a bug, please report it with the traceback",
        "The connection is closed, others are not. Report the bug with the traceback.",
    )
    DESCRIPTORS_EXHAUSTED = (
        ERROR,
        "{protocol}: no descriptors are left for more connections: the connections that are idle longest are closed; "
        "raise LimitNOFILE=, or lower `connections`",
        "Clients that are not authenticated may hold them. Serving goes on.",
    )
    DESCRIPTORS_AVAILABLE = (
        INFO,
        "{protocol}: all connections get a descriptor again",
        "The shortage of descriptors has ended.",
    )
    SUBSCRIBERS_NOT_READ = (
        ERROR,
        "the subscribers could not be loaded; the daemon tries again each minute: {reason}",
        "The subscribers that were loaded last stay in force. Do what the reason says.",
    )
    SUBSCRIBER_REVOKED_ALREADY = DEBUG, "subscriber {subscriber} was revoked already", "A second call changed nothing."
    REVOCATION_NOT_WRITTEN = (
        ERROR,
        "the revocation of subscriber {subscriber} is still not written: {reason}",
        "The subscriber is refused, but a restart would forget the revocation. Do what the reason says.",
    )
    BACKUP_FAILED = (
        ERROR,
        "backup {backup} could not be sent: {reason}",
        "The caller's file is removed. Do what the reason says, then make the backup again.",
    )
    # -- the audit
    AUDIT_BROKEN = (
        CRITICAL,
        "the audit does not continue {file}: run `blocklistd audit verify`",
        "Lines are missing, or an older database was restored. `blocklistd start-above N` begins the head file again.",
    )
    AUDIT_HEAD_NOT_WRITTEN = (
        ERROR,
        "the head of the audit could not be written: {reason}",
        "The next line of the audit writes it. Do what the reason says.",
    )
