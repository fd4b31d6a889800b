"""A slot of a device that runs on several machines or workers share: a global concurrency limit of Prefect's.

It is taken inside a task's body, where something is computed, so that what is cached never waits for it.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)


class NoSlot(ValueError):
    """A concurrency limit that Prefect's server does not have."""


@contextmanager
def held(name: str | None) -> Iterator[None]:
    """One slot of the global concurrency limit `name`, waited for; None: nothing is taken.

    A killed holder's slot is free again when its lease has run out (five minutes). Raises NoSlot.
    """
    if name is None:
        yield
        return
    from prefect.concurrency.sync import concurrency

    _check(name)
    logger.info("waiting for a slot of %r", name)
    with concurrency(name, occupy=1, raise_on_lease_renewal_failure=False):
        logger.info("got a slot of %r", name)
        yield


def _check(name: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound as error:
            raise NoSlot(
                f"resources.gpu_slot={name}: the server has no such concurrency limit; "
                f"make it: prefect gcl create {name} --limit 1 --slot-decay-per-second 0"
            ) from error
