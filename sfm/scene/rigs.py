"""COLMAP's `rigs.bin` and `frames.bin`: every camera a rig of its own, every image a frame of its own.

They repeat the cameras and images of a model, for programs that ask for them (COLMAP 3.12 and newer write
them; it reads models without them as well). Source of the format: COLMAP, scene/reconstruction_io_binary.
"""

from __future__ import annotations

import struct
from pathlib import Path

from sfm.scene.colmap_model import ColmapModel

_CAMERA = 0  # COLMAP's SensorType


def write_rigs(folder: Path, model: ColmapModel) -> None:
    """Write rigs.bin and frames.bin of a model: rig id = camera id, frame id = image id."""
    rigs = [struct.pack("<IIiI", number, 1, _CAMERA, number) for number in sorted(model.cameras)]
    frames = [
        struct.pack(
            "<II7dIiIQ",
            number, image.camera, *image.quaternion, *image.translation, 1, _CAMERA, image.camera, number,
        )
        for number, image in sorted(model.images.items())
    ]  # fmt: skip
    for name, records in (("rigs.bin", rigs), ("frames.bin", frames)):
        (folder / name).write_bytes(struct.pack("<Q", len(records)) + b"".join(records))
