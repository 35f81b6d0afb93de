"""Predictions in, verdict out.

In: COCO annotations and the predictions of two arms by replicate. Out: AP, differences, intervals and a verdict.
Start reading at `compare.py`. It imports `data`, `errors` and `files`, and no torch.
"""
