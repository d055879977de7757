"""``python -m vd100k.tiny student FOLDER``: write a full checkpoint of a tiny model, or a random one of a family."""

import argparse
import tempfile
from pathlib import Path

from vd100k.tiny import random_checkpoint
from vd100k.tiny.checkpoint import unpack

TRAINED = ("student", "teacher", "reader")


def make(name: str, folder: Path) -> None:
    """Write a checkpoint. Others only see whole files and whole new folders: jobs of a sweep may want it at once."""
    write = unpack if name in TRAINED else random_checkpoint.make
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        new = Path(scratch) / folder.name
        write(name, new)
        try:
            new.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
            for file in new.iterdir():
                file.replace(folder / file.name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=(*TRAINED, *random_checkpoint.FAMILIES))
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    make(args.name, args.folder)
