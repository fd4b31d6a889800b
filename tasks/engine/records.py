"""Prefect's result records of one store: where they lie, how they are written, which of them are trusted.

A record is derived from the artifact that it names and never the only copy of anything: losing or rewriting
all of them is harmless. It holds no absolute path (a moved store stays cached) and is always JSON: a record
that asks for any other serializer is never handed to Prefect, so nothing in a store is unpickled.
"""

import json
from pathlib import Path
from typing import Any

from prefect.filesystems import WritableFileSystem
from prefect.results import ResultStore
from prefect.serializers import JSONSerializer
from pydantic import TypeAdapter, ValidationError

from storage.files.digests import is_digest
from storage.files.whole import write_bytes
from storage.keys.artifacts import ArtifactRef

RESULTS = Path("prefect") / "results"
_REFS: TypeAdapter[ArtifactRef | list[ArtifactRef]] = TypeAdapter(ArtifactRef | list[ArtifactRef])


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


def read_record(records: StoreRecords, key: str) -> ArtifactRef | list[ArtifactRef] | None:
    """What the record of `key` refers to; None if there is no record or it is not one of ours, whole and
    JSON."""
    try:
        record = json.loads(records.read_path(key))
        if record["metadata"]["serializer"]["type"] != "json":
            return None
        return _REFS.validate_python(_plain(json.loads(record["result"])))
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return None


def write_record(results: ResultStore, key: str, refs: ArtifactRef | list[ArtifactRef]) -> None:
    """(Re)write the record of `key` from the references that it stands for."""
    results.write(obj=refs, key=key)


def remove_record(records: StoreRecords, key: str) -> None:
    """Forget the record of `key`, if there is one."""
    records.location(key).unlink(missing_ok=True)


def _plain(result: Any) -> Any:
    """Prefect's JSON form of one or several models -> their fields."""
    if isinstance(result, list):
        return [item["data"] for item in result]
    return result["data"]
