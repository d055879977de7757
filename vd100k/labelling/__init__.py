"""Which answers are right: the rows that people are asked about, their labels, and what these say about rows together.

``sample`` draws rows, ``ledger`` keeps the labels of one person, ``session`` goes from row to row, ``view`` shows a row
as HTML, and ``page`` is the page of Gradio. ``labels`` reads labels, also those made elsewhere, and ``judgements`` says
what all people together say about each row.
"""
