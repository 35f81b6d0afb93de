"""Data YAMLs that Ultralytics reads are read here, too, as the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from layouts import absolute
from ultralytics.utils import YAML

from coco1k_kd.data.given import check
from coco1k_kd.data.scan import read
from coco1k_kd.data.source import from_yaml
from coco1k_kd.data.yamls import read_yaml
from coco1k_kd.errors import UserError

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


BOMB = ["a: &l0 [cup, cup, cup, cup, cup, cup, cup, cup, cup, cup]"]
BOMB += [f"b{i}: &l{i} [{', '.join(10 * [f'*l{i - 1}'])}]" for i in range(1, 9)]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("\n".join([*BOMB, "names: *l8"]), "its aliases .* stand for more than can be read"),
        ("names: &all [*all, cup]", "its aliases .* stand for more than can be read"),
        (f"x: {5000 * '['}{5000 * ']'}", "nested too deeply"),
    ],
    ids=["some billion names", "a list within itself", "deep"],
)
def test_what_would_fill_the_memory_is_refused_before_ultralytics_reads_it(
    more: str, says: str, tmp_path: Path
) -> None:
    path = absolute(tmp_path)
    path.write_text(f"{path.read_text('utf-8')}\n{more}\n", "utf-8")
    for use in (check, lambda path: from_yaml(path)["train"]):
        with pytest.raises(UserError, match=rf"fruit\.yaml: .*{says}"):
            use(path)


def test_aliases_and_merged_keys_are_read(tmp_path: Path) -> None:
    path = absolute(tmp_path)
    given = yaml.safe_load(path.read_text("utf-8"))
    path.write_text(
        f"base: &b\n  path: {given['path']}\n  train: images/train\n<<: *b\nval: images/val\nnames: [a, b, c]\n"
    )
    assert read(path)[0].train.size == 9


@pytest.mark.parametrize("content", [b"", b"- a\n", b"just text"])
def test_what_is_no_mapping_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_bytes(content)
    with pytest.raises(yaml.YAMLError, match="not key: value"):
        read_yaml(file)
