"""A collection made searchable: its photographs described by anybody's network, whitened, indexed."""

from contextlib import suppress
from pathlib import Path

from prefect import flow

from flows.options.loading import load
from flows.options.names import METHODS
from flows.options.pipeline import DescriptionOptions, PipelineOptions, PipelineResources
from flows.run.networks import by_id, chosen_network, named
from flows.run.record import collection_of, recorded, started
from flows.steps.reconstruct import describe_all, read_folder
from flows.steps.whitenings import whitenings
from flows.steps.work import Work
from retrieval.describe.options import ExtractionOptions
from retrieval.search.stage import IndexingOptions
from sfm.photographs.catalogue import read_catalogue, read_unusable
from storage.store import ledger
from storage.store.ledger import RunRecord
from storage.store.store import Store
from tasks.describing import network_digest
from tasks.engine.chunks import Items, Known
from tasks.searching import build_search_index, catalogued


class NothingToIndex(ValueError):
    """A folder without a usable photograph."""


class NoWhitening(ValueError):
    """A whitening of a run that is not there."""


@flow(name="index", persist_result=False)
def index(
    store: str,
    photos: str,
    options: IndexingOptions | None = None,
    network: str | None = None,
    whitening: str | None = None,
    dimensions: int | None = None,
    resources: PipelineResources | None = None,
) -> RunRecord:
    """Make the photographs of a folder searchable; the store keeps every descriptor.

    network: a file, or a run of this store as `flows.run.networks.named` reads it; none: off the shelf.
    whitening: lw or pcaw of that network, in place of a file in the options, with so many dimensions (none:
    all), or raw; none: that of the run's verdict. Raises UnknownNetwork, NoWhitening, NothingToIndex.
    """
    opened = Store.create(store)
    used, network = options or IndexingOptions(), by_id(opened, network)
    if whitening is None and used.whitening is None:
        whitening = whitening_by_verdict(opened, network)
    if whitening not in (None, "raw"):
        file = whitening_of(opened, network, whitening, used.description)
        used = IndexingOptions.model_validate(
            used.model_dump() | {"whitening": file, "dimensions": dimensions}
        )
    needed = (resources or PipelineResources()).model_copy(update={"photos": photos})
    record = started(opened, collection_of(photos), used, needed, kind="index")
    work = Work(opened, record, pipeline_options(opened, collection_of(photos)), needed, "index")
    with recorded(opened, record.id):
        steps(work, used, network)
    return ledger.load(opened, record.id)


def steps(work: Work, options: IndexingOptions, network: str | None) -> None:
    """The index, noted in the run with what it was made from."""
    weights, name = chosen_network(work.store, network)
    scan, copies, catalogue = read_folder(work, work.photos)
    work.keep(scan=scan, working=copies, catalogue=catalogue, indexed_network=weights)
    shas = read_catalogue(work.store.path(catalogue)).shas
    if not shas:
        unusable = read_unusable(work.store.path(catalogue))
        first = next((f"; {name!r} is {why}" for name, why in unusable.items()), "")
        raise NothingToIndex(
            f"{work.photos!r} holds no usable photograph{first}; give a folder of photographs"
        )
    descriptors = describe_all(work, weights, shas, options.description)
    work.keep(indexed_descriptors=descriptors)
    digest = network_digest(work.store, weights)
    work.keep(
        search_index=work.task(build_search_index)(
            options=options,
            catalogue=catalogued(work.store, catalogue),
            descriptors=Items(descriptors, shas),
            network=Known(digest, [digest]),
        )
    )
    work.note(network=name, photographs=len(shas))


def pipeline_options(store: Store, collection: str) -> PipelineOptions:
    """The options of the collection's latest run, so that its working copies are used; else the default."""
    record = ledger.latest(store, collection, status=None)
    return PipelineOptions.model_validate(record.options) if record else load(None, [])[0]


def whitening_by_verdict(store: Store, network: str | None) -> str | None:
    """The whitening that the verdict of a run says; None where no run with a verdict is asked for."""
    if network is None or Path(network).is_file():
        return None
    with suppress(ledger.UnknownRun):  # said where its network is looked for
        used = named(store, network)[2]
        return used.whitening if used else None
    return None


def whitening_of(store: Store, network: str | None, method: str, description: ExtractionOptions) -> Path:
    """The file of a whitening of a run's network, for these scales. Raises NoWhitening."""
    if network is None or Path(network).is_file() or method not in METHODS:
        raise NoWhitening(
            f"whitening {method!r} is one of a run; give a run as the network and lw or pcaw, or the "
            "file of a whitening"
        )
    record, of_network, _ = named(store, network)
    known = DescriptionOptions.model_validate(record.options.get("description", {})).scale_sets()
    wanted = next((name for name, each in known.items() if each.scales == description.scales), None)
    for name, ref in whitenings(record).items():
        if name == (of_network, wanted, method) and store.is_intact(ref):
            return store.path(ref)
    raise NoWhitening(
        f"run {record.id} has no intact whitening {method} for scales "
        f"{'+'.join(f'{scale:g}' for scale in description.scales)} of its {of_network} network; run as far "
        "as whiten, use its scales, or no whitening (raw)"
    )
