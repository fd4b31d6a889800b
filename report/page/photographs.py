"""What went in: how many files, what became of them, why the rest was not used; the clusters as a gallery."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from report.page.markup import Safe, details, facts, section, table, tag
from report.page.material import Material, Section
from storage.photographs.folders import left_out_text

MOST_REASONS = 200
MOST_IN_CLUSTER = 60
MOST_CLUSTERS = 400
MOST_ALONE = 300


def what_went_in(material: Material) -> Safe | None:
    """Counts per status, and each file that was not used with the reason."""
    scene = material.scene
    if not scene:
        return None
    status = [str(each) for each in scene["photos/status"]]
    counts = Counter(status)
    numbers: dict[str, Any] = {"files": len(status)}
    numbers |= {{"ok": "used"}.get(name, name): count for name, count in counts.most_common()}
    if "photos/model" in scene:
        numbers["in a 3D model"] = int((scene["photos/model"] >= 0).sum())
        numbers["3D models"] = len(scene["models/cluster"])
    rows = [
        (str(name), each, str(reason))
        for name, each, reason in zip(scene["photos/name"], status, scene["photos/reason"], strict=True)
        if each != "ok"
    ]
    parts: list[Any] = [facts(numbers)]
    if rows:
        title = f"{len(rows)} files that were not used, and why"
        shown = table(("file", "status", "reason"), rows[:MOST_REASONS])
        more = tag("p", f"and {len(rows) - MOST_REASONS} more") if len(rows) > MOST_REASONS else ""
        parts.append(details(title, shown, more, open_=len(rows) <= 20))
    else:
        parts.append(tag("p", "Every photograph was used."))
    if text := left_out_text(material.left_out):
        parts.append(tag("p", f"Left out, as they are no photographs: {text}."))
    return section("photographs", "What went in", *parts)


def cluster_gallery(material: Material) -> Safe | None:
    """Photographs that show one place, largest cluster first; those that stand alone at the end."""
    scene = material.scene
    if "photos/cluster" not in scene:
        return None
    cluster = scene["photos/cluster"]
    sizes = Counter(cluster[cluster >= 0].tolist())
    order = sorted((each for each in sizes if sizes[each] > 1), key=lambda each: (-sizes[each], each))
    alone = np.flatnonzero([each >= 0 and sizes[each] == 1 for each in cluster.tolist()])
    splits = _splits(material)
    parts: list[Any] = [
        tag(
            "p",
            f"{len(order)} clusters of photographs that are connected by verified pairs, and {len(alone)} "
            "photographs that stand alone.",
        )
    ]
    for place, each in enumerate(order[:MOST_CLUSTERS]):
        members = np.flatnonzero(cluster == each)
        parts.append(
            details(_title(material, each, members, splits), _tiles(material, members), open_=place < 6)
        )
    if len(order) > MOST_CLUSTERS:
        parts.append(tag("p", f"and {len(order) - MOST_CLUSTERS} smaller clusters"))
    if len(alone):
        parts.append(
            details(f"{len(alone)} photographs that stand alone", _tiles(material, alone, MOST_ALONE))
        )
    return section("clusters", "Clusters", *parts)


def _title(material: Material, cluster: int, members: Any, splits: dict[int, str]) -> str:
    models = material.scene["photos/model"][members]
    known = sorted({int(each) for each in models if each >= 0})
    text = f"cluster {cluster}: {len(members)} photographs, "
    text += (
        f"{int((models >= 0).sum())} of them in model{'s' * (len(known) > 1)} {', '.join(map(str, known))}"
        if known
        else "no model"
    )
    return f"{text}; {splits[cluster]}" if cluster in splits else text


def _tiles(material: Material, members: Any, most: int = MOST_IN_CLUSTER) -> Safe:
    shas, models = material.photo_shas, material.scene["photos/model"]
    shown = [
        material.pictures.show(shas[each], kind="" if models[each] >= 0 else "outside")
        for each in members[:most].tolist()
    ]
    more = tag("p", f"and {len(members) - most} more") if len(members) > most else ""
    return tag("div", tag("div", *shown, class_="tiles"), more)


def _splits(material: Material) -> dict[int, str]:
    arrays = material.training_set
    if not arrays:
        return {}
    names = {0: "train", 1: "val", 2: "test"}
    pairs = zip(arrays["images/cluster"].tolist(), arrays["images/split"].tolist(), strict=True)
    return {cluster: names[split] for cluster, split in pairs}


SECTIONS = (
    Section("photographs", "photographs", place=1, make=what_went_in),
    Section("clusters", "clusters", place=2, make=cluster_gallery, turn=5),
)
