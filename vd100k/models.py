"""Model folders: making those that a configuration knows how to make."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from vd100k.config import Run
from vd100k.console import say
from vd100k.errors import DataError


def ensure(run: Run) -> None:
    """See that the run's weights are there, building the folder where ``model.build`` says how.

    A path that is no folder and looks like no hub name is refused here, where the remedy is known,
    and not after the engine has asked the hub for it.

    Raises:
        DataError: the folder is missing and cannot be made.
    """
    named = run.model_path or ""
    path = Path(named).expanduser()
    if (path / "config.json").exists():
        return
    if run.weights == "base" and run.model.build:
        say(f"making {path}")
        made = subprocess.run([sys.executable, *run.model.build], capture_output=True, text=True, check=False)
        if made.returncode:
            last = made.stderr.strip().splitlines()[-1:]
            raise DataError(f"{path}: could not be made: {''.join(last)}")
    elif run.weights == "merged":
        raise DataError(
            f"{path}: no exported model there. Make it: python run.py stage=export … (after stage=finetune)."
        )
    elif named.startswith((".", "/", "~")) or named.count("/") > 1 or path.is_dir():
        raise DataError(f"{path}: no config.json in it, so it is no model folder. Set model.path=FOLDER or a hub name.")
