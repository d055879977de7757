"""Slow surveys of the images and rows, which run beside the first requests."""

from __future__ import annotations

import threading
from typing import Protocol

from vd100k.config.run import Run
from vd100k.errors import Vd100kError
from vd100k.generation.work_items import count_items
from vd100k.io.key_set import KeySet
from vd100k.ledger.rows import Ledger


class Outlook(Protocol):
    """What lies ahead: the number of rows at the end once it is known, and what should end the run."""

    @property
    def expected(self) -> int | None: ...
    @property
    def error(self) -> BaseException | None: ...


class Survey:
    """Looks for images that have changed since they were answered, then counts the work; both in a thread.

    ``expected`` is the number of rows at the end once it is known, ``error`` what should end the run.
    """

    def __init__(self, run: Run, ledger: Ledger, expected: int | None) -> None:
        self.expected = expected
        self.error: Vd100kError | OSError | None = None
        self._run, self._ledger = run, ledger
        self._changed = KeySet()
        self._compared = threading.Event()
        threading.Thread(target=self._survey, name="survey", daemon=True).start()

    def changed(self) -> KeySet:
        """Wait for the keys of the rows whose image has changed.

        Raises:
            Vd100kError: the rows cannot be read.
            OSError: the rows cannot be read.
        """
        self._compared.wait()
        if self.error:
            raise self.error
        return self._changed

    def _survey(self) -> None:
        try:
            if self._ledger.done:
                self._changed = self._ledger.changed_rows()
            self._compared.set()
            if self.expected is None:
                self.expected = count_items(self._run)
        except (Vd100kError, OSError) as error:
            self.error = error
        finally:
            self._compared.set()
