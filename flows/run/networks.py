"""A network that somebody names: a file, a run, or none for the one off the shelf."""

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from flows.options.names import NETWORKS
from retrieval.networks.importing import NetworkImportOptions
from retrieval.networks.options import NetworkOptions
from storage.hdf5.open import open_artifact
from storage.keys.artifacts import ArtifactRef
from storage.store import ledger
from storage.store.ledger import RunRecord
from storage.store.store import Store
from tasks.benchmarking import import_network
from tasks.describing import make_network


class UnknownNetwork(ValueError):
    """What was given as a network is neither a file nor a run that has one."""


class Used(NamedTuple):
    """A network of a run and its whitening, by the names of the result table; raw = none."""

    network: str
    whitening: str


def used_by(store: Store, record: RunRecord) -> Used | None:
    """What a run's verdict says is used; None where it has none. Raises UnknownNetwork where it had one that
    cannot be read."""
    for ref in record.refs_of("evaluation"):
        if not store.is_intact(ref):
            raise UnknownNetwork(
                f"run '{record.id}': which of its networks is used stands in {ref.path}, which is damaged or "
                "gone; run evaluate again, or name the network: fine-tuned or off-the-shelf"
            )
        with open_artifact(store.path(ref), "evaluation") as file:
            if "verdict/chosen" in file:
                chosen = int(file["verdict/chosen"])
                return Used(*(str(file[f"verdict/{name}"][chosen]) for name in Used._fields))
    return None


def by_id(store: Store, network: str | None) -> str | None:
    """A run's name as its id, so that network and whitening are of one run, whatever ends meanwhile; anything
    else as it is."""
    if network is None or Path(network).is_file():
        return network
    run, slash, name = network.partition("/")
    with suppress(ledger.UnknownRun):  # said where its network is looked for
        run = ledger.load(store, run).id
    return f"{run}{slash}{name}"


def named(store: Store, network: str) -> tuple[RunRecord, str, Used | None]:
    """(run, network's name, verdict) of RUN, whose network is that of its verdict, else the fine-tuned one,
    or of RUN/off-the-shelf, RUN/fine-tuned, which ask for no verdict. Raises UnknownRun, UnknownNetwork."""
    run, _, name = network.rpartition("/")
    if name in NETWORKS:
        return ledger.load(store, run), name, None
    record = ledger.load(store, network)
    used = used_by(store, record)
    return record, used.network if used else "fine-tuned", used


def chosen_network(store: Store, network: str | None) -> tuple[ArtifactRef, str]:
    """A network as an artifact, and its name in the table. Raises UnknownNetwork."""
    root = str(store.root)
    if network is None:
        options = NetworkOptions()
        return make_network(store=root, options=options), f"off-the-shelf {options.backbone}"
    if Path(network).is_file():
        options_of_file = NetworkImportOptions(file=Path(network))
        return import_network(store=root, options=options_of_file), Path(network).name
    try:
        record, name, _ = named(store, network)
    except ledger.UnknownRun as error:
        raise UnknownNetwork(f"network '{network}' is no file, and {error}") from error
    refs = record.refs_of(NETWORKS[name])
    if not refs or not store.is_intact(refs[0]):
        raise UnknownNetwork(f"run '{network}' has no intact {name} network; run as far as finetune first")
    return refs[0], f"{name} {network.removesuffix(f'/{name}')}"
