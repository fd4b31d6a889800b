"""Makes docs/town.png, photographs of the town side by side: `python docs/town_sheet.py demo-photos`."""

import sys
from pathlib import Path

from town.demo import truth_file
from town.town import Town, contact_sheet

COLUMNS, THUMBNAIL_PX, VIEWS = 8, 100, 4


def main(photos: Path) -> None:
    """Eight buildings, four views of each side by side, then a row of distractors."""
    town = Town.load(truth_file(photos))
    rows = [int(row) for building in range(8) for row in town.views_of(building)[:VIEWS]]
    rows += [int(row) for row in town.views_of(-1)[:COLUMNS]]
    sheet = contact_sheet([photos / town.names[row] for row in rows], COLUMNS, THUMBNAIL_PX)
    sheet.quantize(128).save(Path(__file__).with_name("town.png"), optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
