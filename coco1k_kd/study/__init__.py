"""The order of events.

In: the settings that `test_coco1k_kd.py` is given. Out: the runs, the audit, the comparison and its report.
Start reading at `study.py`; what can be asked for is `settings.py`, what is to be done `plan.py`. It imports all other
rooms.
"""
