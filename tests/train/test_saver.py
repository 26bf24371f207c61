"""The end of saving: nothing that an upload met is lost."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import cast

import pytest

from distmed.errors import UserError
from distmed.train.saver import Saver


def test_the_last_upload_is_waited_for_and_its_failure_told() -> None:
    saver = cast(Saver, Saver.__new__(Saver))
    upload: Future[None] = Future()
    saver.failed, saver.uploads = None, [upload]

    def fail() -> None:
        saver.failed = UserError("no space left", "free some")
        upload.set_result(None)

    threading.Timer(0.2, fail).start()
    with pytest.raises(UserError, match="no space left"):
        saver.finish()
