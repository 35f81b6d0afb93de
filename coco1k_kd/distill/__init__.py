"""The student learns from a teacher.

In: Ultralytics' student, a teacher, settings. Out: Ultralytics' checkpoints and results, trained with one more loss.
Start reading at `yolo.py`; a loss is one class with its row above it. It imports `data`, and no later room.
"""
