"""Local features, in hloc's layout."""

from __future__ import annotations

from collections.abc import Iterator

from storage.schemas.layout import Dataset, Layout
from storage.schemas.rules import Columns, Unsound, first


def keypoints_inside(columns: Columns) -> Iterator[tuple[str, str]]:
    """Keypoints lie on their photograph, up to a pixel."""
    for (photo,), path in columns.items("{photo}/keypoints"):
        try:
            xy, size = columns.once(path), columns.once(f"{photo}/image_size")
        except Unsound:
            continue
        at = first(((xy < -1.5) | (xy > size + 0.5)).any(axis=1))
        if at is not None:
            where = ", ".join(f"{each:.1f}" for each in xy[at])
            yield path, f"has ({where}) at [{at}], outside of {size[0]} x {size[1]} pixels"


FEATURES = Layout(
    name="features",
    version=1,
    description="Local features, in hloc's layout: one group per photograph.",
    groups={"{photo}": "local features of one photograph's working copy"},
    datasets=(
        Dataset(
            "{photo}/keypoints",
            ("n", 2),
            "float32",
            "x, y on the working copy, hloc's convention: first pixel's centre (0, 0), COLMAP's minus 0.5",
            "px",
        ),
        Dataset(
            "{photo}/descriptors",
            ("D", "n"),
            ("uint8", "float32"),
            "one descriptor per column, as hloc has it",
        ),
        Dataset("{photo}/scores", ("n",), "float32", "detection score, larger is stronger"),
        Dataset("{photo}/image_size", (2,), "int64", "width and height of the working copy", "px", minimum=1),
        Dataset("{photo}/scales", ("n",), "float32", "size of the feature", "px", optional=True, minimum=0),
        Dataset("{photo}/orientations", ("n",), "float32", "angle of the feature", "rad", optional=True),
        Dataset(
            "{photo}/focal_prior_px",
            (),
            "float64",
            "focal length that EXIF gives, on the working copy; 0 = unknown",
            "px",
            optional=True,
            minimum=0,
        ),
    ),
    rules=(keypoints_inside,),
)


LAYOUTS = (FEATURES,)
