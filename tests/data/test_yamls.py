"""Data YAMLs that Ultralytics reads are read here, too, as the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ultralytics.utils import YAML

from coco1k_kd.data.yamls import read_yaml

PLAIN = "path: data\ntrain: images\nnames: [cup, \xeb\xb0\xb0]\n".encode("latin-1")


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        "# 학습 데이터\n".encode("cp949") + PLAIN,
        b"# made by \x1b[1mtool\x1b[0m\n" + PLAIN,
        b"\xef\xbb\xbf" + PLAIN,
        PLAIN.replace(b"\n", b"\r\n"),
    ],
    ids=["utf-8", "cp949", "control characters", "byte order mark", "line ends of Windows"],
)
def test_it_reads_what_ultralytics_reads(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_bytes(content)
    assert read_yaml(file) == YAML.load(file) == {"path": "data", "train": "images", "names": ["cup", "배"]}


@pytest.mark.parametrize("content", [b"", b"- a\n", b"just text"])
def test_what_is_no_mapping_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_bytes(content)
    with pytest.raises(yaml.YAMLError, match="not key: value"):
        read_yaml(file)
