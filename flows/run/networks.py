"""A network that somebody names: a file, a run, or none for the one off the shelf."""

from pathlib import Path

from retrieval.networks.importing import NetworkImportOptions
from retrieval.networks.options import NetworkOptions
from storage.keys.artifacts import ArtifactRef
from storage.store import ledger
from storage.store.store import Store
from tasks.benchmarking import import_network
from tasks.describing import make_network


class UnknownNetwork(ValueError):
    """What was given as a network is neither a file nor a run that has one."""


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
        refs = ledger.load(store, network).refs_of("finetune")
    except ledger.UnknownRun as error:
        raise UnknownNetwork(f"network '{network}' is no file, and {error}") from error
    if not refs or not store.is_intact(refs[0]):
        raise UnknownNetwork(
            f"run '{network}' has no intact fine-tuned network; run as far as finetune first"
        )
    return refs[0], f"fine-tuned {network}"
