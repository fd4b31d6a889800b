"""What a scan of a folder found, and how it is kept until the next one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from storage.files.digests import json_sha256
from storage.files.whole import read_json, write_json
from storage.pictures.formats import RULES
from storage.store.integrity import CLOCK_TICK_NS

Facts = tuple[str, int, int, int]


@dataclass(frozen=True)
class PhotoEntry:
    """One file of the scan; ``name`` is its POSIX path below the root, sha256 is "" where it was not read."""

    name: str
    sha256: str
    size: int
    mtime_ns: int
    inode: int
    status: str  # ok, rejected, unsupported
    reason: str = ""

    @property
    def facts(self) -> Facts:
        """What stays the same while nobody touches the file."""
        return self.name, self.size, self.mtime_ns, self.inode


@dataclass(frozen=True)
class ScanTable:
    """What a scan found, sorted by name; `left_out` counts what is not listed, see
    `photograph_folders.left_out_text`."""

    entries: tuple[PhotoEntry, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    others: frozenset[Facts] = field(default=frozenset(), repr=False, compare=False)
    """Files that are no photographs, so that they are not looked into again."""

    @property
    def names(self) -> list[str]:
        return [entry.name for entry in self.entries]

    @property
    def sha256(self) -> list[str]:
        return [entry.sha256 for entry in self.entries]

    @property
    def status(self) -> list[str]:
        return [entry.status for entry in self.entries]

    @property
    def reason(self) -> list[str]:
        return [entry.reason for entry in self.entries]

    @property
    def content_sha256(self) -> str:
        """Digest of what was found, the same on another machine: names, content, verdicts, no times, and
        nothing of what is left out: no result depends on it."""
        return json_sha256([[e.name, e.sha256, e.status, e.reason] for e in self.entries])


@dataclass(frozen=True)
class Known:
    """What an earlier scan says of files that nobody has touched since."""

    sha256: Mapping[Facts, str] = field(default_factory=dict)
    verdicts: Mapping[Facts, tuple[str, str]] = field(default_factory=dict)
    """(status, reason) by content, under the rules of today."""
    others: frozenset[Facts] = frozenset()

    @classmethod
    def of(cls, table_path: Path | None) -> Known:
        """Of the table kept there; nothing where there is none."""
        value = read_json(table_path) if table_path else None
        table = _table(value)
        if value is None or table is None:
            return cls()
        old = [entry for entry in table.entries if entry.mtime_ns >= 0]
        digests = {entry.facts: entry.sha256 for entry in old if entry.sha256}
        if value.get("rules") != RULES:
            return cls(digests)
        verdicts = {e.facts: (e.status, e.reason) for e in old if e.status in ("ok", "unsupported")}
        return cls(digests, verdicts, table.others)


def load_scan(table_path: Path) -> ScanTable | None:
    """The last scan kept at this path, None where it is missing or damaged."""
    return _table(read_json(table_path))


def _table(value: Any) -> ScanTable | None:
    try:
        counts = value.get("left_out", {})
        others = frozenset((name, *numbers) for name, *numbers in value.get("others", ()))
        entries = tuple(PhotoEntry(**entry) for entry in value["entries"])
        return ScanTable(entries, {str(name): int(count) for name, count in counts.items()}, others)
    except (TypeError, KeyError, ValueError, AttributeError):
        return None


def save_scan(table: ScanTable, table_path: Path, started_ns: int) -> None:
    """Keep the table; a file written just now may change again within its mtime: it is not known then."""
    late = started_ns - CLOCK_TICK_NS
    entries = [asdict(e) | ({"mtime_ns": -1} if e.mtime_ns >= late else {}) for e in table.entries]
    others = sorted(facts for facts in table.others if facts[2] < late)
    kept = {"rules": RULES, "entries": entries, "left_out": dict(table.left_out), "others": others}
    write_json(table_path, kept)
