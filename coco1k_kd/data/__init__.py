"""COCO in, a subset on disk.

In: COCO annotation files and images. Out: a folder with images, labels, annotations, YAML and manifest, checked.
Start reading at `subset.py`; the choice of images is `sampling.py`. It imports `errors`, `files` and `flags`, no torch.
"""
