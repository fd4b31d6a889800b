"""What a run left that a page can show: its record, and its artifacts as arrays, each read once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from report.page.markup import Safe
from report.page.pictures import Pictures
from retrieval.describe.rows import descriptor_rows
from storage.hdf5 import file as hdf5
from storage.keys.artifacts import ArtifactRef, Sidecar
from storage.photographs.folders import read_left_out
from storage.store.ledger import RunRecord
from storage.store.store import Store

MOST_POINTS = 2_000_000
"""3D points that are read of a scene; of more, every second, third, ... is."""
MOST_OBSERVATIONS = 20_000_000


@dataclass(frozen=True)
class Material:
    """A run of a store. command: lines that make the run again; figures: what the page's script draws, by the
    element that it is drawn into, put there by the sections."""

    store: Store
    record: RunRecord
    command: str = ""
    figures: dict[str, Any] = field(default_factory=dict)

    def path(self, name: str) -> Path | None:
        """The run's first artifact of this name, where it is still in the store."""
        for ref in self.record.refs_of(name):
            found = self.store.path(ref)
            if found.exists():
                return found
        return None

    def sidecars(self, name: str) -> Iterator[tuple[ArtifactRef, Sidecar | None]]:
        """The run's artifacts of this name with what is known of their making."""
        for ref in self.record.refs_of(name):
            yield ref, self.store.sidecar(ref)

    @cached_property
    def scene(self) -> dict[str, NDArray[Any]]:
        """scene.h5 without its observations; the catalogue where there is no scene; {} without both."""
        path = self.path("scene")
        if path is None:
            catalogue = self.path("catalogue")
            return hdf5.read(catalogue, "catalogue") if catalogue else {}
        with hdf5.open_artifact(path, "scene") as artifact:
            wanted = [name for name in artifact.paths() if name.split("/")[0] not in ("visibility", "points")]
            arrays = {name: artifact[name] for name in wanted}
            arrays["visibility/indptr"] = artifact["visibility/indptr"]
            step = max(1, len(artifact.dataset("points/model")) // MOST_POINTS)
            for name in ("xyz", "rgb", "model"):
                arrays[f"points/{name}"] = artifact.dataset(f"points/{name}")[::step]
            if len(artifact.dataset("visibility/point")) <= MOST_OBSERVATIONS:
                arrays["visibility/point"] = artifact["visibility/point"]
        return arrays

    @cached_property
    def left_out(self) -> dict[str, int]:
        """How many files of the folder were no photographs, by ending or reason."""
        path = self.path("scan")
        return read_left_out(path, "scan") if path else {}

    @cached_property
    def training_set(self) -> dict[str, NDArray[Any]]:
        """training_set.h5, {} where the run has none."""
        path = self.path("training_set")
        return hdf5.read(path, "training_set") if path else {}

    @cached_property
    def descriptors(self) -> NDArray[np.float32] | None:
        """[N, D] L2-normalised, of the images of the training set; None where they are gone."""
        return descriptors_of(self.store, self.record, self.training_set) if self.training_set else None

    @cached_property
    def training_file(self) -> Path | None:
        """training.h5, None where the run has none."""
        folder = self.path("finetune")
        path = folder / "training.h5" if folder else None
        return path if path and path.is_file() else None

    @cached_property
    def image_shas(self) -> list[str]:
        """sha256 of the training set's images, by position."""
        return _texts(self.training_set.get("images/sha256", np.empty(0, "S64")))

    @cached_property
    def photo_shas(self) -> list[str]:
        """sha256 of the files found, by position; "" where one was not read."""
        return _texts(self.scene.get("photos/sha256", np.empty(0, "S64")))

    @cached_property
    def sha_of(self) -> dict[str, str]:
        """Name of a photograph -> sha256."""
        names = self.scene.get("photos/name", ())
        return {str(name): sha for name, sha in zip(names, self.photo_shas, strict=True) if sha}

    @cached_property
    def pictures(self) -> Pictures:
        """Thumbnails, made from the working copies in the store."""
        files: dict[str, Path] = {}
        for ref in self.record.refs_of("working"):
            folder = self.store.path(ref)
            if folder.is_dir():
                files |= {path.stem: path for path in folder.glob("*.jpg")}
        names: dict[str, str] = {}
        for name, sha in self.sha_of.items():
            names.setdefault(sha, name)
        return Pictures(files, names)


@dataclass(frozen=True)
class Section:
    """A part of the page, which a module of this folder has among its `SECTIONS`.

    name: its id; menu: what the menu calls it; place: where it stands, from above; make: what it shows, None
    for nothing; turn: those that matter most come first, while there is room for pictures.
    """

    name: str
    menu: str
    place: int
    make: Callable[[Material], Safe | None]
    turn: int = 9


def descriptors_of(store: Store, record: RunRecord, arrays: Mapping[str, Any]) -> NDArray[np.float32] | None:
    """[N, D] of a training set's images by the network that proposed the pairs, off the shelf and at one
    scale where a list was given; None where some are missing."""
    first = record.refs_of("descriptors")  # of several chunks with a photograph the last counts
    refs = record.refs_of("proposal_descriptors") or first[::-1]
    try:
        files = {sha: store.path(ref) for ref in refs for sha in store.item_digests(ref)}
    except (OSError, ValueError):
        return None
    shas = arrays["images/sha256"].astype(str).tolist()
    whole = all(sha in files and files[sha].exists() for sha in shas)
    return descriptor_rows(files, shas) if whole else None


def _texts(values: NDArray[Any]) -> list[str]:
    return [each.decode("ascii", "replace") if isinstance(each, bytes) else str(each) for each in values]
