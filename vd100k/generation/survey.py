"""What takes long with many images and does not have to be known before the first request."""

from __future__ import annotations

import threading

from vd100k.config.run import Run
from vd100k.errors import Vd100kError
from vd100k.generation.ledger import Ledger
from vd100k.generation.work_items import count_items


class Survey:
    """Counts the work and checks the images of existing rows, in a thread.

    ``expected`` is the number of rows at the end once it is known, ``error`` what should end the run.
    """

    def __init__(self, run: Run, ledger: Ledger, expected: int | None) -> None:
        self.expected = expected
        self.error: Vd100kError | OSError | None = None
        self._run, self._ledger = run, ledger
        self._thread = threading.Thread(target=self._survey, name="survey", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until both are done."""
        self._thread.join()

    def _survey(self) -> None:
        try:
            if self.expected is None:
                self.expected = count_items(self._run)
            self._ledger.check_images()
        except (Vd100kError, OSError) as error:
            self.error = error
