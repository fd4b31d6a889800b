import copy
import pickle
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError

from storage.files.digests import canonical_json
from storage.files.words import nearest_name
from storage.hdf5.digests import content_sha256
from storage.keys.options import (
    ContentPath,
    MissingContent,
    Options,
    Resources,
    UnusableOption,
    canonical_options,
    first_error,
)


class Pool(Enum):
    GEM = "gem"
    MAC = "mac"


class Inner(Options):
    rate: float = 1
    weights: ContentPath | None = None


class Outer(Options):
    epochs: int = 3
    inner: Inner = Inner()
    pool: Pool = Pool.GEM
    mode: Literal["m1", "m2"] = "m1"
    scales: tuple[float, ...] = (1, 2)
    names: frozenset[str] = frozenset()
    folders: list[ContentPath] = Field(default_factory=list)
    by_name: dict[str, float] = Field(default_factory=dict)


def text(options: BaseModel) -> str:
    return canonical_json(canonical_options(options, content_sha256))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Inner(rate=1), Inner(rate=1.0)),
        (Inner(), Inner(rate=1.0)),
        (Inner(rate=0.0), Inner(rate=-0.0)),
        (Inner(weights=None), Inner()),
        (Outer(scales=[1, 2]), Outer(scales=(1.0, 2.0))),
        (Outer(names={"a", "b", "c"}), Outer(names=["c", "b", "a"])),
        (Outer(by_name={"a": 1, "b": 2}), Outer(by_name={"b": 2.0, "a": 1.0})),
        (Outer(pool="gem"), Outer(pool=Pool.GEM)),
        (Outer(inner={"rate": 1}), Outer(inner=Inner())),
    ],
)
def test_equal_meaning_gives_equal_text(one, other):
    assert text(one) == text(other)


@pytest.mark.parametrize(
    "changed",
    [
        {"epochs": 4},
        {"inner": {"rate": 2}},
        {"pool": "mac"},
        {"mode": "m2"},
        {"scales": (1,)},
        {"names": {"a"}},
        {"by_name": {"a": 1}},
    ],
)
def test_every_change_gives_another_text(changed):
    assert text(Outer(**changed)) != text(Outer())


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_floats_are_told_apart_exactly_when_they_differ(a, b):
    assert (text(Inner(rate=a)) == text(Inner(rate=b))) == (a == b)


def test_content_counts_and_path_does_not(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text("same" if name != "c" else "other")
    a, b, c = (text(Outer(inner={"weights": tmp_path / n}, folders=[tmp_path / n])) for n in "abc")
    assert a == b != c
    assert str(tmp_path) not in a


def test_missing_content_names_option_path_and_remedy(tmp_path):
    with pytest.raises(MissingContent, match=r"Inner\.weights: '.*nowhere' does not exist; give"):
        text(Outer(inner={"weights": tmp_path / "nowhere"}))


def test_content_path_survives_pickle_copy_and_json(tmp_path):
    (tmp_path / "w").write_text("x")
    options = Inner(weights=str(tmp_path / "w"))
    for again in (
        pickle.loads(pickle.dumps(options)),
        copy.deepcopy(options),
        Inner.model_validate_json(options.model_dump_json()),
    ):
        assert text(again) == text(options)
    assert Inner.model_json_schema()["properties"]["weights"]["anyOf"][0]["format"] == "path"


def test_plain_path_and_unstable_values_are_refused():
    class Wrong(Options):
        output: Path = Path("x")
        thing: Any = None

    with pytest.raises(UnusableOption, match=r"Wrong\.output.*ContentPath"):
        text(Wrong())
    with pytest.raises(UnusableOption, match=r"Wrong\.thing"):
        text(Wrong.model_construct(output=None, thing=object()))
    with pytest.raises(UnusableOption, match=r"Inner\.weights"):
        text(Inner().model_copy(update={"weights": Path("plain")}))


@pytest.mark.parametrize("base", [Options, Resources])
def test_unknown_key_names_the_nearest_valid_one(base):
    class Training(base):
        queries_per_epoch: int = 1
        learning_rate: float = 1.0

    with pytest.raises(ValidationError, match="'learning_rat'; did you mean 'learning_rate'"):
        Training(learning_rat=2)
    with pytest.raises(
        ValidationError, match="Training has no option 'zzz'; valid: learning_rate, queries_per_epoch"
    ):
        Training(zzz=2)
    with pytest.raises(ValidationError):
        Training().learning_rate = 2


def test_first_error_is_one_line_with_the_place():
    with pytest.raises(ValidationError) as caught:
        Outer(inner={"rat": 1})
    assert (
        first_error(caught.value)
        == "inner: Inner has no option 'rat'; did you mean 'rate'? valid: rate, weights"
    )


def test_nearest_name():
    assert nearest_name("epoch", ["epochs", "queries"]) == "epochs"
    assert nearest_name("zzz", ["epochs", "queries"]) is None
