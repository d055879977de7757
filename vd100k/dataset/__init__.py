"""The files of a data set: a writer for each side, what describes them, and products made from several answer sets."""
