"""``python -m vd100k.tiny student FOLDER``: unpack a tiny model into a full checkpoint."""

import argparse
from pathlib import Path

from vd100k.tiny.checkpoint import unpack

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("name", choices=("student", "teacher", "reader"))
parser.add_argument("folder", type=Path)
args = parser.parse_args()
unpack(args.name, args.folder)
