"""`docs/hdf5.md`, made from the declarations."""

from __future__ import annotations

from collections.abc import Iterator

from storage.schemas.layout import Dataset, Layout
from storage.schemas.registry import all_layouts

_INTRODUCTION = """\
# The HDF5 files

Made by `python -m storage.schemas.docs > docs/hdf5.md`; do not edit by hand. The declarations in
`storage/schemas/` say what is written, what is checked on reading, what
`inspect` shows, and this page.

Every file has these root attributes; none of them is part of its content digest:

| attribute | meaning |
|---|---|
| `schema`, `schema_version` | which of the layouts below |
| `stage` | the step that wrote it |
| `options` | JSON object: the options of that step |
| `inputs` | JSON list: content digests of what it was made from |
| `description` | one sentence |

Every group and dataset has a `description`, and a `unit` where it has one. Numbers are little-endian; text
is UTF-8 of variable length, sha256 digests are 64 ASCII characters (`S64`). Floats are finite unless the
table allows nan.

The format is that of HDF5 1.10 (2016), compression is gzip with shuffle: any HDF5 tool opens the files.

Sizes in brackets have names. An upper-case name is one number in the whole file (`N` rows here are `N` rows
there), a lower-case one belongs to the item, that is to the group `{...}`. **CSR**: `indptr` [R+1] and
columns [E]; row r is `column[indptr[r]:indptr[r+1]]`. An index says into which size it points; -1 means none
only where the table says so.

```python
import h5py

with h5py.File("scene.h5") as file:
    begin, end = file["visibility/indptr"][7:9]  # camera 7
    xyz = file["points/xyz"][:][file["visibility/point"][begin:end]]
```

or, checked and with text as text: `from storage import open_artifact`. More examples, for
pandas, MATLAB and viewers: [inspect.md](inspect.md).
"""


def markdown() -> str:
    """The whole page."""
    return _INTRODUCTION + "".join(_section(layout) for layout in all_layouts().values())


def _section(layout: Layout) -> str:
    lines = ["", f"## {layout.name} (version {layout.version})", "", layout.description, ""]
    if layout.previous:
        versions = ", ".join(str(each.version) for each in layout.previous)
        lines += [f"Older versions that are still read: {versions}.", ""]
    if layout.groups:
        lines += ["| group | meaning |", "|---|---|"]
        lines += [f"| `{path}` | {meaning} |" for path, meaning in layout.groups.items()]
        lines.append("")
    lines += ["| dataset | shape | type | unit | meaning |", "|---|---|---|---|---|"]
    lines += [_row(dataset, layout) for dataset in layout.datasets]
    if layout.attributes:
        lines += ["", "| more root attributes | meaning |", "|---|---|"]
        lines += [f"| `{name}` | {meaning} |" for name, meaning in layout.attributes.items()]
    return "\n".join(lines) + "\n"


def _row(dataset: Dataset, layout: Layout) -> str:
    shape = f"[{', '.join(map(str, dataset.dims))}]" if dataset.dims else "scalar"
    meaning = "; ".join([dataset.description, *_promises(dataset, layout)])
    return f"| `{dataset.path}` | {shape} | {' or '.join(dataset.dtypes)} | {dataset.unit} | {meaning} |"


def _promises(dataset: Dataset, layout: Layout) -> Iterator[str]:
    """What holds for the values, in words."""
    none = (", empty = none" if dataset.dtypes == ("S64",) else ", -1 = none") if dataset.none else ""
    if dataset.index:
        yield f"index into {dataset.index}{none}"
    elif dataset.minimum is not None or dataset.maximum is not None:
        low = "" if dataset.minimum is None else f"at least {dataset.minimum:g}"
        high = "" if dataset.maximum is None else f"at most {dataset.maximum:g}"
        yield " and ".join(filter(None, (low, high))) + none
    if dataset.csr:
        yield f"CSR over [{dataset.csr}]"
    if dataset.rows != "any":
        yield {"unique": "no value twice in a row", "rising": "rising in each row"}.get(
            dataset.rows, "strictly rising in each row"
        )
    if dataset.values and isinstance(dataset.values[0], str):
        yield f"one of {', '.join(map(str, dataset.values))}"
    if dataset.unique:
        yield "no value twice"
    if dataset.below:
        yield f"smaller than `{dataset.below}`"
    if dataset.nan:
        yield "may be nan"
    if any(rule.path == dataset.path for rule in layout.listed):
        yield "names the items"
    if dataset.mapped:
        yield "in one uncompressed piece"
    if dataset.optional:
        yield "optional"


if __name__ == "__main__":
    print(markdown(), end="")
