"""Networks: structure, weights, files; published checkpoints read without running what is in them."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from retrieval.networks.build_trunk import build_trunk
from retrieval.networks.files import NetworkDescription, UnreadableNetwork, published_whitenings
from retrieval.networks.make import make_network
from retrieval.networks.network import (
    RetrievalNetwork,
    build_network,
    initialise_whitening,
    load_network,
    save_network,
)
from retrieval.networks.options import BACKBONES, LITE, NetworkOptions, missing_package
from retrieval.networks.pooling import GeM, l2_normalize
from retrieval.networks.trunks import UnknownBackbone, WeightsMismatch, WeightsUnavailable
from retrieval.whitening.whitening import Whitening
from storage.hdf5.digests import content_sha256

SMALL = NetworkOptions(backbone="squeezenet1_1", weights="random")
PHOTO = torch.rand(1, 3, 64, 48, generator=torch.Generator().manual_seed(0))


def published(network: RetrievalNetwork, **meta: object) -> dict[str, object]:
    """The dictionary that the published code saves."""
    description = network.description
    return {
        "meta": {
            "architecture": description.architecture,
            "local_whitening": description.local_whitening,
            "pooling": "gem",
            "regional": False,
            "whitening": description.whitening,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "outputdim": description.dimension,
            **meta,
        },
        "state_dict": network.state_dict(),
        "epoch": 3,
        "min_loss": 0.25,
    }


def test_forward_is_features_pooling_norm_by_hand() -> None:
    features = nn.Conv2d(3, 2, 1, bias=False)
    features.weight.data = torch.tensor([[1.0, 0, 0], [0, 2.0, 0]]).view(2, 3, 1, 1)
    whiten = nn.Linear(2, 2, bias=False)
    whiten.weight.data = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    photo = torch.ones(1, 3, 4, 4)
    plain = RetrievalNetwork(features, GeM(3), NetworkDescription("x", 2))
    torch.testing.assert_close(plain(photo), torch.tensor([[1.0, 2.0]]) / 5**0.5, atol=2e-6, rtol=0)
    whitened = RetrievalNetwork(features, GeM(3), NetworkDescription("x", 2), whiten=whiten)
    torch.testing.assert_close(whitened(photo), torch.tensor([[2.0, 1.0]]) / 5**0.5, atol=4e-6, rtol=0)
    local = RetrievalNetwork(features, GeM(3), NetworkDescription("x", 2), lwhiten=whiten)
    torch.testing.assert_close(local(photo), torch.tensor([[2.0, 1.0]]) / 5**0.5, atol=2e-6, rtol=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"pooling": "mac"},
        {"pooling": "spoc"},
        {"pooling": "rmac"},
        {"pooling": "gem_per_channel"},
        {"regional": True, "regional_whitening": True},
        {"local_whitening": True, "whitening": True},
    ],
)
def test_every_structure_survives_its_file(changes: dict[str, object], tmp_path: Path) -> None:
    network = build_network(SMALL.model_copy(update=changes))
    save_network(network, tmp_path / "n.safetensors")
    again = load_network(tmp_path / "n.safetensors")
    assert again.description == network.description
    with torch.no_grad():
        descriptor = network(PHOTO)
        torch.testing.assert_close(again(PHOTO), descriptor, rtol=0, atol=0)
    assert descriptor.shape == (1, 512)
    assert torch.linalg.vector_norm(descriptor).item() == pytest.approx(1, abs=1e-4)


def test_the_default_is_offline_and_sees_any_size() -> None:
    network = build_network(NetworkOptions())
    assert network.description.dimension == 1280 and network.description.mean == (127 / 255,) * 3
    for size in ((65, 97), (224, 224), (33, 200)):
        with torch.no_grad():
            assert network.features(torch.zeros(1, 3, *size)).shape == (
                1,
                1280,
                -(-size[0] // 32),
                -(-size[1] // 32),
            )


def test_random_weights_follow_the_seed_and_leave_torch_alone() -> None:
    state = torch.get_rng_state()
    first, same, other = (build_network(SMALL.model_copy(update={"seed": seed})) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    pairs = list(zip(first.parameters(), same.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)


@pytest.mark.parametrize("name", ["alexnet", "vgg11", "resnet18", "densenet121", "squeezenet1_0"])
def test_cuts_have_the_published_dimension(name: str) -> None:
    trunk = build_trunk(name, imagenet=False)
    with torch.no_grad():
        maps = trunk.features(torch.zeros(1, 3, 64, 64))
    assert maps.shape[1] == BACKBONES[name] == trunk.dimension
    assert (maps >= 0).all()
    with pytest.raises(UnknownBackbone, match="resnet18"):
        build_trunk("resnet17", imagenet=False)


def test_every_backbone_of_the_options_can_be_built_and_no_other() -> None:
    published = {
        "alexnet", *(f"vgg{n}" for n in (11, 13, 16, 19)), *(f"resnet{n}" for n in (18, 34, 50, 101, 152)),
        *(f"densenet{n}" for n in (121, 161, 169, 201)), "squeezenet1_0", "squeezenet1_1",
        "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2",
    }  # fmt: skip
    assert set(BACKBONES) == published
    for name in ("resnet17", "timm:", "timm", ""):
        with pytest.raises(ValueError, match="timm:NAME"):
            NetworkOptions(backbone=name)
    with pytest.raises(ValueError, match="did you mean 'resnet18'"):
        NetworkOptions(backbone="resnet_18")


def test_the_dimensions_are_those_of_the_trunks() -> None:
    """All of them, without weights in memory."""
    for name in BACKBONES:
        if name not in LITE:  # their package allocates while it builds them; see test_trunks.py
            with torch.device("meta"):
                trunk = build_trunk(name, imagenet=False)
                assert trunk.features(torch.zeros(1, 3, 96, 64)).shape[1] == BACKBONES[name], name


def test_weights_that_cannot_be_downloaded_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.models.get_model", offline)
    with pytest.raises(WeightsUnavailable, match="efficientnet_lite0"):
        build_network(NetworkOptions(backbone="resnet18"))


def test_frozen_statistics_also_while_training() -> None:
    network = build_network(NetworkOptions(backbone="resnet18", weights="random")).train()
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    network(PHOTO * 7).sum().backward()
    assert all(torch.equal(before[name], buffer) for name, buffer in network.named_buffers())
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms and all(not norm.training and norm.weight.grad is not None for norm in norms)


def test_saving_gives_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from retrieval.networks.make import make_network\n"
        "from retrieval.networks.options import NetworkOptions\n"
        "make_network(NetworkOptions(backbone='squeezenet1_1', weights='random'), out=Path(sys.argv[1]))"
    )
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.safetensors")], check=True, cwd=root)
    facts = make_network(SMALL, out=tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert facts["dimension"] == 512
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_the_digest_of_a_network_depends_on_its_structure(tmp_path: Path) -> None:
    digests = set()
    for pooling in ("mac", "spoc"):  # the same tensors
        save_network(build_network(SMALL.model_copy(update={"pooling": pooling})), tmp_path / "n.safetensors")
        digests.add(content_sha256(tmp_path / "n.safetensors"))
    assert len(digests) == 2


def test_published_checkpoints_are_read_with_their_whitenings(tmp_path: Path) -> None:
    network = build_network(SMALL)
    network.pool.p.data.fill_(2.75)
    mean, projection = np.random.default_rng(0).normal(size=(512, 1)), np.eye(512)
    lw = {"retrieval-SfM-120k": {"ss": {"m": mean, "P": projection}, "ms": {"m": mean, "P": projection * 2}}}
    torch.save(published(network, Lw=lw), tmp_path / "published.pth")
    again = load_network(tmp_path / "published.pth")
    with torch.no_grad():
        torch.testing.assert_close(again(PHOTO), network(PHOTO), rtol=0, atol=0)
    assert again.description.pooling == "gem" and again.scale_exponent == 2.75
    learnt = published_whitenings(tmp_path / "published.pth")["retrieval-SfM-120k"]
    np.testing.assert_array_equal(learnt["ss"][0], mean[:, 0])
    np.testing.assert_array_equal(learnt["ms"][1], projection * 2)


def test_published_checkpoints_of_old_torch_without_counters(tmp_path: Path) -> None:
    network = build_network(NetworkOptions(backbone="resnet18", weights="random"))
    content = published(network)
    state = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save({**content, "state_dict": state}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    with torch.no_grad():
        torch.testing.assert_close(load_network(tmp_path / "old.pth")(PHOTO), network(PHOTO), rtol=0, atol=0)


def test_published_arrays_of_old_numpy(tmp_path: Path) -> None:
    network = build_network(SMALL)
    lw = {"set": {"ss": {"m": np.ones((512, 1), np.float32), "P": np.eye(512)}}}
    torch.save(published(network, Lw=lw), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    written = (tmp_path / "old.pth").read_bytes()
    assert b"cnumpy._core.multiarray\n" in written
    (tmp_path / "old.pth").write_bytes(
        written.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    )
    np.testing.assert_array_equal(published_whitenings(tmp_path / "old.pth")["set"]["ss"][0], np.ones(512))
    assert load_network(tmp_path / "old.pth").description.dimension == 512


class Malicious:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["meta", "state_dict", "optimizer"])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path: Path, place: str, zipped: bool) -> None:
    network = build_network(SMALL)
    trace = tmp_path / "was_here"
    content = published(network)
    bad = Malicious(f"touch {trace}")
    content[place] = {**content.get(place, {}), "x": bad}  # type: ignore[dict-item]
    torch.save(content, tmp_path / "bad.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UnreadableNetwork, match=r"bad\.pth.*refused"):
        load_network(tmp_path / "bad.pth")
    with pytest.raises(UnreadableNetwork, match="refused"):
        build_network(SMALL.model_copy(update={"weights_file": tmp_path / "bad.pth"}))
    with pytest.raises(UnreadableNetwork, match="refused"):
        published_whitenings(tmp_path / "bad.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(content))
    with pytest.raises(UnreadableNetwork):
        load_network(tmp_path / "plain.pth")
    assert not trace.exists()


def test_a_refusal_names_what_was_asked_and_never_advises_to_run_it(tmp_path: Path) -> None:
    torch.save({"meta": Malicious("true"), "state_dict": {}}, tmp_path / "bad.pth")
    with pytest.raises(UnreadableNetwork, match=r"posix\.system") as found:
        load_network(tmp_path / "bad.pth")
    assert "weights_only" not in str(found.value) and "Nothing in it was run" in str(found.value)


def test_numpy_objects_and_callables_are_not_smuggled_in(tmp_path: Path) -> None:
    for name, value in {
        "objects": np.array([print], dtype=object),
        "function": np.frombuffer,
        "records": np.zeros(2, dtype=[("a", "f4")]),
    }.items():
        torch.save({"meta": {"Lw": value}, "state_dict": {}}, tmp_path / f"{name}.pth")
        with pytest.raises(UnreadableNetwork, match=name):
            load_network(tmp_path / f"{name}.pth")


def test_files_that_are_no_network(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "other.safetensors").read_bytes()[:20])
    (tmp_path / "text.pth").write_text("hello")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "state.pth")
    for name, reason in {
        "other.safetensors": "metadata",
        "cut.safetensors": "damaged",
        "text.pth": "text.pth",
        "state.pth": "weights_file",
        "missing.pth": "no such file",
    }.items():
        with pytest.raises(UnreadableNetwork, match=reason):
            load_network(tmp_path / name)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_cut_off_checkpoint_says_so(tmp_path: Path, share: float, zipped: bool) -> None:
    torch.save(published(build_network(SMALL)), tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    written = (tmp_path / "a.pth").read_bytes()
    (tmp_path / "a.pth").write_bytes(written[: int(share * len(written))])
    with pytest.raises(UnreadableNetwork, match=r"a\.pth: not a readable \.pth .*get it from its source"):
        load_network(tmp_path / "a.pth")


def test_files_of_other_kinds_and_bytes_at_random(tmp_path: Path) -> None:
    """Whatever torch's reader raises on them."""
    path, generator = tmp_path / "a.pth", np.random.default_rng(0)
    torch.save(published(build_network(SMALL)), path, _use_new_zipfile_serialization=False)
    written = path.read_bytes()
    others = [b"<html>404</html>", b"\xff\xd8\xff\xe0" + bytes(99), pickle.dumps([1, 2]), bytes(5000)]
    for _ in range(60):
        damaged = bytearray(written[:3000])
        for position in generator.integers(0, 200, 4).tolist():
            damaged[position] = int(generator.integers(256))
        others.append(bytes(damaged))
    for other in others:
        path.write_bytes(other)
        with pytest.raises(UnreadableNetwork, match=r"a\.pth"):
            load_network(path)


