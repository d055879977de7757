"""What of a run is still to be asked."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from vd100k.config.run import Run
from vd100k.config.stages import Generate
from vd100k.generation import work_items as work
from vd100k.generation.ledger import Ledger
from vd100k.generation.work_items import Work
from vd100k.io import key_set as keys
from vd100k.llm.client import may_pass


class Pending(Iterator[Work]):
    """The work that is still to do.

    ``images`` counts what has come by, ``reused`` what of it is answered, ``failed`` what is refused for good.
    """

    def __init__(self, run: Run, ledger: Ledger, only: Collection[str] | None) -> None:
        assert isinstance(run.stage, Generate)
        self.images = self.reused = self.failed = 0
        self._ledger, self._retry_failed = ledger, run.stage.retry_failed
        self._works = work.every(run, self._refuse, only)

    def __next__(self) -> Work:
        for found in self._works:
            open_questions = tuple(question for question in found.questions if self._is_open(found.key(question)))
            if open_questions:
                return Work(found.picture, open_questions)
        raise StopIteration

    def _is_open(self, key: int) -> bool:
        self.images += 1
        if key in self._ledger.done:
            self.reused += 1
            return False
        reason = self._ledger.failed.get(key)
        if reason is None or self._retry_failed or may_pass(reason):
            return True
        self.failed += 1
        return False

    def _refuse(self, id: str, reason: str, detail: str) -> None:
        self.failed += 1
        if self._ledger.failed.get(keys.key(id)) != reason:
            self._ledger.fail(id, reason, detail, attempts=0)
