"""One training in a process of its own, and where the processes go.

In: `spec.json`. Out: `result.json`, predictions and checkpoints in the run folder, or `failure.json`.
Start reading at `train.py`. It imports `data` and `distill`.
"""