def without(name: str) -> dict[str, object]:
    """Changes to `meta` that leave an entry out."""
    return {name: None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (without("outputdim"), "outputdim"),
        (without("architecture"), "architecture None"),
        ({"outputdim": "many"}, "many"),
        ({"outputdim": -3}, "dimension -3"),
        ({"outputdim": 7}, "7 dimensions"),
        ({"mean": [0.5]}, r"mean \(0\.5,\)"),
        ({"std": [1.0, 0.0, 1.0]}, "std"),
        ({"mean": "grey"}, "could not convert"),
        ({"architecture": "resnet999"}, "resnet999"),
        ({"pooling": "max"}, "known poolings"),
    ],
)
def test_a_meta_that_is_not_the_published_one(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    content = published(build_network(SMALL))
    meta = {**content["meta"], **changes}  # type: ignore[dict-item]
    content["meta"] = {name: value for name, value in meta.items() if value is not None}
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises((UnreadableNetwork, WeightsMismatch), match=rf"a\.pth.*{message}"):
        load_network(tmp_path / "a.pth")


@pytest.mark.parametrize("learnt", [[1], {"set": None}, {"set": {"ss": {"m": 1}}}, {"set": {"m": 1, "P": 2}}])
def test_learnt_whitenings_of_another_layout(tmp_path: Path, learnt: object) -> None:
    torch.save(published(build_network(SMALL), Lw=learnt), tmp_path / "a.pth")
    with pytest.raises(UnreadableNetwork, match=r"a\.pth: its learnt whitenings"):
        published_whitenings(tmp_path / "a.pth")
    load_network(tmp_path / "a.pth")


def test_names_that_data_parallel_saved(tmp_path: Path) -> None:
    network = build_network(SMALL)
    content = published(network)
    content["state_dict"] = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save(content, tmp_path / "parallel.pth")
    with torch.no_grad():
        torch.testing.assert_close(load_network(tmp_path / "parallel.pth")(PHOTO), network(PHOTO))


@pytest.mark.parametrize(
    "facts",
    [
        "no json",
        "[]",
        json.dumps({"format": "retrieval-sfm network", "version": 1}),
        json.dumps({"format": "retrieval-sfm network", "version": "x", "network": {}}),
        json.dumps(
            {
                "format": "retrieval-sfm network",
                "version": 1,
                "network": {"architecture": "alexnet", "dimension": 256, "pooling": "max"},
            }
        ),
    ],
)
def test_a_damaged_description(tmp_path: Path, facts: str) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "n.safetensors", {"retrieval_sfm": facts})
    with pytest.raises(UnreadableNetwork, match=r"n\.safetensors: d"):
        load_network(tmp_path / "n.safetensors")


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    save_network(build_network(SMALL), tmp_path / "n.safetensors")
    tensors = load_file(tmp_path / "n.safetensors")
    facts = {"format": "retrieval-sfm network", "version": 99, "network": {}}
    save_file(tensors, tmp_path / "n.safetensors", {"retrieval_sfm": json.dumps(facts)})
    with pytest.raises(UnreadableNetwork, match="99"):
        load_network(tmp_path / "n.safetensors")


