"""Text from outside on its way to a terminal or a log: what is no letter is written out.

Names of files, of datasets in them, and messages that quote them can hold escape sequences, which a terminal
obeys, characters that turn the direction of writing, and line ends, which forge a line of a log.
"""

from __future__ import annotations

import logging
import re
import traceback
from typing import Any

_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
"""C0, DEL, C1; line separators; what directs or hides text; halves of characters, which cannot be printed."""
_LAYOUT = "\n\t"
INDENT = "    "


def escaped(text: object, keep: str = "") -> str:
    r"""A text with its control characters written out: ESC -> \x1b, a line end -> \n; `keep`: but these."""
    return _CONTROL.sub(lambda found: _written(found[0], keep), str(text))


def escaped_lines(text: object) -> str:
    """The same for a text of several lines: line ends and tabs stay."""
    return escaped(text, _LAYOUT)


def shown(text: object) -> str:
    """A text from outside as part of one with rich's markup: on one line, and no markup of its own."""
    from rich.markup import escape

    return escape(escaped(text))


def _written(character: str, keep: str) -> str:
    if character in keep:
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def traceback_text(error: BaseException) -> str:
    """A traceback, every line of it indented, so that none can be taken for a line of the log."""
    lines = "".join(traceback.format_exception(error)).rstrip("\n").split("\n")
    return "\n".join(INDENT + escaped(line, "\t") for line in lines)


class PlainRecord(logging.LogRecord):
    """A line of a log that stays one line, and the traceback under it; both without control characters."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        error = self.exc_info[1] if isinstance(self.exc_info, tuple) else None
        if error is not None:
            self.exc_text = traceback_text(error)

    def getMessage(self) -> str:
        return escaped(super().getMessage())


def plain_logs() -> None:
    """From now on every handler of this process, of whatever library, gets such records."""
    if logging.getLogRecordFactory() is not PlainRecord:
        logging.setLogRecordFactory(PlainRecord)
