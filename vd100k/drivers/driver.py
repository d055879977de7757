"""A driver: our process on a machine of the cluster that asks about one slice of the images after another.

It asks as ``stage=generate`` on one machine does, with a ledger of its own for each slice. Ray starts it again, there
or on another machine, when it is lost.
"""

from __future__ import annotations

import pickle
import sys
import threading
import traceback
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TextIO, cast

from vd100k.cluster.placement import Shared, address, enter, equip
from vd100k.config.run import Run
from vd100k.config.stages import Generate
from vd100k.console import Filtered, say
from vd100k.drivers.slices import Slice
from vd100k.engines.serving.fleet import Fleet
from vd100k.errors import Vd100kError
from vd100k.generation.progress import Progress
from vd100k.generation.run import ask_items, opened, rows_path
from vd100k.generation.work_items import OpenItems, unit_name
from vd100k.io.jsonl import Row
from vd100k.io.redaction import redact
from vd100k.ledger.known import Known
from vd100k.ledger.rows import DYING_S, LedgerBusy

REPORTED_EVERY_S = 0.5
# waiting: a driver that was believed to be lost still asks about the slice.
State = Literal["asking", "done", "stopped", "waiting", "failed"]


class Work(NamedTuple):
    """What all drivers of a run get to know: what they ask, and what the ledger of the run has already.

    ``known`` is a file, because Ray may have forgotten large arguments when it starts a lost driver again.
    """

    run: Run
    settings: Generate
    decided_by: Row
    known: Path  # a pickled ``Known``
    logs: Path
    variables: dict[str, str]  # of the environment: keys of APIs, and credentials for the images


class Order(NamedTuple):
    """What a driver is to do, said again and again: ask about this slice, at these URLs, or stop. 0 is no order."""

    number: int
    slice: Slice | None
    urls: list[str]
    stop: bool


class Report(NamedTuple):
    """How far a driver is with the order that has this number."""

    number: int
    state: State
    progress: Progress
    error: Exception | None


@dataclass
class Outlook:
    """What a driver knows about the rest of the run: ``error`` ends the slice once its requests are finished."""

    expected: int | None = None
    error: BaseException | None = None


class Driver:
    """``number`` counts the drivers of a run from 0; ``shared`` says which folder the machines have in common."""

    def __init__(self, number: int, shared: Shared, work: Work) -> None:
        equip(work.run, work.variables)
        self._number, self._shared, self._work = number, shared, work
        self._servers = Fleet()
        self._known: Known | None = None
        self._ended = threading.Event()
        self._ended.set()
        self._outlook = Outlook()
        self._report = Report(0, "done", self._counters(), None)

    def obey(self, order: Order) -> Report:
        """Take an order, and report at once if it is new, otherwise after a while or as soon as its slice is over."""
        self._servers.given = order.urls
        if order.stop or order.number != self._report.number:
            self._outlook.error = KeyboardInterrupt()  # this driver was believed to be lost, or is told to stop
        if order.slice and order.number != self._report.number and self._ended.is_set():
            self._report = Report(order.number, "stopped" if order.stop else "asking", self._counters(), None)
            if not order.stop:
                self._begin(order.slice)
        else:
            self._ended.wait(REPORTED_EVERY_S)
        return self._report._replace(progress=self._report.progress.snapshot())

    def stop(self) -> None:
        """Nothing: what is still in flight ends with this process, and is asked again by the next run."""

    def _begin(self, slice: Slice) -> None:
        self._outlook = Outlook()
        self._ended.clear()
        threading.Thread(target=self._ask, args=(slice,), daemon=True).start()

    def _ask(self, slice: Slice) -> None:
        state: State = "done"
        error = None
        try:
            self._ask_about(slice)
        except KeyboardInterrupt:
            state = "stopped"
        except LedgerBusy:
            state = "waiting"
        except Exception as raised:  # told by the report: nobody waits for this thread
            say(traceback.format_exc())
            state, error = "failed", _told(raised)
        self._report = self._report._replace(state=state, error=error)
        self._ended.set()

    def _ask_about(self, slice: Slice) -> None:
        run, settings, decided_by = self._work[:3]
        check = settings.check and self._known is None
        known = self._known = self._known or self._enter()
        say(f"{slice}, on {address()}")
        # Failures are counted over all drivers, and slices of other settings have been refused if they are to be.
        ours = {"check": check, "if_changed": "set_aside", "max_failure_rate": 1.0}
        settings = settings.model_copy(update=ours)
        progress, path = self._report.progress, slice.path(rows_path(run))
        with opened(run, settings, decided_by, path, known, DYING_S) as ledger:
            items = OpenItems(run, ledger, progress, settings.retry_failed, None, slice)
            ask_items(run, settings, ledger, progress, items, self._outlook, lambda: nullcontext(self._servers))

    def _enter(self) -> Known:
        """Work in the folder of the run, with a log there; what is known."""
        enter(self._shared)
        self._work.logs.mkdir(parents=True, exist_ok=True)
        log = (self._work.logs / f"driver-{self._number}.log").open("a", encoding="utf-8")
        sys.stdout = cast(TextIO, Filtered(log, redact))
        known: Known = pickle.loads(self._work.known.read_bytes())
        return known

    def _counters(self) -> Progress:
        return Progress(unit_name(self._work.run), self._work.run.model.price)


def _told(error: Exception) -> Exception:
    """An error that can be sent to the process that started the run, with the address of this machine."""
    if isinstance(error, Vd100kError):
        return type(error)(f"{error}\n(said by a driver on {address()})")
    return RuntimeError(f"a driver on {address()}: {type(error).__name__}: {error}")
