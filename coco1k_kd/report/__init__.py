"""What people read.

In: the content of `comparison.json`. Out: Markdown and PNG.
Start reading at `markdown.py`. It imports `verdict`.
"""
