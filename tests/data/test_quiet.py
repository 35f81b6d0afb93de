"""Ultralytics says nothing but errors for a while, and speaks again however that ends."""

from __future__ import annotations

import logging

import pytest
from ultralytics.utils import LOGGER

from coco1k_kd.data.quiet import quiet


def test_only_errors_are_said_and_afterwards_all_is_as_it_was() -> None:
    before = LOGGER.level
    with quiet():
        assert not LOGGER.isEnabledFor(logging.WARNING) and LOGGER.isEnabledFor(logging.ERROR)
    assert LOGGER.level == before
    with pytest.raises(RuntimeError), quiet():
        raise RuntimeError
    assert LOGGER.level == before
