"""The memory of decoded images has a limit over all threads."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vd100k.images.memory import MemoryBudget

ENCODES = r"""
import re, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from vd100k.images.encode import encode
from vd100k.images.resizing import SizeRule
with ThreadPoolExecutor(4) as pool:
    list(pool.map(lambda path: encode(path, SizeRule(28, 3136, 100_000)).url[:30], sys.argv[1:]))
# Not getrusage: its peak includes that of the process that started this one.
print(int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""


@given(st.lists(st.integers(0, 15), min_size=1, max_size=12))
def test_threads_together_never_hold_more_than_the_limit(sizes: list[int]) -> None:
    budget, lock, held, most = MemoryBudget(10), threading.Lock(), 0, 0

    def hold(size: int) -> None:
        nonlocal held, most
        with budget.taken(size):
            with lock:
                held += min(size, 10)
                most = max(most, held)
            with lock:
                held -= min(size, 10)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(hold, sizes))
    assert most <= 10
    assert held == 0


def test_large_images_are_not_all_decoded_at_once(tmp_path: Path) -> None:
    """Four images of 64 megapixels in four threads: with three copies of each, 2.3 GB."""
    paths = [str(tmp_path / f"{k}.png") for k in range(4)]
    Image.new("RGB", (8000, 8000), "red").save(paths[0], compress_level=1)
    for path in paths[1:]:
        Path(path).hardlink_to(paths[0])
    done = subprocess.run([sys.executable, "-c", ENCODES, *paths], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 900, "MB"
