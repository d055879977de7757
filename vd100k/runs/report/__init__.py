"""``report.html``: what a run did, on one page that needs nothing else, made from the run's folder alone."""
