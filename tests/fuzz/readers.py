"""What reads files from outside, each with seeds: whole files that it takes, made by our own code."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.storage.layout_samples import SAMPLES, write_sample


@dataclass(frozen=True)
class Reader:
    """seeds: into an empty folder, one file or folder each; read: one of them. kind: see `mutations`.

    Of a folder one file at a time is changed.
    """

    kind: str
    seeds: Callable[[Path], list[Path]]
    read: Callable[[Path], Any]


def _artifacts(folder: Path) -> list[Path]:
    return [*_samples(folder, list(SAMPLES)), *_old_format(folder)]


def _samples(folder: Path, names: list[str]) -> list[Path]:
    return [write_sample(folder / f"{name}.h5", name) for name in names]


def _old_format(folder: Path) -> list[Path]:
    """The same in HDF5's first format, whose metadata have no checksums: changes there go through."""
    import h5py

    copies = []
    for path in sorted(folder.glob("*.h5")):
        copies.append(folder / f"old_{path.name}")
        with h5py.File(path) as source, h5py.File(copies[-1], "w", libver="earliest") as copy:
            for name in source:
                source.copy(name, copy)
            copy.attrs.update(source.attrs)
    return copies


def _read_artifact(path: Path) -> None:
    from storage.outside.guarded import read_outside

    read_outside("storage.hdf5.outside:read_whole", path, None)


def _digest(path: Path) -> None:
    from storage.outside.guarded import read_outside

    read_outside("storage.hdf5.outside:digest", path)


def _training_set(path: Path) -> None:
    from sfm.lists.select import read_list

    read_list(path)


def _training_sets(folder: Path) -> list[Path]:
    _samples(folder, ["training_set"])
    _old_format(folder)
    return sorted(folder.glob("*.h5"))


def _inspect(path: Path) -> None:
    from storage.outside.guarded import read_outside

    read_outside("tests.fuzz.readers:described", path)


def described(path: Path, *, watch: Callable[[str], None]) -> None:
    """What `inspect` says of a file, in the process that it uses for that."""
    from storage.inspect.describe import describe

    str(describe(path, full=True, watch=watch))


def _indexes(folder: Path) -> list[Path]:
    from retrieval.search.index import SearchIndex
    from retrieval.search.options import IndexOptions

    rows = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    names = [f"{number}.jpg" for number in range(60)]
    found = []
    for kind in ("exact", "hnsw"):
        index = SearchIndex.build(rows, names, network="a" * 64, options=IndexOptions(kind=kind))
        found.append(folder / f"{kind}.h5")
        index.save(found[-1])
    return found + [path for path in _old_format(folder) if "exact" in path.name]


def _search(path: Path) -> None:
    from retrieval.search.index import SearchIndex

    index = SearchIndex.load(path)
    if index.descriptors.shape[1] <= 4096 and len(index.names):
        query = np.ones((1, index.descriptors.shape[1]), np.float32)
        index.query(query, min(3, len(index.names)))


def _hloc(folder: Path) -> list[Path]:
    from tests.sfm.hloc_files import blank, write_hloc

    made = write_hloc(folder / "features.h5", {"a.jpg": blank(9), "b/c.jpg": blank(5), "d.jpg": blank(0)})
    return [made, *_old_format(folder)]


def _read_hloc(path: Path) -> None:
    from sfm.features.imported import group_names
    from storage.outside.guarded import read_outside

    groups = group_names(path, {"a.jpg": "a" * 64, "b/c.jpg": "b" * 64}, ["a" * 64, "b" * 64])
    read_outside("sfm.features.imported:look", path, groups)


def _models(folder: Path) -> list[Path]:
    from sfm.scene.colmap import write_model
    from sfm.scene.colmap_model import ColmapCamera, ColmapImage, ColmapModel, ColmapPoints

    chance = np.random.default_rng(0)
    cameras = {
        1: ColmapCamera("SIMPLE_RADIAL", 640, 480, np.array([500.0, 320, 240, 0.01])),
        2: ColmapCamera("PINHOLE", 640, 480, np.array([500.0, 500, 320, 240])),
    }
    images = {
        number: ColmapImage(
            np.array([1.0, 0, 0, 0]), chance.normal(size=3), 1 + number % 2, f"a/{number}.jpg",
            chance.uniform(0, 400, (6, 2)), np.array([1, 2, 3, 4, -1, -1]),
        )
        for number in (1, 2, 3)
    }  # fmt: skip
    points = ColmapPoints(
        np.array([1, 2, 3, 4]), chance.normal(size=(4, 3)), np.zeros((4, 3), np.uint8), np.ones(4)
    )
    write_model(folder / "model", ColmapModel(cameras, images, points))
    return [folder / "model"]


