"""The sandbox of jobs: resource limits for every job, and a system call filter for jobs that read hostile bytes.

Order of calls in a job: `close_inherited`, `confine`, then imports and opening of files, then `enter_filter`. None of
these can be undone. The filter (seccomp) is a list of allowed system calls: the process, with all its threads, can read
and write the files that it has open, map memory that counts against its limit, and compute. Any other system call kills
it with SIGSYS: one that opens a file (a key, the database), makes a socket (unless the job fetches), starts a process
or a thread, signals another process, or is newer than this list.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import socket
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Final

from blocklistd import limits
from blocklistd.errors import JobError

if TYPE_CHECKING:
    from pyseccomp import SyscallFilter

ALLOWED: Final = (
    # open files
    *("read", "readv", "pread64", "write", "writev", "pwrite64", "lseek", "fstat", "fsync", "fdatasync", "close"),
    # memory; `call_filter` adds mmap, mprotect, mremap and madvise with some arguments
    *("brk", "munmap", "futex"),
    # the process: exit, its own signals, waiting for its children, clocks, ids
    *("exit", "exit_group", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "wait4"),
    *("clock_gettime", "gettimeofday", "time", "clock_nanosleep", "nanosleep", "restart_syscall", "sched_yield"),
    *("getpid", "gettid", "getuid", "geteuid", "getrusage", "times", "getrandom"),
)
ALLOWED_TO_FETCH: Final = (
    *("connect", "sendto", "sendmsg", "sendmmsg", "recvfrom", "recvmsg", "recvmmsg", "shutdown"),
    *("getsockname", "getpeername", "epoll_ctl", "epoll_wait", "epoll_pwait", "poll", "ppoll", "select", "pselect6"),
)
REFUSED: Final = ("open", "openat", "stat", "lstat", "newfstatat", "statx", "access", "faccessat", "faccessat2")
REFUSED_LINKS: Final = ("readlink", "readlinkat", "getcwd")
"""REFUSED and REFUSED_LINKS fail with EACCES and don't kill: the C library and late imports look for files, and work
without them."""

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
FAMILIES: Final = 64
"""A number above every address family of the kernel."""
LARGE_WORK: Final = 10
"""The niceness of large work that somebody waits for: small work and the event loop come first."""
LATER: Final = 19
"""The niceness of work that nobody waits for."""
CPU_GRACE: Final = 10
"""Seconds of processor time from the soft limit, whose signal SIGXCPU names the cause, to the hard limit."""

# Numbers of Linux for which Python has no names.
_MAP_ANONYMOUS: Final = 0x20
_MAP_HARMLESS: Final = 0x4000 | 0x20000  # MAP_NORESERVE, MAP_STACK
_MREMAP_MAYMOVE: Final = 1
_ADVICE: Final = (0, 1, 2, 3, 4, 8, 14, 15)  # NORMAL to DONTNEED, FREE, HUGEPAGE, NOHUGEPAGE
_COMMANDS: Final = (1, 2, 3, 1030)  # F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC
_REQUESTS: Final = (0x5421, 0x541B)  # FIONBIO, FIONREAD
_OPTIONS: Final = (
    *((socket.SOL_SOCKET, name) for name in (socket.SO_KEEPALIVE, socket.SO_REUSEADDR)),
    *((socket.IPPROTO_TCP, name) for name in (socket.TCP_NODELAY, socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL)),
    *((socket.IPPROTO_TCP, name) for name in (socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)),
    (socket.IPPROTO_IP, 11),  # IP_RECVERR, for the C library's resolver, as IPV6_RECVERR
    *((socket.IPPROTO_IPV6, name) for name in (socket.IPV6_V6ONLY, 25)),
)


@dataclass(frozen=True, slots=True)
class JobLimits:
    """The limits of a job; None: no limit. `wall`: seconds. `memory`: bytes, RLIMIT_DATA (RLIMIT_AS would forbid to map
    large files). `cpu`: seconds of processor time. `file`: bytes of each file that it writes. `descriptors`: open
    ones."""

    wall: float
    memory: int | None = None
    cpu: int | None = None
    file: int | None = None
    descriptors: int | None = None


INTAKE: Final = JobLimits(
    wall=limits.INTAKE_SECONDS,
    memory=limits.INTAKE_MEMORY,
    cpu=limits.INTAKE_CPU_SECONDS,
    file=limits.INTAKE_FILE,
    descriptors=limits.JOB_DESCRIPTORS,
)
FETCH: Final = JobLimits(
    wall=limits.INTAKE_SECONDS,
    memory=limits.FETCH_MEMORY,
    cpu=limits.INTAKE_CPU_SECONDS,
    descriptors=limits.JOB_DESCRIPTORS,
)
"""For a transport that runs in a job; each request sets its own `wall` and `file`."""
COMMIT: Final = JobLimits(wall=limits.COMMIT_SECONDS)


def confine(job: JobLimits) -> None:
    """Applies the resource limits to this process, and ends it with its parent."""
    die_with_parent()  # a job never outlives the forkserver, which ends with the daemon
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the daemon
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it: the limit would look like an error of the disk
    for which, value, more in (
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_DATA, job.memory, 0),
        (resource.RLIMIT_CPU, job.cpu, CPU_GRACE),
        (resource.RLIMIT_FSIZE, job.file, 0),
        (resource.RLIMIT_NOFILE, job.descriptors, 0),
    ):
        if value is not None:
            _, most = resource.getrlimit(which)
            hard = value + more if most == resource.RLIM_INFINITY else min(value + more, most)
            resource.setrlimit(which, (min(value, hard), hard))


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Makes the kernel send this process the signal when its parent ends (PR_SET_PDEATHSIG of prctl(2)). Sends it at
    once if the parent has ended already, which the kernel would not notice."""
    _prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != _parent:
        os.kill(os.getpid(), number)


