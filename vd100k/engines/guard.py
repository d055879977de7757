"""Runs a program, and ends all that it started when it exits, when it is told to stop, or when its parent is gone.

    python -I -S guard.py PARENT_PID PROGRAM ARGUMENT…

vLLM ignores a single SIGTERM while it loads, and parts of it survive their parent. So each program has
this small process above it, which outlives ours if ours is killed. On SIGTERM, or if process PARENT_PID
is gone, it sends SIGTERM to all processes below it and SIGKILL five seconds later. It exits as the
program did. Processes that leave their session or lose their parent stay below it, because on Linux it
is a subreaper (prctl(2), PR_SET_CHILD_SUBREAPER). It imports nothing but the standard library and not
even its ``site``, so that it starts in a few milliseconds.
"""

import contextlib
import ctypes
import os
import resource
import select
import signal
import sys
import time

GRACE_S = 5.0
KILLED_WITHIN_S = 5.0
TICK_S = 1.0
POLL_S = 0.05
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LINUX = sys.platform == "linux"


def main(parent: int, argv: list[str]) -> None:
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    ends = []
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, frame: ends.append(number))
    for number in (signal.SIGCHLD, signal.SIGUSR1):
        signal.signal(number, lambda number, frame: None)  # only to wake up
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, signal.SIGUSR1)  # also sent if only the thread ends that started this process
    program = start(argv)
    status = None
    while status is None and not ends and os.getppid() == parent:
        select.select([woken], [], [], TICK_S)
        with contextlib.suppress(BlockingIOError):
            os.read(woken, 4096)
        status = reap().get(program)
    exit_like(end_all(program, status))


def start(argv: list[str]) -> int:
    """Start the program, and return its process id."""
    program = os.fork()
    if program:
        return program
    signal.set_wakeup_fd(-1)
    # Python ignores the last two, and a program keeps ignoring what was ignored when it started.
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGCHLD", "SIGUSR1", "SIGPIPE", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        os.write(2, f"{argv[0]}: {error.strerror}\n".encode(errors="replace"))
        os._exit(127)


def end_all(program: int, status: int | None) -> int:
    """End all processes below this one, and return the wait status of the program."""
    asked: set[int] = set()
    deadline = time.monotonic() + GRACE_S
    while True:
        below = descendants()
        ended = reap().get(program)  # afterwards: a program that is not below any more can be reaped
        status = ended if status is None else status
        # A process that waits for a driver or a dead file server cannot be killed.
        if not below or time.monotonic() > deadline + KILLED_WITHIN_S:
            return status or 0
        late = time.monotonic() > deadline
        for pid in below if late else below - asked:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        asked |= below
        time.sleep(POLL_S)


def reap() -> dict[int, int]:
    """The wait statuses, by process id, of the children that have ended."""
    ended = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            ended[pid] = status
    return ended


def descendants() -> set[int]:
    """The running processes below this one."""
    below, new = set[int](), {os.getpid()}
    parents = parents_of_linux() if LINUX else parents_of_unix()
    while new:
        new = {pid for pid, parent in parents.items() if parent in new} - below
        below |= new
    return below


def parents_of_linux() -> dict[int, int]:
    """The parent of each running process; see proc(5) for the fields of ``stat``."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208 (pathlib takes a while to import)
        with contextlib.suppress(OSError, ValueError), open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
            state, parent = file.read().rpartition(b")")[2].split()[:2]
            if state not in b"ZX":
                parents[int(name)] = int(parent)
    return parents


def parents_of_unix() -> dict[int, int]:
    with os.popen("ps -axo pid=,ppid=,stat=") as table:
        rows = [line.split() for line in table]
    return {int(row[0]): int(row[1]) for row in rows if not row[2].startswith("Z")}


def exit_like(status: int) -> None:
    """Exit with the code of the program, or by the signal that ended it."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def prctl(option: int, value: int) -> None:
    if LINUX:
        ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
