"""Annotation files: what is read is right, what is written is the source's own bytes, what is torn is refused."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import numpy as np
import pytest

from coco1k_kd.data.annotations import parse, read
from coco1k_kd.errors import UserError

# Written by hand where json.dumps would lose it: spaces, number formats, key order, escapes, fields nobody knows.
IMAGES = [
    '{"id": 7, "file_name": "a.jpg", "width": 100, "height": 50, "license": 3, "mood": {"\\u00e9": [1e-3, -0]} }',
    '{"height":60,"width":80,"file_name":"sub/b.jpg","id":2}',
    '{"id":90,"file_name":"c.jpg","width":10,"height":10}',
]
ANNOTATIONS = [
    '{"id":5,"image_id":7,"category_id":90,"bbox":[1.0,2.50,30,4e1],"area":900.00,"iscrowd":0,"segmentation":[[1,2,3]]}',
    '{"id":3,"image_id":7,"category_id":1,"bbox":[0,0,10,10],"iscrowd":1,"area":9,"segmentation":{"size":[50,100],"counts":"e1`"}}',
    '{"id":4,"image_id":2,"category_id":1,"bbox":[0,0,0,10],"area":0,"x":null}',
    '{"id":9,"image_id":2,"category_id":1,"bbox":[5,5,60,50]}',
]
CATEGORIES = ['{"id":90,"name":"z"}', '{"id":1,"name":"person","supercategory":"p"}']


def coco(images=IMAGES, annotations=ANNOTATIONS, categories=CATEGORIES) -> bytes:
    parts = {"images": images, "annotations": annotations, "categories": categories}
    lists = [f'"{key}":[{",".join(entries)}]' for key, entries in parts.items()]
    return ('{"info":{"v":  1.0},"more":[1, 2],' + ",".join(lists) + "}").encode()


def test_reads_what_counts():
    got = parse(coco(), Path("x"))
    assert got.names == ["person", "z"]
    assert got.image_ids.tolist() == [2, 7, 90]
    assert got.image.tolist() == [1, 0, 1, 0]  # annotations by id: 3, 4, 5, 9
    assert got.category.tolist() == [0, 0, 1, 0]
    assert got.valid.tolist() == [False, False, True, True]  # a crowd, an empty box
    assert got.area.tolist() == [9, 0, 900, 3000]  # without an area: that of the box


def test_chosen_entries_are_the_sources_own_bytes():
    written = parse(coco(), Path("x")).extract(np.array([7, 2])).decode()
    for raw in [*IMAGES[:2], *ANNOTATIONS, *CATEGORIES, '"info":{"v":  1.0}', '"more":[1, 2]']:
        assert raw in written
    assert IMAGES[2] not in written
    loaded = json.loads(written)
    assert [image["id"] for image in loaded["images"]] == [2, 7]
    assert [a["id"] for a in loaded["annotations"]] == [3, 4, 5, 9]
    assert parse(written.encode(), Path("y")).extract(np.array([7, 2])).decode() == written


def test_a_file_with_further_fields_is_read_as_one_without():
    usual = coco().replace(b'"more":[1, 2],', b"")
    assert b"more" not in usual
    for part in (usual, usual.replace(b'{"info"', b'{"licenses":[{"id": 3}],"info"', 1)):
        one, other = parse(part, Path("x")), parse(b'{"more":1,' + part[1:], Path("x"))
        for column in ("ids", "image_ids", "image", "category", "box", "area"):
            assert (getattr(one, column) == getattr(other, column)).all()
        written = one.extract(np.array([7])).decode()
        assert other.extract(np.array([7])).decode() == written.removesuffix("}\n") + ',\n"more":1}\n'
        assert ('"licenses":[{"id": 3}]' in written) == (b"licenses" in part)


def test_the_order_of_the_source_does_not_matter():
    expected = parse(coco(), Path("x")).extract(np.array([7, 90]))
    for seed in range(5):
        mix = random.Random(seed)
        parts = [mix.sample(entries, len(entries)) for entries in (IMAGES, ANNOTATIONS, CATEGORIES)]
        assert parse(coco(*parts), Path("x")).extract(np.array([7, 90])) == expected


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (coco()[:-40], "not a whole COCO instances file"),
        (b"", "the file is empty"),
        (b"[1]", "not a COCO instances file"),
        (gzip.compress(coco()), r"the file is packed \(gzip\); unpack it"),
        (coco()[:-1] + b',"info":' + 99_999 * b"[" + 99_999 * b"]" + b"}", "maximum recursion depth"),
        (coco().replace(b'"bbox"', b'"bbox":' + 99_999 * b"[" + 99_999 * b"]" + b',"x"'), "maximum recursion depth"),
        (b"\xff\xfe{}", "not a COCO instances file in UTF-8 JSON"),
        (b'{"images":[],"annotations":[]}', "no categories"),
        (coco(images=[*IMAGES, IMAGES[0]]), "id 7 occurs twice in images"),
        (coco(annotations=[*ANNOTATIONS, ANNOTATIONS[0]]), "id 5 occurs twice in annotations"),
        (coco(images=IMAGES[1:]), "annotation 3 names image 7"),
        (coco(categories=CATEGORIES[1:]), "annotation 5 names category 90"),
        (coco(categories=[*CATEGORIES, '{"id":2,"name":"z"}']), "same name"),
        (coco(annotations=['{"id":1,"image_id":7,"category_id":1,"caption":"a"}']), "bbox"),
        (coco(annotations=[ANNOTATIONS[3].replace("60,50", "NaN,1")]), "knows neither NaN nor Infinity"),
        (coco(images=['{"id":"7"}']), r"images\[0\] is not in COCO's format .*int.*str.*id.*correct"),
        (coco(images=[IMAGES[0].replace(" 7", str(2**64 - 1))]), "too large for 64 bits"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(data: bytes, says: str):
    with pytest.raises(UserError, match=says) as caught:
        parse(data, Path("some.json"))
    assert "some.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../a.jpg", "/a.jpg", "", "a\\\\b.jpg"])
def test_a_file_name_cannot_leave_the_folder(name: str):
    with pytest.raises(UserError, match="file_name"):
        list(parse(coco(images=[IMAGES[0].replace("a.jpg", name), *IMAGES[1:]]), Path("x")).images())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (('"width": 100', '"width": 0'), "image 7 has the size 0x50"),
        (('"file_name"', '"name"'), r"images\[0\] is not in COCO's format \(Object missing required field `file_name`"),
    ],
)
def test_an_image_entry_without_size_or_name_is_refused(change: tuple[str, str], says: str):
    with pytest.raises(UserError, match=says):
        list(parse(coco(images=[IMAGES[0].replace(*change), *IMAGES[1:]]), Path("x")).images())


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"nothing\.json: No such file"):
        read(tmp_path / "nothing.json")