_parent = 0
"""The process that forked this one."""


def _remember_parent() -> None:
    global _parent
    _parent = os.getpid()


os.register_at_fork(before=_remember_parent)


def lower_priority(nice: int) -> None:
    """Gives this thread at least the niceness `nice`: LARGE_WORK or LATER. Does nothing if the service's system call
    filter forbids it."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, max(nice, os.getpriority(os.PRIO_PROCESS, 0)))


def close_inherited(keep: int) -> None:
    """Closes all descriptors of the forkserver except `keep`, to which the job sends its result.

    Descriptors 0 to 2, the log among them, become /dev/null. It also closes the pipe whose end tells the forkserver
    that the daemon died: an open copy in a job would keep the pipe from ending.
    """
    with open(os.devnull, "r+b") as null:
        for standard in (0, 1, 2):
            os.dup2(null.fileno(), standard)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != keep:
            with contextlib.suppress(OSError):  # the descriptor of the listing is closed already
                os.close(int(name))


def enter_filter(*, network: bool = False) -> None:
    """Enters the system call filter, irrevocably and for all threads of the process.

    `network`: IP sockets stay allowed; Unix sockets, such as the control socket, don't. Raises JobError if the kernel
    or libseccomp does not support it: the job must then not run.
    """
    try:
        import pyseccomp  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        raise JobError("the sandbox needs libseccomp: install the package libseccomp2") from None
    "".encode("idna")  # imports the codec, which the lookup of a host needs and the filter would forbid to import
    try:
        _prctl(PR_SET_DUMPABLE, 0)
        call_filter(network=network).load()
    except (OSError, ValueError, RuntimeError) as error:
        raise JobError(
            f"the sandbox can't be entered ({error}), and no job reads a hotline's bytes without it: run a kernel with "
            f"seccomp"
        ) from None


def call_filter(*, network: bool) -> SyscallFilter:
    """The system call filter for this process; `network` as in `enter_filter`."""
    import errno

    from pyseccomp import ALLOW, EQ, ERRNO, GE, KILL_PROCESS, MASKED_EQ, Arg, Attr, SyscallFilter

    def all_but(bits: int) -> int:
        """The mask of all other bits of a 64-bit register; its upper half counts too."""
        return ~bits & (2**64 - 1)

    found = SyscallFilter(KILL_PROCESS)
    found.set_attr(Attr.ACT_BADARCH, KILL_PROCESS)
    found.set_attr(Attr.CTL_TSYNC, 1)  # existing threads enter the filter too
    for name in (*ALLOWED, *ALLOWED_TO_FETCH) if network else ALLOWED:
        _add(found, ALLOW, name)
    for name in (*REFUSED, *REFUSED_LINKS):
        _add(found, ERRNO(errno.EACCES), name)
    # Only memory that counts against RLIMIT_DATA: private and anonymous, not a stack that grows. Files may be mapped
    # read-only. No memory may become executable.
    data = Arg(2, MASKED_EQ, all_but(1 | 2), 0)  # PROT_READ, PROT_WRITE
    _add(found, ALLOW, "mmap", data, Arg(3, MASKED_EQ, all_but(_MAP_HARMLESS), _MAP_ANONYMOUS | 2))  # MAP_PRIVATE
    _add(found, ALLOW, "mmap", Arg(2, EQ, 1), Arg(3, EQ, 1))  # PROT_READ, MAP_SHARED
    _add(found, ALLOW, "mprotect", data)
    _add(found, ALLOW, "mremap", Arg(3, EQ, _MREMAP_MAYMOVE))
    for advice in _ADVICE:
        _add(found, ALLOW, "madvise", Arg(2, EQ, advice))
    for command in _COMMANDS:
        _add(found, ALLOW, "fcntl", Arg(1, EQ, command))
    _add(found, ALLOW, "tgkill", Arg(0, EQ, os.getpid()))  # abort(3)
    if not network:
        return found
    for request in _REQUESTS:
        _add(found, ALLOW, "ioctl", Arg(1, EQ, request))
    flags = all_but(socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    for family, kind, protocol in product(
        (socket.AF_INET, socket.AF_INET6),
        (socket.SOCK_STREAM, socket.SOCK_DGRAM),
        (0, socket.IPPROTO_TCP, socket.IPPROTO_UDP),
    ):
        _add(found, ALLOW, "socket", Arg(0, EQ, family), Arg(1, MASKED_EQ, flags, kind), Arg(2, EQ, protocol))
    # EACCES and no kill: the C library tries other families, and works without them
    for other in set(range(FAMILIES)) - {socket.AF_INET, socket.AF_INET6}:
        _add(found, ERRNO(errno.EACCES), "socket", Arg(0, EQ, other))
    _add(found, ERRNO(errno.EACCES), "socket", Arg(0, GE, FAMILIES))
    for level, option in _OPTIONS:
        _add(found, ALLOW, "setsockopt", Arg(1, EQ, level), Arg(2, EQ, option))
    for level in (socket.SOL_SOCKET, socket.IPPROTO_TCP):
        _add(found, ALLOW, "getsockopt", Arg(1, EQ, level))
    return found


def _add(found: SyscallFilter, action: int, name: str, *arguments: object) -> None:
    import pyseccomp

    if pyseccomp.resolve_syscall(pyseccomp.system_arch(), name) >= 0:  # arm64 has no open, stat, poll, …
        found.add_rule(action, name, *arguments)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise JobError(f"prctl({option}) failed: errno {ctypes.get_errno()}: no job runs without it")
