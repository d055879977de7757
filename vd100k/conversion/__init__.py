"""Converting rows into training files: read a source, check and deduplicate its rows, write the target's files.

Start with ``run``, which converts one source; ``products`` converts every file of a published data set.
``sources`` and ``joins`` yield rows, ``filters``, ``token_lengths`` and ``dedup`` decide which of them are
rejected, ``formats`` turns a row into a trainer's record, and ``writers`` write the records.
"""