def test_tensors_that_do_not_fit(tmp_path: Path) -> None:
    network = build_network(SMALL)
    content = published(network)
    state = dict(network.state_dict())
    state["features.0.weight"] = torch.zeros(1, 2, 3, 3)
    torch.save({**content, "state_dict": state}, tmp_path / "shape.pth")
    del state["features.0.weight"]
    torch.save({**content, "state_dict": state}, tmp_path / "lacking.pth")
    for name in ("shape.pth", "lacking.pth"):
        with pytest.raises(WeightsMismatch, match=r"features\.0\.weight"):
            load_network(tmp_path / name)


def test_weights_from_a_file(tmp_path: Path) -> None:
    from torchvision.models import squeezenet1_1

    network = build_network(SMALL.model_copy(update={"seed": 5}))
    classifier = squeezenet1_1()
    torch.save(classifier.state_dict(), tmp_path / "classifier.pth")
    torch.save(network.features.state_dict(), tmp_path / "trunk.pth")
    save_network(network, tmp_path / "whole.safetensors")

    def from_file(name: str, **changes: object) -> RetrievalNetwork:
        return build_network(SMALL.model_copy(update={"weights_file": tmp_path / name, **changes}))

    with torch.no_grad():
        expected = l2_normalize(GeM(3)(classifier.eval().features(PHOTO)))
        torch.testing.assert_close(from_file("classifier.pth")(PHOTO), expected)
        for name in ("trunk.pth", "whole.safetensors"):
            torch.testing.assert_close(from_file(name)(PHOTO), network(PHOTO), rtol=0, atol=0)
    with pytest.raises(WeightsMismatch, match="pooling"):
        from_file("whole.safetensors", pooling="mac")
    with pytest.raises(WeightsMismatch, match=r"classifier\.pth"):
        from_file("classifier.pth", backbone="resnet18")


