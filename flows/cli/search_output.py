"""What `index` and `search` print, and the folder that `index --out` writes."""

from collections.abc import Sequence
from pathlib import Path
from shutil import copyfile

from rich.text import Text

from flows.cli.common import out, say
from flows.cli.results import show_files, stage_table
from flows.serving.search import INDEX_FILE, NETWORK_FILE, Collection, Hit
from report.tables.plain import plain_table
from retrieval.export.hloc import write_hloc
from retrieval.search.index import SearchIndex
from sfm.photographs.catalogue import read_unusable
from storage.files.escaping import escaped
from storage.files.exports import new_folder
from storage.hdf5.file import read
from storage.store.ledger import RunRecord

SHOWN_LEFT_OUT = 10


def show_index(record: RunRecord, root: Path, log: Path, to: Path | None, hloc: Path | None) -> None:
    """Print what `index` made, after writing the folder that it is deployed in and the file for hloc."""
    (ref,) = record.refs_of("search_index")
    recall = read(root / ref.path, "search_index", ["recall/depth", "recall/value"])
    out.print(stage_table(record))
    out.print()
    say(f"{record.facts['photographs']} photographs, {record.options['index']['kind']} index")
    _show_left_out(root / record.refs_of("catalogue")[0].path)
    for depth, value in zip(recall["recall/depth"], recall["recall/value"], strict=True):
        say(f"of the exact first 10, {100 * value:.1f} % are among the first {depth} found")
    if to is not None:
        _deploy(record, root, to)
    if hloc is not None:
        index = SearchIndex.load(root / ref.path, trusted=True)
        write_hloc(hloc, index.names, index.descriptors)
    found = {"search_index": root / ref.path, "deployed": to, "hloc": hloc, "log": log}
    show_files(record, found.items())


def _show_left_out(catalogue: Path) -> None:
    """Print how many files are not in the index, and the first of them with the reason."""
    left_out = read_unusable(catalogue)
    if left_out:
        say(f"{len(left_out)} files are not in it:")
    for name, why in list(left_out.items())[:SHOWN_LEFT_OUT]:
        say(f"  {name}: {why}")
    if len(left_out) > SHOWN_LEFT_OUT:
        say(f"  and {len(left_out) - SHOWN_LEFT_OUT} more: {catalogue}")


def _deploy(record: RunRecord, root: Path, to: Path) -> None:
    """Index and network in a folder of their own."""
    (index_ref,), (weights,) = record.refs_of("search_index"), record.refs_of("indexed_network")
    network = root / weights.path
    with new_folder(to) as folder:
        copyfile(root / index_ref.path, folder / INDEX_FILE)
        copyfile(network / NETWORK_FILE if network.is_dir() else network, folder / NETWORK_FILE)


def about(collection: Collection) -> str:
    """The collection in a few words."""
    index = collection.index
    return (
        f"{len(index.names)} photographs, {index.options.kind} index, {index.descriptors.shape[1]} dimensions"
    )


def show_hits(hits: Sequence[Hit], collection: Collection, query: Path, spatial: bool) -> None:
    """Print what was found, as a table."""
    numbers = ["rank", "score", *(["inliers"] if spatial else [])]
    table = plain_table("", right=numbers, padding=(0, 1))
    table.add_column("photograph", overflow="fold")
    for number, hit in enumerate(hits, start=1):
        inliers = [] if not spatial else ["" if hit.inliers in (None, -1) else str(hit.inliers)]
        table.add_row(str(number), f"{hit.score:.4f}", *inliers, Text(escaped(hit.name)))
    say(f"nearest to {query} of {about(collection)}")
    out.print(table)
