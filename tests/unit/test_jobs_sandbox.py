"""The system call filter: a table of denied calls, tried as an unprivileged user and as root; and all call numbers."""

from __future__ import annotations

import ctypes
import encodings.idna  # noqa: F401  the unprivileged user may not be able to read the interpreter's folder
import errno
import faulthandler
import fcntl
import mmap
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pyseccomp
import pytest

from blocklistd.jobs.sandbox import ALLOWED, ALLOWED_TO_FETCH, REFUSED, REFUSED_LINKS, die_with_parent, enter_filter

USER = 65534  # nobody: as unprivileged as the user of the systemd unit
USERS = [USER, 0] if os.geteuid() == 0 else [os.geteuid()]
KILLED, DENIED, ALLOWED_IT = "killed", "refused", "allowed"
ALL = [nr for nr in range(600) if nr not in (335, 336)]
"""More numbers than Linux has system calls, without x86-64's uretprobe and uprobe, which no filter is asked about: they
are the kernel's own, and a process that makes them dies."""
NONE = 599
FAR = 2**64 - 1

Call = Callable[[], object]


def number(name: str) -> int:
    """The call's number on this machine, or NONE, which no machine has."""
    found: int = pyseccomp.resolve_syscall(pyseccomp.system_arch(), name)
    return found if found >= 0 else NONE


def call(name: str | int, *arguments: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    nr = name if isinstance(name, int) else number(name)
    answer: int = libc.syscall(ctypes.c_long(nr), *(ctypes.c_ulong(argument % 2**64) for argument in arguments))
    if answer == -1:
        raise OSError(ctypes.get_errno(), "")
    return answer


def verdict(work: Call, user: int = USERS[0], *, network: bool = False) -> str:
    """Runs `work` in a process in the filter; returns whether it was killed, denied (EACCES) or allowed."""
    pid = os.fork()
    if not pid:
        code = 9
        try:
            if user != os.geteuid():
                os.setgroups([])
                os.setresgid(user, user, user)
                os.setresuid(user, user, user)
            enter_filter(network=network)
            try:
                work()
                code = 0
            except OSError as error:
                code = 1 if error.errno == errno.EACCES else 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) in (signal.SIGSYS, signal.SIGSEGV)
        return KILLED if os.WTERMSIG(status) == signal.SIGSYS else ALLOWED_IT
    code = os.WEXITSTATUS(status)
    assert code != 9
    return DENIED if code == 1 else ALLOWED_IT


PIPE = os.pipe()
PAGE = mmap.PAGESIZE
PATH = ctypes.create_string_buffer(b"/nowhere.invalid/file")  # does not exist, so an allowed call destroys nothing
AT = ctypes.addressof(PATH)
HERE = -100  # AT_FDCWD
OWN = os.getpid()