def test_whitening_layer_starts_as_the_learnt_whitening() -> None:
    network = build_network(SMALL)
    generator = np.random.default_rng(0)
    mean, projection = generator.normal(size=512), generator.normal(size=(32, 512))
    with torch.no_grad():
        raw = network(PHOTO).double().numpy()
        initialise_whitening(network, mean, projection)
        found = network(PHOTO).numpy()
    expected = (raw - mean) @ projection.T
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-5)
    assert network.description.dimension == 32 and network.description.whitening
    assert network.scale_exponent == 1.0
    with pytest.raises(WeightsMismatch, match="512"):
        initialise_whitening(network, mean[:5], projection[:, :5])


def test_whitening_layer_from_a_file(tmp_path: Path) -> None:
    """The option does what the function does, on a trunk and on a complete network without a layer."""
    generator = np.random.default_rng(0)
    learnt = Whitening(generator.normal(size=512), generator.normal(size=(512, 512)))
    learnt.save(tmp_path / "whitening.h5")
    save_network(build_network(SMALL), tmp_path / "n.safetensors")
    changes = {"whitening": True, "whitening_file": tmp_path / "whitening.h5"}
    for weights in (None, tmp_path / "n.safetensors"):
        network = build_network(SMALL.model_copy(update={**changes, "weights_file": weights}))
        with torch.no_grad():
            raw = build_network(SMALL)(PHOTO).numpy()
            np.testing.assert_allclose(network(PHOTO).numpy(), learnt.apply(raw), atol=1e-5)
        assert network.description.whitening and network.whiten is not None
    save_network(network, tmp_path / "whitened.safetensors")
    with pytest.raises(WeightsMismatch, match="whitening=True, the options say False"):
        build_network(SMALL.model_copy(update={**changes, "weights_file": tmp_path / "whitened.safetensors"}))
    Whitening(np.zeros(3), np.eye(3)).save(tmp_path / "other.h5")
    with pytest.raises(WeightsMismatch, match="the network pools 512 values"):
        build_network(SMALL.model_copy(update={**changes, "whitening_file": tmp_path / "other.h5"}))


def test_contradicting_options_are_refused() -> None:
    with pytest.raises(ValueError, match="whitening_file without whitening=true"):
        NetworkOptions(whitening_file=Path("w.h5"))
    with pytest.raises(ValueError, match="regional"):
        NetworkOptions(regional_whitening=True)
    with pytest.raises(ValueError, match="rmac"):
        NetworkOptions(regional=True, pooling="rmac")


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrieval.networks.options.find_spec", lambda name: None)
    assert missing_package("resnet18") is None
    assert "retrieval-sfm[demo]" in str(missing_package("efficientnet_lite0"))
    assert "retrieval-sfm[lite]" in str(missing_package("efficientnet_lite2"))
    assert "'timm'; install retrieval-sfm[timm]" in str(missing_package("timm:resnet18"))
