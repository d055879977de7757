"""Compose a configuration, check all of it, run its stage. ``python run.py --help`` lists the choices."""

import os
import sys
from pathlib import Path

VENV = Path(__file__).resolve().parent / ".venv"  # made by `make env`

try:
    from vd100k.launch import main
except ModuleNotFoundError as error:
    if (VENV / "bin/python").exists() and Path(sys.prefix).resolve() != VENV:
        os.execv(VENV / "bin/python", [str(VENV / "bin/python"), *sys.orig_argv[1:]])
    sys.exit(f"{error.name} is not installed for {sys.executable}: run `make env` first, or `pip install -e .`.")

if __name__ == "__main__":
    sys.exit(main())
