"""A COCO file taken apart: the entries' own bytes, and what is said where there are none."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma

import msgspec
import pytest

from coco1k_kd.data.raws import fields_of, not_json
from coco1k_kd.errors import UserError

PLAIN = b'{"images":[{"id": 1 }],"annotations":[],"categories":[{"id":2}, {"id":3}]}'


@pytest.mark.parametrize("more", [b"", b'"info":{"v":  1.0},', b'"mine":[1, 2],'])
def test_entries_keep_their_bytes_and_other_fields_theirs(more: bytes) -> None:
    fields = fields_of(codecs.BOM_UTF8 + PLAIN.replace(b"{", b"{" + more, 1))
    assert [bytes(raw) for raw in fields["images"]] == [b'{"id": 1 }'] and fields["annotations"] == []
    assert [bytes(raw) for raw in fields["categories"]] == [b'{"id":2}', b'{"id":3}']
    others = {key: bytes(raw) for key, raw in fields.items() if key not in ("images", "annotations", "categories")}
    assert others == ({more.split(b'"')[1].decode(): more.partition(b":")[2].rstrip(b",")} if more else {})


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'{"images":[]}', "it has no annotations and no categories"),
        (PLAIN.replace(b"[]", b"{}"), "annotations is not a list"),
    ],
)
def test_what_is_no_coco_file_is_said(data: bytes, says: str) -> None:
    with pytest.raises(UserError, match=says):
        fields_of(data)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b" \n", "the file is empty"),
        (gzip.compress(PLAIN), r"packed \(gzip\); unpack it"),
        (bz2.compress(PLAIN), r"packed \(bzip2\)"),
        (lzma.compress(PLAIN), r"packed \(xz\)"),
        (b"PK\3\4", r"packed \(zip\)"),
        (PLAIN[:-9], "not a whole COCO instances file"),
        (PLAIN.replace(b" 1 ", b" -Infinity "), "knows neither NaN nor Infinity"),
        (PLAIN.replace(b" 1 ", b" one "), r"not a COCO instances file in UTF-8 JSON .*near .*one"),
    ],
)
def test_the_reason_why_it_cannot_be_parsed_is_said(data: bytes, says: str) -> None:
    with pytest.raises(msgspec.DecodeError) as error:
        fields_of(data)
    with pytest.raises(UserError, match=says):
        raise UserError(not_json(data, error.value))
