"""Names from outside: the one photograph that is meant, whatever system wrote its name."""

import unicodedata
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.outside.names import Names, UnknownName

NAMES = ["Fête/Église.jpg", "Fête/Straße ü.JPG", "plain.png", "a.b/c", "deep/er/한국.Jpeg"]


def forms(name: str) -> set[str]:
    """One name as the systems write it."""
    found = set()
    for unicode, slash, before, after in product(("NFC", "NFD"), "/\\", ("", "./", " "), ("", " ")):
        stem, dot, ending = unicodedata.normalize(unicode, name).rpartition(".")
        for case in (str, str.lower, str.upper):
            ended = f"{stem}{dot}{case(ending) if '/' not in ending else ending}"
            found.add(before.replace("/", slash) + ended.replace("/", slash) + after)
    return found


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
def test_every_form_of_a_name_is_the_photograph(on_disk):
    known = [unicodedata.normalize(on_disk, name) for name in NAMES]
    names = Names(known)
    for name in known:
        for written in forms(name):
            assert names.find(written) == name, written
            assert names.means(written) and names.alike(written) == [name]


def test_a_name_as_it_stands_comes_first_and_two_that_agree_are_named():
    composed, apart = "é.jpg", unicodedata.normalize("NFD", "é.jpg")
    names = Names([composed, apart, r"a\b.jpg", "a/b.jpg", "x.JPG", "x.jpg"])
    for exact in (composed, apart, r"a\b.jpg", "a/b.jpg", "x.JPG"):
        assert names.find(exact) == exact
    with pytest.raises(UnknownName, match=r"it may be 'x\.JPG' and 'x\.jpg', which differ in the form"):
        names.find("x.Jpg")
    with pytest.raises(UnknownName, match=r"it may be .* and .*, which differ in the form"):
        names.find(f"./{composed}")


def test_what_is_not_there_says_what_comes_near():
    names = Names(["Places/Tower.jpg", "other/b.jpg"])
    with pytest.raises(UnknownName, match=r"only upper and lower case differ from 'Places/Tower\.jpg'"):
        names.find("places/tower.jpg")
    with pytest.raises(UnknownName, match=r"called 'b\.jpg', did you mean 'other/b\.jpg'\?"):
        names.find("b.jpg")
    with pytest.raises(UnknownName, match=r"did you mean 'Places/Tower\.jpg'"):
        names.find("Places/Towers.jpg")
    with pytest.raises(UnknownName, match=r"no photograph is called 'zzz'$"):
        names.find("zzz")
    assert names.find("none", "./other/b.jpg") == "other/b.jpg"


def test_ends_of_paths_in_any_form():
    names = Names(["a/1.jpg", "b/1.jpg", "b/É.jpg"])
    assert names.ending("x/b/1.jpg") == ["b/1.jpg"] and names.ending("1.jpg") == ["a/1.jpg", "b/1.jpg"]
    assert names.ending(unicodedata.normalize("NFD", "images\\b\\É.JPG")) == ["b/É.jpg"]
    assert names.ending("xb/1.jpg") == [] and names.ending("") == []


@given(st.lists(st.text(max_size=6), max_size=5), st.text(max_size=6))
def test_no_name_leads_out_of_what_is_known(known, written):
    names = Names(known)
    alike = names.alike(written)
    assert set(alike) <= set(known)
    if len(alike) == 1:
        assert names.find(written) == alike[0]
    else:
        with pytest.raises(UnknownName, match="no photograph is called "):
            names.find(written)
