"""Where the configuration lies."""

from __future__ import annotations

import sys
from pathlib import Path


def conf_folder() -> Path:
    """The folder of the configuration: beside run.py or the package, or inside the package installed from a wheel."""
    package = Path(__file__).resolve().parents[1]
    beside = (Path(sys.argv[0]).resolve().parent / "conf", package.parent / "conf")
    return next((folder for folder in beside if (folder / "config.yaml").exists()), package / "conf")
