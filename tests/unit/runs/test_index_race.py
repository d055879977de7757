"""Many processes that write the index at the same moment: none fails, no reader sees a part, and no run is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.unit.runs.test_report import summary
from vd100k.runs.report import index

ROUNDS, PROCESSES = 6, 6
# In each round, all processes end a run at the same moment, and then see whether all of these runs are in the index.
ENDS = """
import sys, time
from pathlib import Path
from tests.unit.runs.test_report import summary
from vd100k.runs.report import index
outputs, name, rounds, processes = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

def wait_for_all(what):
    (outputs / f"{name}.{what}").touch()
    ends = time.monotonic() + 60
    while len(list(outputs.glob(f"*.{what}"))) < processes:
        assert time.monotonic() < ends, "another process has failed"
        time.sleep(0.001)

for k in range(rounds):
    folder = outputs / "runs" / "2026-01-02" / f"{name}-{k:02}"
    folder.mkdir(parents=True)
    wait_for_all(f"begun-{k}")
    (summary(folder, "finetune", started="2026-01-02T00:00:00+00:00") / "report.html").touch()
    index.write(outputs)
    wait_for_all(f"written-{k}")
    html = (outputs / "index.html").read_text(encoding="utf-8")
    assert html.count("report.html") == (k + 1) * processes, "a run, or the link to its report, is missing"
    wait_for_all(f"seen-{k}")
"""


def test_runs_that_end_at_the_same_moment_are_all_in_the_index(tmp_path: Path) -> None:
    earlier = tmp_path / "runs/2026-01-01/earlier"
    earlier.mkdir(parents=True)
    summary(earlier, "finetune", started="2026-01-01T00:00:00+00:00")
    index.write(tmp_path)
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", ENDS, str(tmp_path), f"p{k}", str(ROUNDS), str(PROCESSES)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for k in range(PROCESSES)
    ]
    partial = 0
    while all(writer.poll() is None for writer in writers):
        html = (tmp_path / "index.html").read_text(encoding="utf-8")
        partial += not html.rstrip().endswith("</html>")
    for writer in writers:
        if any(other.poll() for other in writers):
            writer.kill()  # it would wait for the one that failed
    errors = [writer.communicate(timeout=90)[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * PROCESSES, errors
    assert partial == 0, "a page was read before it was complete"
    assert (tmp_path / "index.html").read_text(encoding="utf-8").count("<tr title=") == 1 + ROUNDS * PROCESSES
    assert not list(tmp_path.glob("*.tmp")), "a scratch file is left"
