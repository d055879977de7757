"""Converting rows into training files: read a source, check and deduplicate its rows, write the target's files.

Start with ``run``, which converts one source block by block. ``blocks`` is what any process can do with a block:
``filters``, ``images``, ``boxes`` and ``token_lengths`` decide which rows are rejected, ``splits`` the side of a row,
and ``formats`` turns it into a trainer's record. ``ordinary`` does the same for rows in which there is nothing to find.
"""