def _text_models(folder: Path) -> list[Path]:
    model = folder / "model"
    model.mkdir()
    (model / "cameras.txt").write_text(
        "# c\n1 SIMPLE_RADIAL 640 480 500 320 240 0.01\n2 PINHOLE 640 480 5e2 500 320 240\n"
    )
    (model / "images.txt").write_text(
        "# i\n1 1 0 0 0 0.1 0.2 0.3 1 a/1.jpg\n1.5 2.5 1 3 4 -1\n2 0.9 0.1 0 0 0 0 0 2 a 2.jpg\n1 2 2 3 4 1\n"
    )
    (model / "points3D.txt").write_text("# p\n1 0 1 2 10 20 30 0.5 1 0 2 1\n2 1 1 2 10 20 30 -1 2 0\n")
    return [model]


def _read_model(path: Path) -> None:
    from sfm.scene.scene import Scene

    Scene.from_colmap(path)


def _lists(folder: Path) -> list[Path]:
    columns: dict[str, Any] = {
        "cids": [f"{number:032x}" for number in range(6)],
        "cluster": [0, 0, 0, 1, 1, 1],
        "qidxs": [0, 3],
        "pidxs": [1, 4],
    }
    arrays = {**columns, "cluster": np.array(columns["cluster"]), "qidxs": [np.int64(0), np.int64(3)]}
    found = []
    for protocol in range(6):
        for name, part in (("plain", columns), ("arrays", arrays)):
            found.append(folder / f"{name}{protocol}.pkl")
            found[-1].write_bytes(pickle.dumps({"train": part, "val": part | {"cids": []}}, protocol))
    for path in found:
        content = pickle.loads(path.read_bytes())
        content["val"] = {column: [] for column in columns}
        path.write_bytes(pickle.dumps(content, int(path.stem[-1])))
    return found


def _read_list(path: Path) -> None:
    from sfm.training_set.cirtorch_file import read_cirtorch

    read_cirtorch(path)


def _truths(folder: Path) -> list[Path]:
    truth = {
        "imlist": ["a", "b", "c"],
        "qimlist": ["a"],
        "gnd": [{"bbx": [1.0, 2, 3, 4], "easy": [0], "hard": np.array([1]), "junk": np.array([2], "i4")}],
    }
    found = [folder / f"gnd{protocol}.pkl" for protocol in range(6)]
    for protocol, path in enumerate(found):
        path.write_bytes(pickle.dumps(truth, protocol))
    return found


def _read_truth(path: Path) -> None:
    from retrieval.official.readers.ground_truth import read_pickle

    read_pickle(path)


def _text_truths(folder: Path) -> list[Path]:
    made = folder / "truth"
    made.mkdir()
    for name, text in {
        "all_souls_1_query.txt": "oxc1_a 1.5 2 3 4\n", "all_souls_1_good.txt": "a\nb\n",
        "all_souls_1_ok.txt": "c\n", "all_souls_1_junk.txt": "d\n",
    }.items():  # fmt: skip
        (made / name).write_text(text)
    return [made]


def _read_text_truth(path: Path) -> None:
    from retrieval.official.readers.ground_truth import read_text

    read_text(path, ["a", "b", "c", "d"])


