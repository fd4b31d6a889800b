import pytest
from pydantic import ValidationError

from storage.keys.stages import RESERVED_NAMES, Stage


def test_declaration_is_sorted_and_frozen():
    stage = Stage(
        name="scene",
        version=2,
        schema_name="scene",
        suffix=".h5",
        packages=("b", "a", "b"),
    )
    assert stage.packages == ("a", "b")
    with pytest.raises(ValidationError):
        stage.version = 3


@pytest.mark.parametrize("name", [*sorted(RESERVED_NAMES), "", "Scene", "a/b", "../x", ".hidden", "1st"])
def test_unusable_names_are_refused(name):
    with pytest.raises(ValidationError, match="stage name"):
        Stage(name=name)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "directory", "suffix": ".h5"},
        {"suffix": "h5"},
        {"kind": "directory", "schema_name": "scene"},
        {"version": 0},
        {"colour": "red"},
    ],
)
def test_contradictions_are_refused(wrong):
    with pytest.raises(ValidationError):
        Stage(name="scene", **wrong)
