"""How far answers can be trusted: asked again or judged, scored, and kept above a threshold with a known error rate.

``asking`` makes the runs that ask again or ask a judge, ``agreement`` and ``judging`` score their replies, ``verdicts``
writes and reads the scores. ``calibration`` finds the threshold from labelled rows, ``gate`` applies it to the rows of
a conversion, and ``blocks`` shows all of it on pages.
"""
