"""YAML that comes from outside: what it says, or one line that names the file and the line.

Depth, size and aliases are looked at before values are made of the text, so that no file exhausts the memory
or the stack.
"""

from __future__ import annotations

from typing import Any

import yaml

from storage.outside.text import BadText
from storage.outside.values import MOST_DEPTH, too_deep

_MOST_CHARACTERS = 1 << 18
_MOST_VALUES = 20_000
_MOST_DIGITS = 400
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def yaml_from(text: str, where: str) -> Any:
    """The value of YAML text, plain types alone. where: the file, for errors.

    Raises BadText: no YAML, a key twice in a mapping, deeper than MOST_DEPTH, aliases that blow it up, more
    than 256 KiB.
    """
    if len(text) > _MOST_CHARACTERS:
        raise BadText(f"{where}: {len(text)} characters of YAML; more than {_MOST_CHARACTERS} are not read")
    try:
        _check_events(text, where)
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check_size(node, where)
            _check_nodes(node, where)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except BadText:
        raise
    except RecursionError as error:  # the parser's own, for `[[[` without the values between
        raise BadText(f"{where}: {too_deep('YAML')}") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        said = " ".join(str(error).replace(' in "<unicode string>"', "").split())
        raise BadText(f"{where}: is not YAML: {said}") from error


def _check_events(text: str, where: str) -> None:
    """Depth and number of values as the parser meets them: no value is made yet."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        line = event.start_mark.line + 1 if event.start_mark else 1
        if depth > MOST_DEPTH:
            raise BadText(f"{where}, line {line}: {too_deep('YAML')}")
        if count > _MOST_VALUES:
            raise BadText(f"{where}, line {line}: more than {_MOST_VALUES} values are not read")


def _check_size(node: yaml.Node, where: str) -> None:
    """What aliases make of the file when each is written out."""
    sizes: dict[int, int] = {}

    def size(each: yaml.Node) -> int:
        if id(each) in sizes:
            if sizes[id(each)] < 0:
                raise BadText(f"{where}, {_line(each)}: holds itself by an alias; write the value out")
            return sizes[id(each)]
        sizes[id(each)] = -1
        sizes[id(each)] = 1 + sum(map(size, _parts(each)))
        if sizes[id(each)] > _MOST_VALUES:
            raise BadText(
                f"{where}, {_line(each)}: aliases make more than {_MOST_VALUES} values of it; write them out"
            )
        return sizes[id(each)]

    size(node)


def _check_nodes(node: yaml.Node, where: str) -> None:
    """No key twice in a mapping; no number that only fills the memory."""
    todo, done = [node], set[int]()
    while todo:
        each = todo.pop()
        if id(each) not in done:
            done.add(id(each))
            todo += _parts(each)
            _check_keys(each, where)
            if each.tag in _NUMBERS and len(each.value) > _MOST_DIGITS:
                raise BadText(
                    f"{where}, {_line(each)}: a number of {len(each.value)} digits; give a shorter one"
                )


def _check_keys(node: yaml.Node, where: str) -> None:
    first: dict[tuple[str, str], yaml.Node] = {}
    for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
        if isinstance(key, yaml.ScalarNode) and first.setdefault((key.tag, key.value), key) is not key:
            before = _line(first[key.tag, key.value])
            raise BadText(
                f"{where}, {_line(key)}: {key.value!r} is there already in {before}; keep one of them"
            )


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _line(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}"
