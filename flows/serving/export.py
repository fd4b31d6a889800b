"""A run's artifacts for other programs: COLMAP, hloc, the reference's training code. Nothing is computed."""

from functools import cached_property
from pathlib import Path

from flows.run.alone import missing_upstream
from sfm.export.colmap import export_colmap
from sfm.export.hloc import export_hloc
from sfm.export.names import ImageMode, UnusableExport, verified_pairs
from sfm.scene.scene import Scene
from sfm.training_set.training_set import TrainingSet
from storage.files.exports import new_folder
from storage.photographs.scanning import PhotoSource
from storage.store import ledger
from storage.store.ledger import RunRecord
from storage.store.store import Store
from tasks.engine.chunks import file_of_items

LIST = "retrieval-SfM.pkl"


def to_colmap(store: str, run: str, out: Path, images: ImageMode, database: bool) -> str:
    """Models and images in a new folder; what it holds, in a line. Raises UnusableExport, UnusableFolder."""
    source = _Source(store, run)
    source.require_scene()
    mapped = bool(source.record.refs_of("mapping"))
    if database and not mapped:
        raise UnusableExport(
            f"run {source.record.id} has models of another program, whose keypoints are not ours; "
            "leave --database out and use the database that the models came with"
        )
    with new_folder(out) as folder:
        export_colmap(
            source.scene,
            folder,
            working=source.files("working"),
            features=source.files("features") if mapped else None,
            matches=source.matches() if database else None,
            images=images,
        )
    return f"3D models, {source.scene.num_models}: {out}"


def to_hloc(store: str, run: str, out: Path, images: ImageMode) -> str:
    """hloc's files in a new folder; what it holds, in a line. Raises UnusableExport, UnusableFolder."""
    source = _Source(store, run)
    source.require_scene()
    matches = source.matches()
    with new_folder(out) as folder:
        found = export_hloc(
            source.scene,
            folder,
            working=source.files("working"),
            features=source.files("features"),
            matches=matches,
            descriptors=source.files("proposal_descriptors"),
            images=images,
        )
    return f"{len(found.name)} photographs, {len(matches)} verified pairs: {out}"


def to_cirtorch(store: str, run: str, out: Path) -> str:
    """The training list and its image tree in a new folder; in a line. Raises UnusableExport."""
    source = _Source(store, run)
    chosen = TrainingSet.from_h5(source.one("training_set", "select"))
    photos = source.record.resources.get("photos")
    if not photos or not Path(photos).is_dir():
        raise UnusableExport(f"the photographs of run {source.record.id} are not in {photos!r}; run again")
    _check_photographs(chosen, photos)
    with new_folder(out) as folder:
        chosen.to_cirtorch(folder / LIST, folder / "ims", photos)
    return f"training list {LIST} and image tree ims: {out}"


def _check_photographs(chosen: TrainingSet, photos: str) -> None:
    """The list names photographs by digest, so that each must have the bytes that were selected."""
    names, shas = chosen.images.name.tolist(), chosen.images.sha256.tolist()
    files = PhotoSource.from_digests(
        photos, {str(name): sha.decode() for name, sha in zip(names, shas, strict=True)}
    )
    for entry in files.table.entries:
        files.path(entry.name)


def only_artifact(store: Store, record: RunRecord, name: str, flow: str) -> Path:
    """The file of a run's only artifact of this name, which `flow` makes. Raises UnusableExport."""
    refs = record.refs_of(name)
    if len(refs) != 1 or not store.is_intact(refs[0]):
        raise UnusableExport(
            f"run {record.id} has no intact {name}; run as far as {flow} first (--until {flow})"
        )
    return store.path(refs[0])


class _Source:
    """The artifacts of a run, whole or refused."""

    def __init__(self, store: str, run: str) -> None:
        self.store = Store.open(store)
        self.record: RunRecord = ledger.load(self.store, run)
        self.list = (self.record.options.get("selection") or {}).get("list")
        gone = missing_upstream(self.store, self.record, ["reconstruct"], from_list=self.list is not None)
        if gone:
            raise UnusableExport(
                f"{gone[0]} of run {self.record.id} is missing or damaged; run again, then export"
            )

    def require_scene(self) -> None:
        """Raises UnusableExport for a run from a list, which has no 3D models, features or matches."""
        if self.list is not None:
            raise UnusableExport(
                f"run {self.record.id} was made from a list ({str(self.list)!r}): it has no 3D models, "
                "features or matches to export, only --cirtorch; run without --from-list to make them"
            )

    @cached_property
    def scene(self) -> Scene:
        return Scene.from_h5(self.one("scene", "reconstruct"))

    def one(self, name: str, flow: str) -> Path:
        """The file of the run's only artifact of this name."""
        return only_artifact(self.store, self.record, name, flow)

    def files(self, name: str) -> dict[str, Path]:
        """Item id -> file or folder of the run's artifacts of this name."""
        return file_of_items(self.store, list(self.record.refs_of(name)))

    def matches(self) -> dict[tuple[str, str], Path]:
        """Verified pair -> match file."""
        return verified_pairs(self.scene, [self.store.path(ref) for ref in self.record.refs_of("matches")])
