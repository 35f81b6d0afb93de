"""The student learns from a teacher.

In: Ultralytics' student, a teacher, settings. Out: Ultralytics' checkpoints and results, trained with one more loss.
Start reading at `yolo.py`; a loss is one class and one entry in `registry.py`. It imports `errors` and `files` alone.
"""
