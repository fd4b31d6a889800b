"""The position embedding as two matrix products: torch's own interpolation, and what it must not do."""

import pytest
import torch
from torch.nn import functional as F

from retrieval.export.onnx_tokens import PlacedPatches, replace_positions, resizing


@pytest.mark.parametrize(("old", "new"), [((16, 16), (5, 9)), ((37, 37), (26, 19)), ((7, 9), (30, 2))])
def test_it_is_torchs_antialiased_bicubic_interpolation(old: tuple[int, int], new: tuple[int, int]) -> None:
    """An oracle, shrinking and growing."""
    grid = torch.randn(3, *old, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(grid[None], size=new, mode="bicubic", antialias=True)[0]
    found = resizing(old[0], new[0]) @ grid @ resizing(old[1], new[1]).T
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_the_same_size_changes_nothing() -> None:
    torch.testing.assert_close(resizing(11, 11), torch.eye(11), atol=1e-6, rtol=0)


def test_rows_sum_to_one() -> None:
    for old, new in ((4, 9), (30, 7), (1, 3)):
        torch.testing.assert_close(resizing(old, new).sum(dim=1), torch.ones(new))


@pytest.mark.parametrize("registers", [0, 4])
@pytest.mark.parametrize("overlapping", [True, False])
def test_a_trunk_computes_what_it_did(registers: int, overlapping: bool) -> None:
    """With positions of class and register tokens, and without."""
    timm = pytest.importorskip("timm", reason="needs the extra timm")
    from retrieval.networks.timm import ANY_SIZE, TokenFeatures

    torch.manual_seed(0)
    body = timm.create_model(
        "test_vit", num_classes=0, reg_tokens=registers, no_embed_class=not overlapping, **ANY_SIZE
    )
    features = TokenFeatures(body.eval().requires_grad_(False), "both")
    for token in (body.pos_embed, body.cls_token):
        token.normal_()
    photo = torch.rand(2, 3, 50, 90)
    expected = features(photo)
    replace_positions(features)
    assert isinstance(body.patch_embed, PlacedPatches) and body.pos_embed is None
    torch.testing.assert_close(features(photo), expected, atol=1e-5, rtol=1e-5)


def test_convolutional_trunks_stay() -> None:
    trunk = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1))
    replace_positions(trunk)
    assert [type(each) for each in trunk] == [torch.nn.Conv2d]