DENIES: dict[str, Call] = {
    # signals to the daemon, its limits and its memory
    "a signal to the daemon by F_SETOWN and O_ASYNC": lambda: fcntl.fcntl(PIPE[0], fcntl.F_SETOWN, OWN),
    "the same by F_SETOWN_EX": lambda: call("fcntl", PIPE[0], 15, AT),
    "the same by F_SETSIG": lambda: fcntl.fcntl(PIPE[0], 10, signal.SIGKILL),
    "O_ASYNC": lambda: fcntl.fcntl(PIPE[0], fcntl.F_SETFL, os.O_ASYNC),
    "the same by FIOSETOWN": lambda: call("ioctl", PIPE[0], 0x8901, AT),
    "the same by FIOASYNC": lambda: call("ioctl", PIPE[0], 0x5452, AT),
    "a lease, which signals": lambda: fcntl.fcntl(PIPE[0], fcntl.F_SETLEASE, fcntl.F_WRLCK),
    "kill": lambda: os.kill(OWN, 0),
    "tgkill of another process": lambda: call("tgkill", OWN, OWN, 0),
    "tkill": lambda: call("tkill", OWN, 0),
    "pidfd_open": lambda: call("pidfd_open", OWN, 0),
    "rt_sigqueueinfo": lambda: call("rt_sigqueueinfo", OWN, 0, AT),
    "the daemon's limits": lambda: call("prlimit64", OWN, 7, 0, AT),
    "its own limits": lambda: call("prlimit64", 0, 7, AT, 0),
    "ptrace": lambda: call("ptrace", 16, OWN, 0, 0),
    "another's memory": lambda: call("process_vm_readv", OWN, AT, 1, AT, 1, 0),
    # memory that RLIMIT_DATA does not count, or that is code
    "shared memory": lambda: mmap.mmap(-1, PAGE),
    "shared memory that is read": lambda: mmap.mmap(-1, PAGE, prot=mmap.PROT_READ),
    "memory as a stack": lambda: call("mmap", 0, PAGE, 3, 0x122, FAR, 0),
    "locked memory": lambda: call("mmap", 0, PAGE, 3, 0x2022, FAR, 0),
    "huge pages": lambda: call("mmap", 0, 1 << 21, 3, 0x40022, FAR, 0),
    "memory that runs": lambda: call("mmap", 0, PAGE, 7, 0x22, FAR, 0),
    "memory that becomes code": lambda: call("mprotect", 0, PAGE, 5),
    "mremap elsewhere": lambda: call("mremap", 0, PAGE, PAGE, 3, 0),
    "poisoned memory": lambda: call("madvise", 0, PAGE, 100),
    "mlock": lambda: call("mlock", AT, 1),
    "memfd_create": lambda: os.memfd_create("x"),
    "memfd_secret": lambda: call("memfd_secret", 0),
    "System V's": lambda: call("shmget", 0, PAGE, 0o1600),
    "System V's messages": lambda: call("msgget", 0, 0o1600),
    "POSIX messages": lambda: call("mq_open", AT, 0, 0, 0),
    # files
    "fchmodat2": lambda: call(452, HERE, AT, 0o666, 0),
    "chmod": lambda: call("chmod", AT, 0o666),
    "fchmod": lambda: os.fchmod(PIPE[0], 0o666),
    "fchmodat": lambda: call("fchmodat", HERE, AT, 0o666),
    "fchown": lambda: os.fchown(PIPE[0], 0, 0),
    "openat2": lambda: call("openat2", HERE, AT, AT, 24),
    "open_by_handle_at": lambda: call("open_by_handle_at", 3, AT, 0),
    "creat": lambda: call("creat", AT, 0o600),
    "ftruncate": lambda: os.ftruncate(PIPE[1], 1 << 40),
    "fallocate": lambda: call("fallocate", PIPE[1], 0, 0, 1 << 40),
    "rename": lambda: call("renameat2", HERE, AT, HERE, AT, 0),
    "unlink": lambda: call("unlinkat", HERE, AT, 0),
    "link": lambda: call("linkat", HERE, AT, HERE, AT, 0),
    "mkdir": lambda: call("mkdirat", HERE, AT, 0o700),
    "getdents64": lambda: call("getdents64", 0, AT, 10),
    "setxattr": lambda: call("setxattr", AT, AT, AT, 1, 0),
    "utimensat": lambda: call("utimensat", HERE, AT, 0, 0),
    "chroot": lambda: call("chroot", AT),
    "mount": lambda: call("mount", AT, AT, AT, 0, 0),
    "inotify_init1": lambda: call("inotify_init1", 0),
    "sendfile": lambda: call("sendfile", 1, 0, 0, 1),
    "copy_file_range": lambda: call("copy_file_range", 0, 0, 1, 0, 1, 0),
    "splice": lambda: call("splice", PIPE[0], 0, PIPE[1], 0, 1, 0),
    "pipe2": lambda: os.pipe(),
    "dup2": lambda: call("dup3", 0, 1, 0),
    # processes, threads, rights
    "fork": lambda: os.fork(),
    "a thread": lambda: threading.Thread(target=int).start(),
    "clone": lambda: call("clone", 17, 0, 0, 0, 0),
    "clone of a thread": lambda: call("clone", 0x10F00, AT, 0, 0, 0),
    "clone3": lambda: call("clone3", AT, 88),
    "vfork": lambda: call("vfork"),
    "execve": lambda: call("execve", AT, 0, 0),
    "execveat": lambda: call("execveat", HERE, AT, 0, 0, 0),
    "prctl": lambda: call("prctl", 4, 1, 0, 0, 0),
    "a second filter": lambda: call("seccomp", 1, 0, 0),
    "setuid": lambda: call("setuid", 0),
    "capset": lambda: call("capset", AT, AT),
    "unshare": lambda: call("unshare", 0x10000000),
    "setpriority": lambda: call("setpriority", 0, 0, 0),
    "sched_setaffinity": lambda: call("sched_setaffinity", 0, 8, AT),
    "keyctl": lambda: call("keyctl", 0, 0, 0),
    "bpf": lambda: call("bpf", 0, AT, 0),
    "perf_event_open": lambda: call("perf_event_open", AT, 0, FAR, FAR, 0),
    "userfaultfd": lambda: call("userfaultfd", 0),
    "io_uring_setup": lambda: call("io_uring_setup", 8, AT),
    "io_uring_enter": lambda: call("io_uring_enter", 3, 1, 0, 0, 0, 0),
    "a call of another architecture (x32's getpid)": lambda: call(0x40000000 + 39),
    "a call that is newer than the list": lambda: call(598),
    # the network
    "listen": lambda: call("listen", 3, 1),
    "accept4": lambda: call("accept4", 3, 0, 0, 0),
    "bind": lambda: call("bind", 3, AT, 16),
    "socketpair": lambda: socket.socketpair(),
}
REFUSES: dict[str, Call] = {
    "open": lambda: os.open(PATH.value, os.O_RDONLY),
    "stat": lambda: os.stat(PATH.value),
    "access": lambda: os.access(PATH.value, os.R_OK) or call("faccessat", HERE, AT, 0),
    "readlink": lambda: os.readlink("/proc/self/exe"),
}
NO_NETWORK: dict[str, Call] = {
    "socket": lambda: socket.socket(),
    "connect": lambda: call("connect", 3, AT, 16),
    "sendto": lambda: call("sendto", 3, AT, 1, 0, 0, 0),
    "ioctl": lambda: call("ioctl", 0, 0x5401, AT),
}
NETWORK_DENIES: dict[str, Call] = {
    "raw packets": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    "another protocol": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP),
    "firewall rules": lambda: socket.socket().setsockopt(socket.IPPROTO_IP, 64, b""),
    "a packet filter": lambda: socket.socket().setsockopt(socket.SOL_SOCKET, 26, b"\0" * 16),
    "a terminal": lambda: call("ioctl", 0, 0x5401, AT),
}
NETWORK_REFUSES: dict[str, Call] = {
    str(family): lambda family=family: socket.socket(family)  # type: ignore[misc]
    for family in (socket.AF_UNIX, socket.AF_NETLINK, socket.AF_PACKET, socket.AF_ALG, 63, 64)
}


