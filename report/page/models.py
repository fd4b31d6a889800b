"""The 3D models: points and cameras of each as a figure that can be turned, and how much each photograph
sees."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from report.page.markup import Safe, histogram, section, tag
from report.page.material import Material, Section

MOST_MODELS = 80
MOST_SHOWN_POINTS = 2500
POINT_BUDGET = 120_000
"""Points of all figures together; of many models each shows fewer."""
_BLUE, _ORANGE = "#0072b2", "#e69f00"
_CORNERS = np.array([[-0.8, -0.6, 1.0], [0.8, -0.6, 1.0], [0.8, 0.6, 1.0], [-0.8, 0.6, 1.0]])


def models_section(material: Material) -> Safe | None:
    """Every model, largest first, as a figure that can be turned."""
    scene = material.scene
    order = largest_models(scene, MOST_MODELS)
    if not order:
        return None
    points = max(200, min(MOST_SHOWN_POINTS, POINT_BUDGET // len(order)))
    figures = [_model(material, model, points) for model in order]
    options = [tag("option", each["title"], value=place) for place, each in enumerate(figures)]
    buttons = [
        tag("button", label, type="button", data_turn=turn, aria_label=words)
        for label, turn, words in (
            ("⟲", "left", "turn left"),
            ("⟳", "right", "turn right"),
            ("▲", "up", "look from higher"),
            ("▼", "down", "look from lower"),
            ("+", "in", "nearer"),
            ("−", "out", "farther"),
        )
    ]
    choose = tag("label", "Model ", tag("select", *options, id="model"))
    viewer = [
        tag("div", choose, *buttons, class_="controls"),
        tag("div", id="space", role="img", aria_label="3D points and cameras of the model"),
        tag("p", "Photographs of the model: point at a camera, or go through them with the Tab key."),
        tag("div", id="cameras", class_="tiles"),
    ]
    left_out = len(scene["models/cluster"]) - len(order)
    note = [tag("p", f"{left_out} smaller models are not shown.")] if left_out else []
    made = section("models", "3D models", *viewer, *note, *_visibility(scene))
    material.figures["models"] = figures
    return made


def largest_models(scene: dict[str, NDArray[Any]], most: int) -> list[int]:
    """The models with most photographs, largest first; none where there is no scene."""
    sizes = scene.get("models/num_photos", np.empty(0))
    return np.argsort(-sizes, kind="stable")[:most].tolist()


def parts_of(scene: dict[str, NDArray[Any]], model: int) -> tuple[NDArray[Any], ...]:
    """Of a model: its cameras (rows), their centres and poses, the points (rows) that are not far outside."""
    cameras = np.flatnonzero(scene["cameras/model"] == model)
    centers, poses = scene["cameras/center_in_world"][cameras], scene["cameras/cam_from_world"][cameras]
    mine = np.flatnonzero(scene["points/model"] == model)
    return cameras, centers, poses, mine[near(scene["points/xyz"][mine], centers)]


def _model(material: Material, model: int, most: int) -> dict[str, Any]:
    """Figure, title, photographs and camera centres of one model."""
    scene = material.scene
    cameras, centers, poses, shown = parts_of(scene, model)
    shown = shown[np.linspace(0, len(shown) - 1, min(most, len(shown))).astype(int)] if len(shown) else shown
    shas = [material.photo_shas[photo] for photo in scene["cameras/photo"][cameras].tolist()]
    error = float(scene["models/mean_reprojection_error_px"][model])
    title = (
        f"{model}: {len(cameras)} photographs, {int(scene['models/num_points'][model]):,} points, "
        f"error {error:.2f} px"
    )
    return {
        "title": title,
        "photographs": [
            [material.pictures.place(sha), material.pictures.names.get(sha, sha[:12])] for sha in shas
        ],
        "centers": centers.round(5).tolist(),
        "figure": _figure(scene["points/xyz"][shown], scene["points/rgb"][shown], centers, poses),
    }


def near(points: NDArray[Any], centers: NDArray[Any]) -> NDArray[np.bool_]:
    """Points that are not far outside: a few stray ones would make all others small."""
    if not len(points):
        return np.empty(0, dtype=bool)
    middle = np.median(points, axis=0)
    distance = np.linalg.norm(points - middle, axis=1)
    reach = max(np.quantile(distance, 0.9) * 2, np.linalg.norm(centers - middle, axis=1).max(initial=0))
    return np.asarray(distance <= reach)


def _figure(
    points: NDArray[Any], colours: NDArray[Any], centers: NDArray[Any], poses: NDArray[Any]
) -> dict[str, Any]:
    """plotly's traces and layout: points, frustums, centres of cameras, the one that is pointed at."""
    from plotly import graph_objects

    everything = np.concatenate([points, centers]) if len(points) else centers
    extent = float(np.linalg.norm(np.ptp(everything, axis=0))) or 1.0
    rotations = poses[:, :, :3]
    lines = _frustums(centers, rotations, 0.03 * extent).astype(np.float32)
    cloud = graph_objects.Scatter3d(
        **_axes(points),
        mode="markers",
        marker={"size": 1.8},
        hoverinfo="skip",
    )
    frustums = graph_objects.Scatter3d(
        **_axes(lines), mode="lines", line={"color": _BLUE, "width": 2}, hoverinfo="skip"
    )
    dots = graph_objects.Scatter3d(
        **_axes(centers), mode="markers", marker={"size": 4, "color": _BLUE}, hoverinfo="none"
    )
    chosen = graph_objects.Scatter3d(
        x=[None], y=[None], z=[None], mode="markers", marker={"size": 9, "color": _ORANGE}, hoverinfo="skip"
    )
    layout = graph_objects.Layout(
        scene={
            "camera": _view(rotations),
            "aspectmode": "data",
            **{f"{axis}axis": {"visible": False} for axis in "xyz"},
        },
        showlegend=False,
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        paper_bgcolor="rgba(0,0,0,0)",
        uirevision="same",
    )
    figure = graph_objects.Figure([cloud, frustums, dots, chosen], layout).to_plotly_json()
    figure["layout"].pop("template", None)
    hexadecimal = [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in colours.tolist()]
    figure["data"][0]["marker"]["color"] = hexadecimal  # plotly would match each with a regular expression
    return figure


