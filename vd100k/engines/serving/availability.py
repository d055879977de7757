"""Whether a run's model can be asked at all, found out before anything is done."""

from __future__ import annotations

from collections.abc import Iterator

from vd100k.config.run import Run
from vd100k.engines.serving.fleet import running
from vd100k.errors import DataError, ServerError
from vd100k.llm.client import api_key
from vd100k.models import model_folder


def faults(run: Run) -> Iterator[str]:
    """What will keep the run's model from being asked: its key, or the engine or weights of a server to be started.

    A merged model does not have to exist yet.
    """
    if run.hardware.urls is not None:
        try:
            api_key(run.model)
        except ServerError as error:
            yield str(error)
    elif not (run.weights == "base" and running(run, front=False)):
        from vd100k.engines.serving import preflight  # slow to import

        yield from preflight.lasting_faults(run)
        if run.weights == "base":
            try:
                model_folder.check(run)
            except DataError as error:
                yield str(error)