def _tables(folder: Path) -> list[Path]:
    texts = {
        "places.csv": "name,easting,northing,heading\na.jpg,1.5,2.5,90\nb/c.jpg,3,4,\n",
        "degrees.csv": "name,latitude,longitude\na.jpg,48.1,11.5\nb.jpg,48.2,11.6\n",
        "labels.csv": "name,identity,camera\na.jpg,1,x\nb.jpg,1,y\nc.jpg,2,x\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [folder / name for name in texts]


def _configurations(folder: Path) -> list[Path]:
    path = folder / "c.yaml"
    path.write_text("training:\n  image_size: 288\n  epochs: 3\nnetwork: {backbone: resnet18, gem_p: 3.0}\n")
    return [path]


def _read_configuration(path: Path) -> None:
    from flows.options.loading import load

    load(path, [])


def _networks(folder: Path) -> list[Path]:
    import torch

    from retrieval.networks.files import NetworkDescription, write_network

    tensors = {"trunk.weight": torch.ones(3, 4), "pool.p": torch.tensor([3.0]), "n": torch.tensor(7)}
    write_network(folder / "network.safetensors", NetworkDescription("resnet18", 512), tensors)
    return [folder / "network.safetensors"]


def _checkpoints(folder: Path) -> list[Path]:
    import torch

    content = {
        "meta": {
            "architecture": "resnet18", "outputdim": 512, "pooling": "gem", "mean": [0.4, 0.4, 0.4],
            "Lw": {"set": {"ss": {"m": np.ones((4, 1)), "P": np.eye(4)}}},
        },
        "state_dict": {"a": torch.ones(3, 4), "b": torch.ones(2, dtype=torch.bfloat16), "p": torch.tensor(3)},
    }  # fmt: skip
    for zipped in (True, False):
        torch.save(content, folder / f"{zipped}.pth", _use_new_zipfile_serialization=zipped)
    return [folder / "True.pth", folder / "False.pth"]


def _read_network(path: Path) -> None:
    from retrieval.networks.files import published_whitenings, read_network, read_tensors

    read_tensors(path)
    if path.suffix == ".pth":
        published_whitenings(path)
    read_network(path)


def _ranks(folder: Path) -> list[Path]:
    import h5py

    ranks = np.array([[0, 1, 2], [2, 1, 0]])
    np.save(folder / "r.npy", ranks)
    np.savez(folder / "r.npz", ranks=ranks)
    (folder / "r.txt").write_text("0 1 2\n2,1,0\n")
    (folder / "n.txt").write_text("q1 a b c\nq2 c b a\n")
    with h5py.File(folder / "r.h5", "w") as file:
        file["ranks"] = ranks
    return sorted(folder.iterdir())


def _read_ranks(path: Path) -> None:
    from types import SimpleNamespace

    from retrieval.official.rank_files import read_ranks

    benchmark: Any = SimpleNamespace(
        name="toy", query_names=("q1", "q2"), database_names=("a", "b", "c"), distractors=(), query_frames=1,
        database_frames=1, more_queries=False,
    )  # fmt: skip
    read_ranks(path, benchmark)


def _photographs(folder: Path) -> list[Path]:
    from PIL import Image

    chance = np.random.default_rng(0)
    picture = Image.fromarray(chance.integers(0, 255, (48, 64, 3), np.uint8))
    picture.convert("P").save(folder / "a.gif")
    for suffix in ("jpg", "png", "tif", "bmp", "webp", "ppm"):
        exif = Image.Exif()
        exif[0x0112] = 6
        picture.save(folder / f"a.{suffix}", **({"exif": exif} if suffix in ("jpg", "png", "webp") else {}))
    return sorted(folder.iterdir())


def _read_photograph(path: Path) -> None:
    """As a run does: what the scan refuses for its size, by its header, is never decoded."""
    from retrieval.describe.images import load_photograph
    from storage.pictures.decoding import (
        MOST_MEGAPIXELS,
        Rejected,
        TooLarge,
        Unsupported,
        check_usable,
        decode,
    )

    try:
        check_usable(decode(path, max_megapixels=MOST_MEGAPIXELS))
    except TooLarge as error:
        raise TooLarge(f"{path}: {error}") from None  # the scan names the file
    except (Rejected, Unsupported, OSError):
        pass
    load_photograph(path, 64)


READERS = {
    "artifact": Reader("hdf5", _artifacts, _read_artifact),
    "digest": Reader("hdf5", _artifacts, _digest),
    "inspect": Reader("hdf5", _artifacts, _inspect),
    "training_set": Reader("hdf5", _training_sets, _training_set),
    "index": Reader("hdf5", _indexes, _search),
    "hloc": Reader("hdf5", _hloc, _read_hloc),
    "colmap_binary": Reader("bytes", _models, _read_model),
    "colmap_text": Reader("text", _text_models, _read_model),
    "training_list": Reader("pickle", _lists, _read_list),
    "truth_pickle": Reader("pickle", _truths, _read_truth),
    "truth_text": Reader("text", _text_truths, _read_text_truth),
    "csv": Reader("text", _tables, _training_set),
    "yaml": Reader("text", _configurations, _read_configuration),
    "safetensors": Reader("bytes", _networks, _read_network),
    "pth": Reader("pickle", _checkpoints, _read_network),
    "ranks": Reader("bytes", _ranks, _read_ranks),
    "photographs": Reader("bytes", _photographs, _read_photograph),
}
"""By name, as `make fuzz READER=name` takes it."""
