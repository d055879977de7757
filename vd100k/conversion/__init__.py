"""What convert is made of: sources of rows, the gate they pass, and the writers they go to.

``conversion`` brings one job through, ``products`` a data set's files made from several models.
"""
