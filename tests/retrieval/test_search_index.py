"""The index of a collection: its kinds, its file, what it refuses."""

from contextlib import suppress

import h5py
import numpy as np
import pytest

from retrieval.nearest.exact import search
from retrieval.nearest.expansion import Reranking, alpha_query_expansion, rerank_by_neighbours
from retrieval.search import approximate
from retrieval.search.index import InvalidDescriptors, SearchIndex, UnusableIndex
from retrieval.search.index_file import rows_sha256
from retrieval.search.options import IndexOptions
from retrieval.whitening.whitening import Whitening
from storage.hdf5 import file as hdf5
from storage.hdf5.open import validate

ROWS, DIMENSION = 1500, 24
SMALL = {"code_bytes": 8, "reduced": 16, "lists": 12, "probes": 4, "rerank": 60, "recall_queries": 20}
KINDS = {
    "exact": IndexOptions(),
    "ivf_pq": IndexOptions(kind="ivf_pq", **SMALL),
    "hnsw": IndexOptions(kind="hnsw", links=8, build_effort=40, search_effort=40, recall_queries=20),
}
NETWORK, WHITENING = "a" * 64, "b" * 64


def drawn(seed=0, count=ROWS):
    """Clusters of about ten."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(ROWS // 10, DIMENSION))
    rows = centres[generator.integers(len(centres), size=count)] + 0.4 * generator.normal(
        size=(count, DIMENSION)
    )
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def names(count=ROWS, prefix=""):
    return [f"{prefix}é {number}\n.jpg" for number in range(count)]


def build(kind="exact", **more):
    return SearchIndex.build(
        drawn(), names(), network=NETWORK, whitening=WHITENING, options=KINDS[kind], **more
    )


@pytest.fixture(scope="module", params=KINDS)
def index(request):
    return build(request.param)


def test_an_index_survives_the_disk_and_keeps_its_descriptors_there(index, tmp_path):
    path = tmp_path / "index.h5"
    index.save(path, inputs=["c" * 64])
    loaded = SearchIndex.load(path, network=NETWORK, whitening=WHITENING, dimension=DIMENSION, verify=True)
    assert isinstance(loaded.descriptors, np.memmap)
    assert (loaded.names, loaded.options, loaded.recall) == (index.names, index.options, index.recall)
    queries = drawn(5, 10)
    for found, expected in zip(loaded.search(queries, 15), index.search(queries, 15), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert validate(path) == []
    with hdf5.open_artifact(path) as artifact:
        assert artifact.inputs == ["c" * 64] and artifact.attributes["kind"] == index.options.kind


def test_two_builds_are_one_file(index, tmp_path):
    index.save(tmp_path / "first.h5")
    build(index.options.kind).save(tmp_path / "second.h5")
    assert (tmp_path / "first.h5").read_bytes() == (tmp_path / "second.h5").read_bytes()


def test_the_recall_is_that_of_a_search_without_the_query_itself(index):
    if index.options.kind == "exact":
        assert index.recall == {10: 1.0, 100: 1.0}
        return
    held = approximate.sample(ROWS, 20, 0)
    database = drawn()
    for depth, value in index.recall.items():
        shares = []
        for own in held:
            scores = database @ database[own]
            scores[own] = -2
            wanted = set(np.argsort(-scores)[:10].tolist())
            found = [each for each in index.search(database[own][None], 101)[1][0] if each != own][:depth]
            shares.append(len(wanted & set(found)) / 10)
        assert value == pytest.approx(np.mean(shares))
    assert 0.5 < index.recall[10] <= index.recall[100] <= 1


def test_the_nearest_is_found_and_scores_fall(index):
    scores, ranks = index.search(drawn()[:200], 5)
    assert (ranks[:, 0] == np.arange(200)).mean() > 0.95
    assert (np.diff(scores, axis=1) <= 1e-6).all()


def test_candidates_compared_anew_have_exact_scores():
    index, queries = build("ivf_pq"), drawn(5, 30)
    scores, ranks = index.search(queries, 10)
    np.testing.assert_allclose(
        scores, np.take_along_axis(queries @ index.descriptors.T, ranks, axis=1), atol=1e-6
    )
    plain = SearchIndex.build(
        drawn(), names(), network="", options=KINDS["ivf_pq"].model_copy(update={"rerank": 0})
    )
    assert plain.recall[10] < index.recall[10]


@pytest.mark.parametrize("kind", ["ivf_pq", "hnsw"])
def test_there_are_always_k(kind, monkeypatch):
    """One cell of twelve, or a graph that ends early, does not hold half of the collection."""
    few = {"probes": 1, "rerank": 0} if kind == "ivf_pq" else {"search_effort": 1}
    index = SearchIndex.build(drawn(), names(), network="", options=KINDS[kind].model_copy(update=few))
    if kind == "hnsw":
        cut = approximate.search

        def early(*arguments, **more):
            scores, ranks = cut(*arguments, **more)
            ranks[:, -1] = -1
            return scores, ranks

        monkeypatch.setattr(approximate, "search", early)
    scores, ranks = index.search(drawn(5, 3), ROWS // 2)
    expected = search(drawn(), drawn(5, 3), ROWS // 2)
    np.testing.assert_array_equal(ranks, expected[1])
    np.testing.assert_array_equal(scores, expected[0])


def test_what_is_added_is_found_and_the_recall_measured_anew(index, tmp_path):
    path = tmp_path / "index.h5"
    index.save(path)
    more = drawn(7, 40)
    grown = SearchIndex.load(path).add(more, names(40, "new "))
    assert isinstance(grown.descriptors, np.memmap) and grown.descriptors.shape == (ROWS + 40, DIMENSION)
    assert [path.name for path in tmp_path.iterdir()] == ["index.h5"]
    assert (grown.search(more, 1)[1][:, 0] == np.arange(ROWS, ROWS + 40)).mean() > 0.95
    if index.options.kind == "exact":
        again = SearchIndex.build(np.concatenate([drawn(), more]), [*names(), *names(40, "new ")], network="")
        np.testing.assert_array_equal(grown.search(drawn(5, 9), 20)[1], again.search(drawn(5, 9), 20)[1])
    grown.save(path)
    loaded = SearchIndex.load(path, verify=True)
    assert loaded.names[-1] == grown.names[-1] and loaded.recall == grown.recall


def test_an_expanded_query_is_searched_in_place_of_the_query():
    index, query = build(), drawn(5, 1)
    near = index.search(query, 3)[1][0]
    expanded = alpha_query_expansion(query, index.descriptors[near], 3, 2.0)
    np.testing.assert_array_equal(index.search(query, 9, expansion=(3, 2.0))[1], index.search(expanded, 9)[1])
    np.testing.assert_array_equal(index.search(query, 9, expansion=(0, 2.0))[1], index.search(query, 9)[1])


def test_the_first_are_put_in_another_order(index):
    queries, how = drawn(5, 9), Reranking(top=40, neighbours=3, beta=0.5)
    for k in (60, 15):
        near = index.search(queries, max(k, 40))[1]
        expected = rerank_by_neighbours(queries, index.descriptors, near, **dict(how))
        scores, ranks = index.search(queries, k, reranking=how)
        np.testing.assert_array_equal(ranks, expected[:, :k])
        assert (ranks[:, :15] != near[:, :15]).any() and (np.diff(scores, axis=1) <= 0).all()
    named = index.query(queries, 15, reranking=how)[1]
    assert named[0] == [index.names[position] for position in expected[0, :15]]


def test_reranking_takes_an_expanded_query_and_all_of_a_small_collection():
    index, query = build(), drawn(5, 1)
    how = Reranking(top=30, neighbours=2)
    near = index.search(query, 3)[1][0]
    expanded = alpha_query_expansion(query, index.descriptors[near], 3, 2.0)
    both = index.search(query, 9, expansion=(3, 2.0), reranking=how)[1]
    np.testing.assert_array_equal(both, index.search(expanded, 9, reranking=how)[1])
    few = SearchIndex.build(drawn()[:7], names(7), network="")
    everything = rerank_by_neighbours(query, few.descriptors, few.search(query, 7)[1])
    np.testing.assert_array_equal(few.search(query, 5, reranking=Reranking())[1], everything[:, :5])


def test_the_whitening_and_the_facts_travel_with_the_index(tmp_path):
    generator = np.random.default_rng(0)
    whitening = Whitening(generator.normal(size=40), generator.normal(size=(40, 40)))
    about = {"description": {"image_size": 512, "scales": [1.0, 0.5]}}
    build(transform=whitening, about=about, sha256=[f"{n:064x}" for n in range(ROWS)]).save(tmp_path / "a.h5")
    loaded = SearchIndex.load(tmp_path / "a.h5")
    rows = generator.normal(size=(3, 40))
    np.testing.assert_array_equal(loaded.transform.apply(rows), whitening.apply(rows, DIMENSION))
    assert loaded.about == about and loaded.sha256[5] == f"{5:064x}"


def test_as_many_cells_are_visited_as_the_wanted_recall_takes(tmp_path):
    visited = []
    for wanted in (0.01, 0.9, 1.0):
        open_ = KINDS["ivf_pq"].model_copy(update={"probes": None, "wanted_recall": wanted, "lists": 36})
        index = SearchIndex.build(drawn(), names(), network="", options=open_)
        assert index.recall[100] >= wanted or index.options.probes == 36
        visited.append(index.options.probes)
    assert visited[0] == 8 and visited[1] < 36 and visited[2] == 36  # short codes never find all
    index.save(tmp_path / "a.h5")
    assert SearchIndex.load(tmp_path / "a.h5").options.probes == visited[-1]


def test_queries_that_measure_do_not_train():
    held = approximate.sample(ROWS, 20, 0)
    rest = approximate.sample(ROWS, ROWS, 1, held)
    assert not set(held.tolist()) & set(rest.tolist()) and len(rest) == ROWS - 20
    changed = drawn()
    changed[held] = -changed[held]
    first, second = (approximate._ivf_pq(rows, KINDS["ivf_pq"], held) for rows in (drawn(), changed))
    np.testing.assert_array_equal(approximate.to_bytes(first), approximate.to_bytes(second))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (
            {"network": "c" * 64},
            "made with network 'aaaaaaaaaaaa', not network 'cccccccccccc'; .* build it again",
        ),
        ({"whitening": ""}, "made with whitening 'bbbbbbbbbbbb', not no whitening; .* build it again"),
        ({"whitening": "c" * 64}, "made with whitening 'bbbbbbbbbbbb', not whitening 'cccccccccccc'"),
        ({"dimension": 25}, "holds descriptors of 24 dimensions, not 25; build it again"),
    ],
)
def test_an_index_of_something_else_is_refused_by_name(wanted, message, tmp_path):
    build().save(tmp_path / "index.h5")
    with pytest.raises(UnusableIndex, match=r"index\.h5' .*" + message):
        SearchIndex.load(tmp_path / "index.h5", **wanted)


def test_a_truncated_file_is_refused(index, tmp_path):
    path = tmp_path / "index.h5"
    index.save(path)
    whole = path.read_bytes()
    for share in (0, 0.001, 0.3, 0.7, 0.99, 0.9999):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(UnusableIndex, match=r"index\.h5' is no readable index .* build it again"):
            SearchIndex.load(path)
    path.unlink()
    with pytest.raises(UnusableIndex, match="no such file"):
        SearchIndex.load(path)


def flipped(path, dataset):
    with h5py.File(path) as file:
        where = file[dataset].id.get_offset() + file[dataset].id.get_storage_size() // 2
    content = bytearray(path.read_bytes())
    content[where] ^= 1
    path.write_bytes(content)


def test_a_flipped_bit_is_refused(tmp_path):
    path = tmp_path / "index.h5"
    build("ivf_pq").save(path)
    flipped(path, "faiss")
    with pytest.raises(UnusableIndex, match="its faiss index is not what was written"):
        SearchIndex.load(path)
    build("ivf_pq").save(path)
    flipped(path, "descriptors")
    SearchIndex.load(path)
    with pytest.raises(UnusableIndex, match="its descriptors are not what was written"):
        SearchIndex.load(path, verify=True)


def edited(path, change):
    build().save(path)
    with h5py.File(path, "r+") as file:
        change(file)


def test_tables_and_facts_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "index.h5"

    def shorter(file):
        del file["recall/value"]
        file["recall/value"] = np.ones(1)

    def unnamed(file):
        del file["photos/name"]

    def doubles(file):
        values = file["descriptors"][:].astype(np.float64)
        del file["descriptors"]
        file["descriptors"] = values

    def fact(name, value):
        return lambda file: file.attrs.modify(name, value)

    cases = [
        (shorter, "is damaged: recall/"),
        (unnamed, "is damaged: photos/name"),
        (doubles, "is damaged: descriptors"),
        (fact("dimension", 7), r"says dimension 7 and holds \(1500, 24\)"),
        (fact("kind", "hnsw"), "says kind hnsw and exact"),
        (fact("about", "{"), "is no readable index"),
        (fact("about", "[]"), "does not say its about"),
        (fact("options", '{"colour": 1}'), "has other options: .*no option 'colour'"),
        (lambda file: file.attrs.pop("network"), "does not say its network"),
        (fact("schema_version", 9), "is no readable index.*update this package"),
    ]
    for change, message in cases:
        edited(path, change)
        with pytest.raises(UnusableIndex, match=message + "(.|\n)*build it again"):
            SearchIndex.load(path)


@pytest.mark.parametrize("kind", ["ivf_pq", "hnsw"])
def test_a_faiss_index_of_other_rows_or_another_kind_is_refused(kind, tmp_path):
    path, other = tmp_path / "index.h5", build("hnsw" if kind == "ivf_pq" else "ivf_pq")
    index = build(kind)
    object.__setattr__(index, "engine", other.engine)
    index.save(path)
    with pytest.raises(UnusableIndex, match=f"not what {kind} needs; build it again"):
        SearchIndex.load(path)
    smaller = SearchIndex.build(drawn()[:1200], names(1200), network="", options=KINDS[kind])
    object.__setattr__(index, "engine", smaller.engine)
    index.save(path)
    with pytest.raises(UnusableIndex, match="holds 1200 rows of 24, the file has"):
        SearchIndex.load(path)
    object.__setattr__(index, "engine", None)
    index.save(path)
    with pytest.raises(UnusableIndex, match="no usable faiss index"):
        SearchIndex.load(path)


def test_another_artifact_is_refused(tmp_path):
    Whitening(np.zeros(2), np.eye(2)).save(tmp_path / "w.h5")
    with pytest.raises(UnusableIndex, match="a 'whitening' file, 'search_index' was asked for"):
        SearchIndex.load(tmp_path / "w.h5")


def test_what_no_index_can_be_built_from_is_named():
    def refused(message, rows, own, **more):
        with pytest.raises(InvalidDescriptors, match=message):
            SearchIndex.build(rows, own, network="", **more)

    refused("the name 'a' stands for two photographs", drawn()[:2], ["a", "a"])
    refused("for 1 names", drawn()[:2], ["a"])
    refused("at least one", drawn()[:0], [])
    refused("3 digests for 2 names", drawn()[:2], ["a", "b"], sha256=["0" * 64] * 3)
    refused("ivf_pq of 1000 descriptors.*it needs 1024", drawn()[:1000], names(1000), options=KINDS["ivf_pq"])
    wide = KINDS["ivf_pq"].model_copy(update={"code_bytes": 25})
    refused("code_bytes", drawn(), names(), options=wide)
    for kind in KINDS.values():
        broken = drawn()
        broken[700, 3] = np.nan
        refused("nan or infinite", broken, names(), options=kind)


def test_what_no_index_can_be_asked_or_given_is_named():
    index = build()
    with pytest.raises(InvalidDescriptors, match="same dimension"):
        index.search(np.ones((1, 5), np.float32), 1)
    with pytest.raises(InvalidDescriptors, match=f"k is {ROWS + 1}"):
        index.query(drawn()[:1], ROWS + 1)
    with pytest.raises(InvalidDescriptors, match="queries hold nan"):
        index.query(np.full((1, DIMENSION), np.nan, np.float32), 1)
    with pytest.raises(InvalidDescriptors, match="stands for two"):
        index.add(drawn(7, 1), names(1))
    with pytest.raises(InvalidDescriptors, match="digests of some photographs only"):
        index.add(drawn(7, 1), ["new"], sha256=["0" * 64])
    with pytest.raises(InvalidDescriptors, match="nan or infinite"):
        index.add(np.full((1, DIMENSION), np.inf, np.float32), ["new"])


def test_one_photograph_is_a_collection(tmp_path):
    index = SearchIndex.build(drawn()[:1], ["a"], network="")
    index.save(tmp_path / "a.h5")
    loaded = SearchIndex.load(tmp_path / "a.h5")
    assert loaded.query(drawn()[:1], 1)[1] == [["a"]] and loaded.recall == {}


@pytest.mark.parametrize("kind", ["ivf_pq", "hnsw"])
def test_faiss_bytes_made_to_crash_end_another_process(kind, tmp_path):
    """Their digest is right, as whoever makes such a file can make it."""
    path = tmp_path / "index.h5"
    build(kind).save(path)
    sound = path.read_bytes()
    said = []
    for seed in range(4):
        path.write_bytes(sound)
        with h5py.File(path, "r+") as file:
            content = file["faiss"][()]
            generator = np.random.default_rng(seed)
            content[generator.integers(len(content) // 4, len(content), size=400)] ^= 0x40
            file["faiss"][()] = content
            file.attrs["faiss_sha256"] = rows_sha256(content)
        with suppress(UnusableIndex) if seed else pytest.raises(UnusableIndex) as refused:
            SearchIndex.load(path).search(drawn(5, 40), 15)
        said += [str(refused.value)] if refused else []
    assert all(str(path) in text and "build it again" in text for text in said)


def test_an_index_from_outside_grows_and_is_saved_as_one_of_a_store(index, tmp_path):
    index.save(tmp_path / "index.h5")
    more = names(10, "more ")
    grown = [SearchIndex.load(tmp_path / "index.h5", trusted=each).add(drawn(8, 10), more) for each in (0, 1)]
    for number, each in enumerate(grown):
        each.save(tmp_path / f"{number}.h5")
    assert (tmp_path / "0.h5").read_bytes() == (tmp_path / "1.h5").read_bytes()