def _axes(points: NDArray[Any]) -> dict[str, Any]:
    """x, y, z as plotly wants them, each as compact bytes."""
    compact = np.ascontiguousarray(points.astype(np.float32).reshape(-1, 3).T)
    return {"x": compact[0], "y": compact[1], "z": compact[2]}


def _frustums(centers: NDArray[Any], rotations: NDArray[Any], size: float) -> NDArray[Any]:
    """Lines of a small pyramid per camera, [.., 3], nan between lines."""
    corners = centers[:, None] + size * (_CORNERS @ rotations)  # rows times R = R^T times column
    gap = np.full((len(centers), 1, 3), np.nan)
    center = centers[:, None]
    first, second, third, fourth = (corners[:, [at]] for at in range(4))
    path = [first, second, third, fourth, first, center, second, gap, third, center, fourth, gap]
    return np.concatenate(path, axis=1).reshape(-1, 3)


def _view(rotations: NDArray[Any]) -> dict[str, Any]:
    """Upright, from behind the cameras and a little above them."""
    up = _unit(-rotations[:, 1].mean(axis=0), (0.0, -1.0, 0.0))
    ahead = rotations[:, 2].mean(axis=0)
    ahead = _unit(ahead - (ahead @ up) * up, _unit(np.cross(up, (1.0, 0.3, 0.2)), (0.0, 0.0, 1.0)))
    eye = -1.35 * ahead + 0.6 * up
    names = ("x", "y", "z")
    return {
        "up": dict(zip(names, map(float, up), strict=True)),
        "eye": dict(zip(names, map(float, eye), strict=True)),
    }


def _unit(vector: NDArray[Any], otherwise: Any) -> NDArray[Any]:
    length = float(np.linalg.norm(vector))
    return np.asarray(vector / length if length > 1e-6 else otherwise, dtype=np.float64)


def _visibility(scene: dict[str, NDArray[Any]]) -> list[Safe]:
    """How many points a photograph sees, and how many photographs see a point."""
    seen = np.diff(scene["visibility/indptr"])
    parts = [histogram("points that a photograph sees", seen, (0, 50, 100, 200, 500, 1000, 2000, 5000))]
    if "visibility/point" in scene and len(scene["visibility/point"]):
        tracks = np.bincount(scene["visibility/point"])
        parts.append(
            histogram("photographs that see a point", tracks[tracks > 0], (1, 2, 3, 4, 5, 7, 10, 15, 20, 30))
        )
    return [tag("div", *parts, class_="side")]


SECTIONS = (Section("models", "3D models", place=3, make=models_section, turn=4),)
