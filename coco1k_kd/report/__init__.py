"""What people read.

In: the content of `comparison.json`. Out: Markdown, PNG and HTML, in English or Korean.
Start reading at `write.py`; sentences are in `words.py`, plots in `plots.py`. It imports `verdict`.
"""
