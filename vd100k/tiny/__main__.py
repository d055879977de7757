"""``python -m vd100k.tiny student FOLDER``: write a full checkpoint of a tiny model, or a random one of a family."""

import argparse
from pathlib import Path

from vd100k.tiny import random_checkpoint
from vd100k.tiny.checkpoint import unpack

TRAINED = ("student", "teacher", "reader")

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("name", choices=(*TRAINED, *random_checkpoint.FAMILIES))
parser.add_argument("folder", type=Path)
args = parser.parse_args()
if args.name in TRAINED:
    unpack(args.name, args.folder)
else:
    random_checkpoint.make(args.name, args.folder)
