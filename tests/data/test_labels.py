"""Labels lie where Ultralytics looks for them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from ultralytics.data.utils import img2label_paths

from coco1k_kd.data.labels import label_file


@given(
    parts=st.lists(st.sampled_from(["images", "labels", "a", "b.c", "x images"]), max_size=4),
    name=st.sampled_from(["a.jpg", "b.c.png"]),
)
def test_labels_lie_where_ultralytics_looks_for_them(parts: list[str], name: str) -> None:
    path = "/".join(["", "data", *parts, name])
    assert label_file(path) == img2label_paths([path])[0]
