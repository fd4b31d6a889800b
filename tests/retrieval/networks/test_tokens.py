"""Vision transformers as trunks: which tokens, any size of photograph, poolings, files, use."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from retrieval.describe.describe import extract
from retrieval.networks.build_trunk import build_trunk
from retrieval.networks.files import NetworkDescription, UnreadableNetwork, write_network
from retrieval.networks.network import RetrievalNetwork, build_network, load_network, save_network
from retrieval.networks.options import NetworkOptions
from retrieval.networks.pooling import GeM, Regional, gem, rmac
from retrieval.networks.timm import ANY_SIZE, TokenFeatures
from retrieval.networks.trunks import NoSuchTokens, WeightsMismatch, stages
from retrieval.training.options import TrainingOptions
from retrieval.training.step import Learner, Stepping, TrainingPhotographs, train_tuples

timm = pytest.importorskip("timm", reason="needs the extra timm")

SMALL = NetworkOptions(backbone="timm:test_vit", weights="random")  # patches of 16 px, 64 channels, 6 blocks
SIZES = ((64, 96), (33, 50), (160, 160), (7, 90))


def photograph(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def with_registers() -> nn.Module:
    """A transformer with a class token and four registers, whose values are not close to zero."""
    torch.manual_seed(0)
    body: nn.Module = timm.create_model("test_vit", num_classes=0, reg_tokens=4, **ANY_SIZE).eval()
    with torch.no_grad():
        for token in (body.cls_token, body.reg_token, body.pos_embed):
            token.normal_()
    return body


@pytest.mark.parametrize("size", SIZES)
def test_patches_are_timms_last_map(size: tuple[int, int]) -> None:
    """An oracle: timm's own way to a map, without class token and registers."""
    body, photo = with_registers(), photograph(*size)
    with torch.no_grad():
        (expected,) = body.forward_intermediates(
            photo, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True
        )
        found = TokenFeatures(body, "patches")(photo)
    assert found.shape == (1, 64, -(-size[0] // 16), -(-size[1] // 16))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_the_class_token_and_both() -> None:
    body, photo = with_registers(), photograph(40, 70)
    with torch.no_grad():
        tokens = body.forward_features(photo)
        own, both = (TokenFeatures(body, name)(photo) for name in ("class", "both"))
    torch.testing.assert_close(own[0, :, 0, 0], tokens[0, 0], rtol=0, atol=0)
    assert own.shape == (1, 64, 1, 1) and both.shape == (1, 64, 1, 1 + 3 * 5)
    torch.testing.assert_close(both[0, :, 0].T, torch.cat((tokens[0, :1], tokens[0, 5:])), rtol=0, atol=0)


@pytest.mark.parametrize(("tokens", "left_out"), [("patches", 5), ("both", 4)])
def test_gem_over_tokens_by_hand(tokens: Any, left_out: int) -> None:
    """The formula in float64 with negative values raised to 1e-6, over the tokens one by one."""
    body, photo = with_registers(), photograph(50, 90)
    with torch.no_grad():
        every = body.forward_features(photo)[0].double().numpy()
        found = gem(TokenFeatures(body, tokens)(photo), 3.0)[0].numpy()
    assert (every < 0).any()
    kept = np.delete(every, range(1, 5) if tokens == "both" else range(5), axis=0)
    assert len(kept) == len(every) - left_out
    np.testing.assert_allclose(found, np.mean(np.maximum(kept, 1e-6) ** 3, axis=0) ** (1 / 3), atol=1e-6)


def test_regions_of_the_map_of_patches() -> None:
    body, photo = with_registers(), photograph(64, 96)
    with torch.no_grad():
        maps = TokenFeatures(body, "patches")(photo)
        network = build_network(SMALL.model_copy(update={"pooling": "rmac"}))
        assert network(photo).shape == (1, 64)
    assert rmac(maps).shape == Regional(GeM())(maps).shape == (1, 64)


def test_the_size_of_the_training_needs_no_interpolation() -> None:
    """An oracle: the network as timm makes it for that size alone."""
    torch.manual_seed(1)
    plain = timm.create_model("test_vit", num_classes=0).eval()
    network = build_network(SMALL)
    network.features.body.load_state_dict(plain.state_dict())
    photo = photograph(160, 160)
    with torch.no_grad():
        expected = plain.forward_features(photo)[:, 1:].transpose(1, 2).unflatten(2, (10, 10))
        torch.testing.assert_close(network.features(photo), expected, rtol=0, atol=0)


@pytest.mark.parametrize("place", [(0, 0), (36, 0), (0, 53), (36, 53)])
def test_no_strip_of_the_photograph_is_lost(place: tuple[int, int]) -> None:
    network, photo = build_network(SMALL), photograph(37, 54)
    changed = photo.clone()
    changed[:, :, place[0], place[1]] += 1
    with torch.no_grad():
        difference = (network.features(changed) - network.features(photo)).abs().sum(dim=1)[0]
    row, column = np.unravel_index(int(difference.argmax()), difference.shape)
    assert difference.shape == (3, 4)
    assert (row, column) == (place[0] // 16, place[1] // 16)


def test_the_padding_is_the_mean_colour() -> None:
    """Zeros after normalisation: a photograph that is padded by hand gives the same map."""
    network, photo = build_network(SMALL), photograph(37, 54)
    by_hand = torch.zeros(1, 3, 48, 64)
    by_hand[:, :, :37, :54] = photo
    with torch.no_grad():
        torch.testing.assert_close(network.features(photo), network.features(by_hand), rtol=0, atol=0)


def test_a_network_of_means_is_normalised() -> None:
    """timm's classifier of the mean of all patches normalises after it: here every token is."""
    network = build_network(SMALL.model_copy(update={"backbone": "timm:test_vit2"}))
    photo = photograph(40, 40)
    body = network.features.body
    with torch.no_grad():
        expected = body.fc_norm(body.forward_features(photo))[:, 1:]
        torch.testing.assert_close(network.features(photo).flatten(2).transpose(1, 2), expected)
    assert isinstance(body.norm, nn.Identity) and not isinstance(body.fc_norm, nn.Identity)


def test_the_class_token_is_the_vector_with_its_signs() -> None:
    """GeM, the default, would raise its negative values to 1e-6."""
    network, photo = build_network(SMALL.model_copy(update={"tokens": "class"})), photograph(40, 70)
    with torch.no_grad():
        token = network.features.body.forward_features(photo)[:, 0]
        torch.testing.assert_close(network(photo), token / token.norm(), atol=1e-5, rtol=0)
    assert network.gem is None and network.scale_exponent == 1.0
    photographs = [np.random.default_rng(0).integers(0, 256, (40, 70, 3)).astype(np.uint8)]
    found = extract(network, photographs, image_size=None, scales=(1.0, 0.5))
    assert (found < 0).any() and np.linalg.norm(found) == pytest.approx(1, abs=1e-4)


def test_what_has_no_class_token() -> None:
    for backbone in ("timm:test_vit3", "timm:resnet18"):  # pooled by attention as SigLIP; convolutional
        with pytest.raises(NoSuchTokens, match=rf"'{backbone}' has no class token.*network\.tokens=patches"):
            build_trunk(backbone, imagenet=False, tokens="class")
    with pytest.raises(NoSuchTokens, match="'vgg11' has no class token"):
        build_trunk("vgg11", imagenet=False, tokens="both")
    for backbone in ("resnet18", "efficientnet_lite0"):
        with pytest.raises(ValueError, match=rf"backbone='{backbone}': it is convolutional"):
            NetworkOptions(backbone=backbone, tokens="both")
    for changes in ({"regional": True}, {"pooling": "rmac"}):
        with pytest.raises(ValueError, match="a class token lies in no region"):
            NetworkOptions(backbone="timm:test_vit", tokens="class", **changes)


def test_the_pooling_of_siglip_is_left_out() -> None:
    network = build_network(SMALL.model_copy(update={"backbone": "timm:test_vit3"}))
    assert not [name for name, _ in network.named_parameters() if "attn_pool" in name]
    with torch.no_grad():
        assert network(photograph(33, 50)).shape == (1, 96)


@pytest.mark.parametrize("tokens", ["patches", "class", "both"])
def test_tokens_survive_the_file(tokens: Any, tmp_path: Path) -> None:
    network = build_network(SMALL.model_copy(update={"tokens": tokens, "seed": 3}))
    path, photo = tmp_path / "n.safetensors", photograph(33, 50)
    save_network(network, path)
    again = load_network(path)
    assert again.description == network.description and again.description.tokens == tokens
    with torch.no_grad():
        torch.testing.assert_close(again(photo), network(photo), rtol=0, atol=0)
    other = "both" if tokens == "patches" else "patches"
    with pytest.raises(WeightsMismatch, match=f"tokens='{tokens}', the options say '{other}'"):
        build_network(SMALL.model_copy(update={"weights_file": path, "tokens": other}))


def test_a_file_of_patches_is_one_of_the_first_format(tmp_path: Path) -> None:
    """What it was before there was a choice; another choice is refused by programs before it."""
    for tokens, version in (("patches", 1), ("class", 2)):
        description = NetworkDescription("timm:test_vit", 64, tokens=tokens)
        write_network(tmp_path / "n.safetensors", description, {"a": torch.zeros(2)})
        with safe_open(tmp_path / "n.safetensors", framework="pt") as file:
            facts = json.loads(file.metadata()["retrieval_sfm"])
            inside = json.loads(bytes(file.get_tensor("description").tolist()))
        assert facts["version"] == version and facts["network"] == inside
        assert ("tokens" in inside) == (version == 2)


def test_tokens_that_nobody_knows(tmp_path: Path) -> None:
    description = NetworkDescription("timm:test_vit", 64, tokens="registers")  # type: ignore[arg-type]
    write_network(tmp_path / "n.safetensors", description, {"a": torch.zeros(2)})
    with pytest.raises(UnreadableNetwork, match="describes itself with tokens 'registers'"):
        load_network(tmp_path / "n.safetensors")


def test_a_file_of_a_network_without_a_class_token(tmp_path: Path) -> None:
    description = NetworkDescription("timm:test_vit3", 96, tokens="class")
    write_network(tmp_path / "n.safetensors", description, {"a": torch.zeros(2)})
    with pytest.raises(UnreadableNetwork, match=r"n\.safetensors: .*has no class token"):
        load_network(tmp_path / "n.safetensors")


def test_weights_of_timm_from_a_file(tmp_path: Path) -> None:
    """A state dict as timm publishes it, classifier and all."""
    torch.manual_seed(5)
    classifier = timm.create_model("test_vit").eval()
    torch.save(classifier.state_dict(), tmp_path / "w.pth")
    network = build_network(SMALL.model_copy(update={"weights_file": tmp_path / "w.pth", "tokens": "class"}))
    photo = photograph(160, 160)
    with torch.no_grad():
        expected = classifier.forward_features(photo)[:, 0]
        torch.testing.assert_close(network.features(photo)[:, :, 0, 0], expected)


def test_parts_from_input_to_output() -> None:
    network = build_network(SMALL)
    found, body = stages(network.features), network.features.body
    assert len(found) == 1 + 6
    assert [found[1 + at][0] for at in range(6)] == list(body.blocks)
    held = [[id(parameter) for parameter in part.parameters()] for part in found]
    assert id(body.cls_token) in held[0] and id(body.norm.weight) in held[-1]
    in_parts = sorted(name for part in held for name in part)
    assert in_parts == sorted(map(id, network.features.parameters()))


def losses_of(network: RetrievalNetwork, shapes: list[tuple[int, int]]) -> np.ndarray:
    """A training step of one tuple whose photographs have these heights and widths in turn."""
    generator = np.random.default_rng(0)
    photographs = [
        generator.integers(0, 256, (*shapes[at % len(shapes)], 3), dtype=np.uint8) for at in range(5)
    ]
    options = TrainingOptions(margin=2.0, tuples_per_step=1, learning_rate=1e-3)
    loaded = TrainingPhotographs(lambda image: photographs[image])
    return train_tuples(Learner.of(network, options), np.array([[0, 1, 2, 3, 4]]), loaded, Stepping(1))


@pytest.mark.parametrize("backbone", ["timm:vit_small_patch14_dinov2", "timm:vit_tiny_patch16_dinov3_qkvb"])
def test_describing_and_a_training_step_of_three_shapes(backbone: str) -> None:
    """Landscape, portrait and panorama, none of them whole patches: ViT-S/14, and one of rotary positions."""
    shapes = [(75, 100), (100, 75), (40, 120)]
    network = build_network(NetworkOptions(backbone=backbone, weights="random"))
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    generator = np.random.default_rng(1)
    photographs = [generator.integers(0, 256, (*shape, 3)).astype(np.uint8) for shape in shapes]
    rows = extract(network, photographs, image_size=None, scales=(1.0, 0.7071))
    assert rows.shape == (3, network.description.dimension)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-4)
    assert np.isfinite(losses_of(network, shapes)).all()
    still = {name for name, value in network.named_parameters() if torch.equal(value, before[name])}
    assert still <= {name for name in still if name.endswith("attn.qkv.bias")}, "what a step does not reach"
    assert not torch.equal(network.pool.p, before["pool.p"])
