"""A training set of one place is refused before the training, and why is said."""

from pathlib import Path

import numpy as np
import pytest

from retrieval.training.contrast import OnePlace, require_contrast


def written(
    path: Path, clusters: list[int], splits: list[int], queries: list[int], cleared: dict[int, int]
) -> Path:
    """A training set of these clusters by image; cleared: single photographs -> the cluster they are
    negatives of."""
    import h5py

    split = np.array(splits, dtype=np.int8)
    columns = {
        "images/cluster": np.array(clusters),
        "images/split": split,
        "queries/image": np.array(queries),
        "queries/split": split[queries],
        "negatives/image": np.array(list(cleared), dtype=np.int64),
        "negatives/cluster": np.array(list(cleared.values()), dtype=np.int64),
        "negatives/allowed": np.ones(len(cleared), dtype=bool),
    }
    with h5py.File(path, "w") as file:
        file.attrs.update({"schema": "training_set", "version": 1})
        for name, values in columns.items():
            file[name] = values
    return path


@pytest.mark.parametrize(
    ("clusters", "splits", "cleared", "found"),
    [
        ([0, 0, 0], [0, 0, 0], {}, "1 cluster was found: one place only"),
        ([0, 0, 0, 1, 2], [0] * 5, {}, r"3 clusters were found \(2 of a single photograph\): one place"),
        ([0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 2], {}, "3 clusters were found, 2 of them for val and test:"),
        ([0, 0, 1, 1], [0] * 4, {}, None),
        ([0, 0, 0, 1], [0] * 4, {3: 0}, None),
        ([0, 0, 1, 2], [0, 0, 0, 1], {3: 0}, "one place only"),
    ],
)
def test_one_place(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    clusters: list[int],
    splits: list[int],
    cleared: dict[int, int],
    found: str | None,
) -> None:
    import h5py

    monkeypatch.setattr(
        "retrieval.training.contrast.open_artifact", lambda path, schema: h5py.File(path, "r")
    )
    path = written(tmp_path / "t.h5", clusters, splits, [0, 1], cleared)
    if found is None:
        require_contrast(path)
        return
    with pytest.raises(OnePlace, match=found) as raised:
        require_contrast(path)
    assert str(raised.value).endswith("add unrelated photographs, of other places")
