"""Pictures of a run that stand alone, for a page that runs no scripts: models, overlaps, tuples, rankings.

Each is a Pillow image, None where the run has nothing to show; `encoded` makes it small enough to be kept.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from report.page.evaluation import Ranking, rankings
from report.page.material import Material
from report.page.models import largest_models, parts_of
from storage.hdf5 import file as hdf5

MOST_MODELS, MOST_POINTS = 6, 3000
TUPLES, RANKINGS, RANKED = 8, 6, 8
TILE_PX = 200
_BLUE, _ORANGE = "#0072b2", "#d55e00"


def models_still(material: Material) -> Any | None:
    """Of each of the largest models a view of points and cameras, and the cameras as seen from above."""
    scene = material.scene
    order = largest_models(scene, MOST_MODELS)
    if not order:
        return None
    figure = _figure(3.6 * len(order), 6.4)
    for place, model in enumerate(order):
        centers, ahead, up, points, colours = _model(scene, model)
        across = _unit(np.cross(up, ahead))
        frame = np.stack([across, _unit(np.cross(across, up)), up])  # right, away, up
        space = figure.add_subplot(2, len(order), place + 1, projection="3d")
        _draw_space(space, centers @ frame.T, points @ frame.T, colours)
        count = int(scene["models/num_photos"][model])
        seen = int(scene["models/num_points"][model])
        space.set_title(f"model {model}: {count} photographs,\n{seen:,} points", fontsize=9)
        plan = figure.add_subplot(2, len(order), len(order) + place + 1)
        _draw_plan(plan, *(each @ frame[:2].T for each in (centers, _looks(scene, model), points)))
    return _image(figure)


def overlaps_still(material: Material) -> Any | None:
    """Histograms of the training set: overlap of candidates and positives, change of scale."""
    path = material.path("training_set")
    if path is None:
        return None
    from report.tables.selection import report
    from sfm.training_set.training_set import TrainingSet

    found = report(TrainingSet.from_h5(path)).histograms
    if not found:
        return None
    figure = _figure(3.4 * len(found), 2.8)
    for place, each in enumerate(found):
        axes = figure.add_subplot(1, len(found), place + 1)
        labels = [f"{low:.3g}" for low in each.edges[:-1]]
        axes.bar(np.arange(len(each.counts)), each.counts, color=_BLUE, width=0.9)
        axes.set_xticks(np.arange(len(labels)), labels, fontsize=7)
        axes.set_title(each.title, fontsize=10)
        axes.set_xlabel("from this value to the next", fontsize=8)
    return _image(figure)


def tuples_still(material: Material) -> Any | None:
    """Queries with their positives by three strategies, and the negatives that are most like them."""
    from report.sheets.tuples import NothingToShow, paint_sheet, tuple_rows

    files, shas = material.pictures.files, material.image_shas
    try:
        rows = tuple_rows(material.training_set, material.descriptors, TUPLES) if shas else []
    except NothingToShow:
        return None
    if not rows or any(shas[tile.image] not in files for tiles in rows for tile in tiles):
        return None
    return paint_sheet(rows, lambda image: _tile(material, shas[image])).image


def rankings_still(material: Material) -> Any | None:
    """The best and the worst queries with what was found for them, best rank first."""
    from report.sheets.contact_sheet import BLACK, GREEN, GREY, RED, ContactSheet

    path = material.path("evaluation")
    if path is None:
        return None
    with hdf5.open_artifact(path, "evaluation") as artifact:
        found = rankings(material, artifact)
    if found is None:
        return None
    rows = [row for row in found[2] if _has_pictures(material, row)]
    rows = [*rows[: RANKINGS // 2], *rows[RANKINGS // 2 :][-RANKINGS // 2 :]]
    if not rows:
        return None
    colours = {"right": GREEN, "junk": GREY, "wrong": RED}
    sheet = ContactSheet(len(rows), 1 + RANKED)
    sheet.head(f"query; then the ranked photographs: {found[0]}, protocol {found[1]}", BLACK)
    for line, row in enumerate(rows):
        caption = f"AP {100 * row.average_precision:.1f} %"
        sheet.tile(line, 0, _tile(material, material.sha_of[row.query]), BLACK, caption)
        for rank, (name, label) in enumerate(row.ranked[:RANKED], start=1):
            sheet.tile(line, rank, _tile(material, material.sha_of[name]), colours[label], f"{rank} {label}")
    return sheet.image


def encoded(picture: Any, most: int) -> bytes:
    """A JPEG of at most `most` bytes: first less quality, then fewer pixels."""
    quality = 85
    while True:
        file = io.BytesIO()
        picture.convert("RGB").save(file, format="JPEG", quality=quality)
        if file.tell() <= most:
            return file.getvalue()
        quality -= 15
        if quality < 50:
            picture, quality = picture.reduce(2), 85


def _has_pictures(material: Material, row: Ranking) -> bool:
    names = [row.query, *(name for name, _ in row.ranked[:RANKED])]
    return all(material.sha_of.get(name) in material.pictures.files for name in names)


def _tile(material: Material, sha: str) -> NDArray[np.uint8]:
    from storage.pictures.decoding import thumbnail

    return np.asarray(thumbnail(material.pictures.files[sha], TILE_PX))


def _model(scene: dict[str, NDArray[Any]], model: int) -> tuple[NDArray[Any], ...]:
    """Camera centres [R, 3], mean viewing and upward direction [3], points [P, 3] and colours [P, 3]."""
    _, centers, poses, mine = parts_of(scene, model)
    mine = mine[:: max(1, len(mine) // MOST_POINTS)]
    up, ahead = -poses[:, 1, :3].mean(axis=0), poses[:, 2, :3].mean(axis=0)
    return centers, ahead, _unit(up), scene["points/xyz"][mine], scene["points/rgb"][mine] / 255.0


def _looks(scene: dict[str, NDArray[Any]], model: int) -> NDArray[Any]:
    """[R, 3]: where each camera of a model looks."""
    return np.asarray(scene["cameras/cam_from_world"][scene["cameras/model"] == model][:, 2, :3])


def _unit(vector: NDArray[Any]) -> NDArray[Any]:
    length = float(np.linalg.norm(vector))
    return vector / length if length > 1e-9 else np.array([0.0, 0.0, 1.0])


def _draw_space(axes: Any, centers: NDArray[Any], points: NDArray[Any], colours: NDArray[Any]) -> None:
    axes.scatter(*points.T, c=colours, s=3, linewidths=0, depthshade=False)
    axes.scatter(*centers.T, c=_ORANGE, s=16, linewidths=0, depthshade=False)
    axes.view_init(elev=25, azim=-70)
    axes.set_box_aspect(np.ptp(np.concatenate([points, centers]), axis=0) + 1e-9, zoom=1.6)
    axes.set_axis_off()


def _draw_plan(axes: Any, centers: NDArray[Any], looks: NDArray[Any], points: NDArray[Any]) -> None:
    axes.scatter(*points.T, c="#bbbbbb", s=1, linewidths=0)
    axes.quiver(*centers.T, *looks.T, color=_BLUE, width=0.006)
    axes.scatter(*centers.T, c=_ORANGE, s=9, zorder=3)
    axes.set_title("cameras from above", fontsize=9)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xticks([])
    axes.set_yticks([])


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _image(figure: Any) -> Any:
    """Drawn once: `savefig` would arrange everything twice."""
    from PIL import Image

    figure.canvas.draw()
    return Image.fromarray(np.asarray(figure.canvas.buffer_rgba()))
