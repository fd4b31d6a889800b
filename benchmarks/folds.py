"""Three folds by labelled site: photographs to learn from, and the sites and distractors that judge.

    python -m benchmarks.folds PHOTOS --out DIR [--folds 3]

PHOTOS holds `collection` and `landmarks` with their label files. DIR/fold0 .. have two thirds of the sites
and of the distractors of both (hard links where the file system allows), which the pipeline is run on;
DIR/folds.csv says of every photograph which fold leaves it out: file, site (empty: a distractor), fold.
Sites that show each other are left out together. The pipeline reads neither labels nor this file.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

LABELS = {"collection": "labels.csv", "landmarks": "landmarks.csv"}
TOGETHER = (
    ("alai_darwaza", "alai_minar", "iron_pillar", "jamali_kamali_tomb", "qutub_minar"),
    ("avignon_palais_papes", "avignon_pont"),
    ("aix_palais_justice", "aix_rotonde"),
    ("big_ben", "westminster_abbey"),
    ("colosseum_inside", "colosseum_outside"),
    ("cma_cgm_tower", "palais_longchamp", "velodrome_stadium"),
    ("nice_negresco", "nice_place_massena"),
    ("toulon_genie_statue", "toulon_navy_museum_gate", "toulon_stone_ship"),
    ("ie_basement2_classroom", "ie_basement2_workspace", "ie_basement4_auditorium", "ie_main_entrance"),
    ("kerry_park_fisheye", "smith_tower"),
    ("denny_yard", "grail_lab"),
    ("dino_ring", "temple_ring"),
)
"""Sites of one place, or made in one room."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Folds by labelled site.")
    parser.add_argument("photos", type=Path, help="folder with collection, landmarks and their label files")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--folds", type=int, default=3)
    asked = parser.parse_args(arguments)
    table = folds(labels(asked.photos), asked.folds)
    for fold in range(asked.folds):
        folder = asked.out / f"fold{fold}"
        folder.mkdir(parents=True, exist_ok=True)
        for row in table[table["fold"] != fold].itertuples():
            place(asked.photos / str(row.collection) / str(row.file), folder / str(row.file))
    table.to_csv(asked.out / "folds.csv", index=False)
    print(table.assign(distractor=table["site"] == "").groupby(["fold", "distractor"])["site"].describe())


def labels(photos: Path) -> pd.DataFrame:
    """collection, file, site (empty: a distractor) of every photograph."""
    read = [
        pd.read_csv(photos / name, dtype=str, keep_default_na=False).assign(collection=collection)
        for collection, name in LABELS.items()
    ]
    return pd.concat(read, ignore_index=True)[["collection", "file", "site"]]


def folds(labelled: pd.DataFrame, count: int) -> pd.DataFrame:
    """The table with `fold`: groups of sites, the largest first, go to the fold with the fewest photographs.

    A distractor's fold is drawn by its name, so that it stays where it is when photographs are added.
    """
    group = {site: sites[0] for sites in TOGETHER for site in sites}
    groups = labelled["site"].map(lambda site: group.get(site, site))
    sizes = groups[groups != ""].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    filled, chosen = [0] * count, {}
    for name, size in sizes.items():
        fold = filled.index(min(filled))
        chosen[name] = fold
        filled[fold] += int(size)
    drawn = labelled["file"].map(lambda file: int(hashlib.sha256(file.encode()).hexdigest(), 16) % count)
    return labelled.assign(fold=groups.map(chosen).fillna(drawn).astype(int))


def place(source: Path, target: Path) -> None:
    """The photograph there, by a hard link or as a copy."""
    if not target.exists():
        try:
            target.hardlink_to(source)
        except OSError:
            shutil.copy2(source, target)


if __name__ == "__main__":
    main()
