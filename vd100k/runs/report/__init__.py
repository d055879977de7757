"""``report.html``: the results of a run on one self-contained page, made only from the run's folder."""
