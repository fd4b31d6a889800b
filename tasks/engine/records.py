"""Prefect's result records of one store: where they lie, how they are written, which of them are trusted.

A record is derived from the artifact that it names and never the only copy of anything: losing or rewriting
all of them is harmless. It holds no absolute path (a moved store stays cached) and is always JSON: a record
that asks for any other serializer is never handed to Prefect, so nothing in a store is unpickled.
"""

from pathlib import Path

from prefect.filesystems import WritableFileSystem
from prefect.results import ResultStore
from prefect.serializers import JSONSerializer

from storage.files.digests import is_digest
from storage.files.whole import write_bytes
from storage.keys.artifacts import ArtifactRef

RESULTS = Path("prefect") / "results"


class StoreRecords(WritableFileSystem):
    """Result storage of one store: `<store>/prefect/results/<key>`, written by rename.

    Only records whose name is a cache key are kept; what Prefect would keep of failures is in its database.
    """

    _block_type_name = "retrieval-sfm store records"

    root: str

    def _resolve_path(self, path: str) -> None:
        """Tells Prefect to put the bare key, not an absolute path, into the record."""

    def location(self, key: str) -> Path:
        """Path of the record of `key` (64 hexadecimal digits). Raises ValueError for another name."""
        if not is_digest(key):
            raise ValueError(f"{key!r} is not a cache key (64 hexadecimal digits)")
        return Path(self.root) / RESULTS / key

    def read_path(self, path: str, _sync: bool = True) -> bytes:  # type: ignore[override]
        return self.location(path).read_bytes()

    def write_path(self, path: str, content: bytes, _sync: bool = True) -> None:  # type: ignore[override]
        if is_digest(path):
            write_bytes(self.location(path), content, durable=False)

    async def aread_path(self, path: str) -> bytes:
        return self.read_path(path)

    async def awrite_path(self, path: str, content: bytes) -> None:
        self.write_path(path, content)


def use_store(results: ResultStore, root: str) -> StoreRecords:
    """Point the result store of one task run at the records of the store at `root`."""
    records = StoreRecords(root=root)
    results.result_storage = records
    results.metadata_storage = None
    results.serializer = JSONSerializer()
    results.cache_result_in_memory = False
    return records


def write_record(results: ResultStore, key: str, ref: ArtifactRef) -> None:
    """(Re)write the record of `key` from the reference that it stands for."""
    results.write(obj=ref, key=key)


def remove_record(records: StoreRecords, key: str) -> None:
    """Forget the record of `key`, if there is one."""
    records.location(key).unlink(missing_ok=True)
