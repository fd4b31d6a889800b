"""JSON and YAML from outside: depth, size, aliases and keys are one line that names the place."""

import pytest
import yaml

from storage.outside.text import BadText
from storage.outside.values import MOST_DEPTH, json_from
from storage.outside.yaml_files import yaml_from
from tests.official import needs, official

DEEP = official("cases", "yaml_depth", "y2.yaml")


def test_json_is_read():
    assert json_from('{"a": [1, "é", null]}', "f") == {"a": [1, "é", None]}
    assert json_from(b"[1]", "f") == [1]
    assert json_from("[" * MOST_DEPTH + "]" * MOST_DEPTH, "f") is not None


@pytest.mark.parametrize(
    "text",
    [
        "[" * (MOST_DEPTH + 1) + "]" * (MOST_DEPTH + 1),
        "[" * 100_000,
        '{"a":' * 100_000,
        "[" * 900 + "]" * 900,
    ],
)
def test_deep_json_is_one_line(text):
    with pytest.raises(BadText, match=r"^a\.h5: attribute 'options': its JSON is nested more than 64 deep"):
        json_from(text, "a.h5: attribute 'options'")


@pytest.mark.parametrize("text", ["", "{", b"\xff", "1" * 5000, '"\ud800', "[1,]"])
def test_what_is_no_json_is_named(text):
    with pytest.raises(BadText, match=r"^f: is not JSON"):
        json_from(text, "f")
    with pytest.raises(BadText, match="bytes of JSON"):
        json_from(b" " * (1 << 25), "f")


def test_yaml_is_read_as_safe_yaml_reads_it():
    text = "a: &x {b: [1, 2.5, yes, null, 2020-01-02]}\nc: *x\nd: {<<: *x, e: é}\n? [1]\n: f\n"
    with pytest.raises(BadText, match="unhashable"):
        yaml_from(text, "f")
    text = text.split("?")[0]
    assert yaml_from(text, "f") == yaml.safe_load(text)
    assert yaml_from("", "f") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 10_000, "line 1: its YAML is nested more than 64 deep"),
        ("a:\n" + "".join(f"{' ' * n}a:\n" for n in range(1, 200)), r"line 6\d: its YAML is nested"),
        ("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n", "line 5: 'c' is there already in line 3; keep one"),
        ("x: {a: 1, a: 1}", "line 1: 'a' is there already in line 1"),
        ("&a [*a]", "line 1: holds itself by an alias"),
        ("a: &a\n  b: *a\n", "line 2: holds itself|line 1: holds itself"),
        ("- x\n" * 30_000, "line 20000: more than 20000 values|more than 20000 values"),
        ("a: [1", "is not YAML: while parsing a flow sequence"),
        ("a: !!python/object/apply:os.system [x]", "is not YAML: could not determine a constructor"),
        ("a: 2001-99-99", "is not YAML: month must be"),
        ("a:\n  b: 0x" + "f" * 5000, "line 2: a number of 5002 digits"),
        ("x" * (1 << 20), "characters of YAML"),
        ("a: \x01", "is not YAML"),
    ],
)
def test_what_no_configuration_holds_is_one_line_with_file_and_line(text, message):
    with pytest.raises(BadText, match=rf"^c\.yaml.*({message})") as raised:
        yaml_from(text, "c.yaml")
    assert "\n" not in str(raised.value)


def test_aliases_that_blow_a_file_up_are_refused():
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(BadText, match=r"c\.yaml, line [345]: aliases make more than 20000 values"):
        yaml_from("\n".join(lines), "c.yaml")


@needs(DEEP)
def test_the_deep_file_that_was_seen():
    with pytest.raises(BadText, match="nested more than 64 deep"):
        yaml_from(DEEP.read_text(), "y2.yaml")
