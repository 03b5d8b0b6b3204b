"""What a job may do: resource limits for every job, and for hostile bytes a system call filter that fails closed.

The filter is entered after everything that the job needs has been imported and opened. From then on the process can
read and write what it has open and compute; it can't open a file (so no key, no database), a socket (unless it fetches)
or an io_uring, start or trace a process, or signal one. A forbidden call kills it, which its parent sees as SIGSYS.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import socket
from dataclasses import dataclass
from typing import Final

from blocklistd import limits
from blocklistd.errors import JobError

NETWORK: Final = ("socket", "socketpair", "connect", "bind", "sendto", "sendmsg", "sendmmsg")
FORBIDDEN: Final = (
    # the network, from outside
    *("listen", "accept", "accept4"),
    # a second way to every other call
    *("io_uring_setup", "io_uring_enter", "io_uring_register"),
    # other processes
    *("execve", "execveat", "fork", "vfork", "ptrace", "process_vm_readv", "process_vm_writev", "kill", "tkill"),
    *("pidfd_open", "pidfd_getfd", "pidfd_send_signal", "rt_sigqueueinfo", "rt_tgsigqueueinfo"),
    # other files and other rights
    *("creat", "openat2", "open_by_handle_at", "name_to_handle_at", "link", "linkat", "symlink", "symlinkat"),
    *("rename", "renameat", "renameat2", "unlink", "unlinkat", "mknod", "mknodat", "chmod", "fchmodat", "chown"),
    *("truncate", "mkdir", "mkdirat", "rmdir", "chdir", "fchdir", "utime", "utimes", "futimesat", "utimensat"),
    *("lchown", "fchownat", "fchmod", "fchown", "setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr"),
    *("setpriority", "sched_setaffinity", "sched_setscheduler", "sched_setparam", "sched_setattr", "setrlimit"),
    *("memfd_create", "pipe", "pipe2", "inotify_init", "inotify_init1", "fanotify_init", "fallocate"),
    *("mount", "umount2", "pivot_root", "chroot", "setns", "unshare", "bpf", "userfaultfd", "keyctl", "add_key"),
    *("perf_event_open", "init_module", "finit_module", "kexec_load", "shmget", "shmat", "msgget", "mq_open"),
)
REFUSED: Final = ("open", "openat")
"""Answered with EACCES instead of a kill: the C library and late imports look for files, and can do without."""

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
CLONE_THREAD: Final = 0x10000
FAMILIES: Final = 64
"""More than the kernel has address families."""


@dataclass(frozen=True, slots=True)
class JobLimits:
    """`memory` in bytes of RLIMIT_DATA (RLIMIT_AS would forbid mapping large files), `cpu` and `wall` in seconds,
    `file` in bytes that one file may grow to; None leaves it as it is."""

    wall: float
    memory: int | None = None
    cpu: int | None = None
    file: int | None = None


INTAKE: Final = JobLimits(wall=limits.INTAKE_WALL, memory=limits.INTAKE_MEMORY, cpu=limits.INTAKE_CPU)
FETCH: Final = JobLimits(wall=limits.INTAKE_WALL, memory=limits.FETCH_MEMORY, cpu=limits.INTAKE_CPU)
"""A transport in a process of its own; each request sets its own `wall` and `file`."""
COMMIT: Final = JobLimits(wall=limits.COMMIT_WALL)


def confine(job: JobLimits) -> None:
    """Applies the resource limits; the filter is entered by `enter_filter`, once the job has opened its files."""
    die_with_parent()  # a job never outlives the daemon that wants its answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the daemon's to hear
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for which, value in (
        (resource.RLIMIT_DATA, job.memory),
        (resource.RLIMIT_CPU, job.cpu),
        (resource.RLIMIT_FSIZE, job.file),
    ):
        if value is not None:
            resource.setrlimit(which, (value, value))


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """From now on this process gets that signal when the one that made it ends."""
    _prctl(PR_SET_PDEATHSIG, number)


def close_inherited(keep: int) -> None:
    """Leaves a job the descriptor of its answer and nothing that the server or the daemon had open: not the log, and
    not the pipe by which the server hears that the daemon died, which it would keep from being closed."""
    with open(os.devnull, "r+b") as nothing:
        for standard in (0, 1, 2):
            os.dup2(nothing.fileno(), standard)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != keep:
            with contextlib.suppress(OSError):  # the one that listed them is closed already
                os.close(int(name))


def enter_filter(*, network: bool = False) -> None:
    """No way back. `network`: sockets to other machines are left, over IP only: no socket of this machine, such as the
    control socket's, can be connected to.

    Raises JobError where the kernel or libseccomp can't do it: such a job must not run at all.
    """
    try:
        import errno

        import pyseccomp
    except (ImportError, OSError, RuntimeError):
        raise JobError("the sandbox needs libseccomp: install the package libseccomp2") from None
    try:
        _prctl(PR_SET_DUMPABLE, 0)
        rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
        for name in FORBIDDEN if network else (*FORBIDDEN, *NETWORK):
            _add(rules, pyseccomp.KILL_PROCESS, name)
        denied = pyseccomp.ERRNO(errno.EACCES)
        for name in REFUSED:
            _add(rules, denied, name)
        if network:
            # refused, not killed: the C library asks for others, and goes on without
            for family in set(range(FAMILIES)) - {socket.AF_INET, socket.AF_INET6}:
                rules.add_rule(denied, "socket", pyseccomp.Arg(0, pyseccomp.EQ, family))
            rules.add_rule(denied, "socket", pyseccomp.Arg(0, pyseccomp.GE, FAMILIES))
        # a process by clone(2): its first argument has no CLONE_THREAD. What clone3(2) is asked for a filter can't see,
        # and the C library goes on with clone(2) where that is missing.
        rules.add_rule(pyseccomp.KILL_PROCESS, "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, CLONE_THREAD, 0))
        _add(rules, pyseccomp.ERRNO(errno.ENOSYS), "clone3")
        # another process's threads and limits: the first argument is not this process
        rules.add_rule(pyseccomp.KILL_PROCESS, "tgkill", pyseccomp.Arg(0, pyseccomp.NE, os.getpid()))
        rules.add_rule(pyseccomp.KILL_PROCESS, "prlimit64", pyseccomp.Arg(0, pyseccomp.NE, 0))
        rules.load()
    except (OSError, ValueError, RuntimeError) as error:
        raise JobError(f"the sandbox can't be entered ({error}): no job reads a hotline's bytes without it") from None


def _add(rules: object, action: int, name: str) -> None:
    import pyseccomp

    if pyseccomp.resolve_syscall(pyseccomp.system_arch(), name) < -1:
        return  # this architecture has no such call (arm64 has no fork, open, …): nothing to forbid
    rules.add_rule(action, name)  # type: ignore[attr-defined]


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise JobError(f"prctl({option}) failed: {ctypes.get_errno()}")
