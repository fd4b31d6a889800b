"""For processes under libfaketime that leave the monotonic clock alone: there every `time.sleep` of Python
3.11 fails with EINVAL (libfaketime issue 426), so that it waits in another way."""

import select
import time


def _sleep(seconds: float) -> None:
    select.select([], [], [], seconds)


time.sleep = _sleep