@pytest.mark.parametrize("user", USERS, ids=lambda user: "root" if user == 0 else "user")
def test_a_job_is_denied_each_call_of_the_table(user: int) -> None:
    """Tries the filter for jobs that fetch, which allows more; the other one for calls that only that one denies."""
    for table, network, expected in (
        (DENIES, True, KILLED),
        (REFUSES, True, DENIED),
        (NETWORK_DENIES, True, KILLED),
        (NETWORK_REFUSES, True, DENIED),
        (NO_NETWORK, False, KILLED),
    ):
        found = {what: verdict(work, user, network=network) for what, work in table.items()}
        assert found == dict.fromkeys(table, expected)


@pytest.mark.parametrize("network", [False, True])
def test_every_call_that_is_not_allowed_kills(network: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process makes all calls, with ENOTUNIQ in place of the kill. The arguments are out of every range, so calls
    that are allowed with certain arguments only are denied."""
    ends = {number(name) for name in ("exit", "exit_group", "rt_sigreturn")}
    names = (*ALLOWED, *(ALLOWED_TO_FETCH if network else ()))
    listed = {number(name) for name in names} - ends - {NONE}
    refused = {number(name) for name in (*REFUSED, *REFUSED_LINKS)} - {NONE}
    if network:
        refused.add(number("socket"))
    monkeypatch.setattr(pyseccomp, "KILL_PROCESS", pyseccomp.ERRNO(errno.ENOTUNIQ))
    results_read, results_write = os.pipe()
    pid = os.fork()
    if not pid:
        enter_filter(network=network)
        answers: list[int] = []
        for nr in ALL:
            try:
                if nr not in ends:
                    call(nr, *[FAR] * 6)
                answers.append(0)
            except OSError as error:
                answers.append(error.errno or 0)
        os.write(results_write, bytes(answers))
        os._exit(0)
    os.close(results_write)
    with open(results_read, "rb") as file:
        found = dict(zip(ALL, file.read(), strict=True))
    os.waitpid(pid, 0)
    assert found.keys() == set(ALL)
    assert {nr for nr, code in found.items() if code == errno.EACCES} == refused
    assert {nr for nr, code in found.items() if code not in (errno.EACCES, errno.ENOTUNIQ)} == listed | ends


def test_a_thread_started_before_is_in_the_filter_too() -> None:
    def work() -> None:
        enter, entered = threading.Event(), threading.Event()

        def wait() -> None:
            enter.wait()
            os.getppid()
            entered.set()

        threading.Thread(target=wait, daemon=True).start()
        enter_filter()
        enter.set()
        entered.wait(30)

    pid = os.fork()
    if not pid:
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGSYS


def test_calls_to_read_and_write_open_files_are_allowed(tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"x" * 100_000)
    with open(tmp_path / "body", "r+b") as file:

        def work() -> None:
            with mmap.mmap(file.fileno(), 100_000, access=mmap.ACCESS_READ) as mapped:
                assert mapped[:] == file.read()
            file.write(bytearray(20_000_000))
            file.flush()
            os.fsync(file.fileno())
            time.sleep(0)
            os.urandom(8)

        assert verdict(work) == ALLOWED_IT


def test_a_job_that_aborts_dies_of_sigabrt() -> None:
    pid = os.fork()
    if not pid:
        faulthandler.disable()
        enter_filter()
        os.abort()
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGABRT


def test_a_process_ends_although_its_parent_ended_before_it_asked_to() -> None:
    """The kernel sends no signal then: a job would outlive the daemon that was stopped while the job started."""
    listening, telling = os.pipe()
    parent = os.fork()
    if not parent:
        parent = os.getpid()
        if not os.fork():
            end = time.monotonic() + 60
            while os.getppid() == parent and time.monotonic() < end:
                os.sched_yield()
            os.write(telling, b"asked")
            die_with_parent()
            os.write(telling, b" and lives")
        os._exit(0)
    os.close(telling)
    os.waitpid(parent, 0)
    with open(listening, "rb") as told:
        assert told.read() == b"asked"
