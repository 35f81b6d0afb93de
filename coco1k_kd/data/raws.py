"""A COCO annotation file taken apart into its fields and raw entries, before anything of an entry is decoded."""

from __future__ import annotations

import codecs
import re
from contextlib import suppress
from typing import Any

import msgspec

from coco1k_kd.data.entries import shown
from coco1k_kd.errors import UserError

_LISTS = ("images", "annotations", "categories")
_NONE = msgspec.Raw()
_PACKED = {b"\x1f\x8b": "gzip", b"PK": "zip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


class _Usual(msgspec.Struct, forbid_unknown_fields=True):
    """A file with COCO's own fields alone, as nearly all are: one pass over it is enough."""

    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw]
    categories: list[msgspec.Raw]
    info: msgspec.Raw = _NONE
    licenses: msgspec.Raw = _NONE


def fields_of(data: bytes) -> dict[str, Any]:
    """The fields of a file: images, annotations and categories as lists of raw entries, all others raw.

    Raise UserError when one of the three is not there or no list, msgspec.DecodeError for what is not JSON.
    """
    data = data.removeprefix(codecs.BOM_UTF8)
    with suppress(msgspec.ValidationError):
        usual = msgspec.structs.asdict(msgspec.json.decode(data, type=_Usual))
        return {key: value for key, value in usual.items() if value is not _NONE}
    fields: dict[str, Any] = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    if missing := [key for key in _LISTS if key not in fields]:
        raise UserError(f"not a COCO instances file, it has no {' and no '.join(missing)}")
    for key in _LISTS:
        try:
            fields[key] = msgspec.json.decode(fields[key], type=list[msgspec.Raw])
        except msgspec.ValidationError:
            raise UserError(f"not a COCO instances file, {key} is not a list") from None
    return fields


def not_json(data: bytes, error: Exception) -> str:
    """What is wrong with a file that cannot be parsed as a whole."""
    if not data.strip():
        return "the file is empty; write or fetch it again"
    if packed := next((name for begin, name in _PACKED.items() if data.startswith(begin)), None):
        return f"the file is packed ({packed}); unpack it"
    place = re.search(r"\(byte (\d+)\)", str(error))
    near = data[max(0, int(place[1]) - 30) :][:40].decode(errors="replace") if place else ""
    if re.search(r"\b(NaN|-?Infinity)\b", near):
        return f"not valid JSON, which knows neither NaN nor Infinity (near {shown(near)}); write numbers or null"
    if "truncated" in str(error):
        return f"not a whole COCO instances file ({error}); write or fetch it again"
    return f"not a COCO instances file in UTF-8 JSON ({error}{f', near {shown(near)}' if near else ''})"
