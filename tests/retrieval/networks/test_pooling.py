"""Poolings against hand-computed values, properties, and the published code's numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from retrieval.networks.pooling import (
    MAC,
    RMAC,
    FeatureMapShape,
    GeM,
    Regional,
    SPoC,
    gem,
    l2_normalize,
    mac,
    region_grid,
    rmac,
    spoc,
)
from tests.official import listed, needs, official

ORACLES = listed("*.npz", "oracles", "pooling")
with_oracles = needs(official("oracles", "pooling"))


def modules() -> dict[str, nn.Module]:
    return {
        "mac": MAC(),
        "spoc": SPoC(),
        "gem3": GeM(3),
        "gem2_92": GeM(2.92),
        "gem1": GeM(1),
        "gem10": GeM(10),
        "rmac": RMAC(),
    }


def test_by_hand() -> None:
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 8.0]]]])
    torch.testing.assert_close(mac(x), torch.tensor([[4.0, 8.0]]))
    torch.testing.assert_close(spoc(x), torch.tensor([[2.5, 2.0]]))
    torch.testing.assert_close(gem(x, 2.0), torch.tensor([[7.5**0.5, 4.0]]))
    torch.testing.assert_close(gem(x, torch.tensor([1.0, 3.0])), torch.tensor([[2.5, 128 ** (1 / 3)]]))


def test_l2_normalize() -> None:
    torch.testing.assert_close(
        l2_normalize(torch.tensor([3.0, 4.0])), torch.tensor([0.6, 0.8]), atol=1e-6, rtol=0
    )
    rows = l2_normalize(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    torch.testing.assert_close(rows, torch.tensor([[0.6, 0.8], [0.0, 0.0]]), atol=1e-6, rtol=0)
    assert l2_normalize(torch.ones(2, 3, 4, 4)).shape == (2, 3, 4, 4)


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), levels=st.integers(1, 4))
def test_regions_stay_inside(height: int, width: int, levels: int) -> None:
    for top, left, side in region_grid(height, width, levels):
        assert top >= 0 and top + side <= height and left >= 0 and left + side <= width and side >= 1


def test_regions_by_hand() -> None:
    assert region_grid(1, 1) == [(0, 0, 1)]
    assert region_grid(7, 7, 1) == [(0, 0, 7)]
    assert region_grid(4, 4, 2) == [(0, 0, 4), (0, 0, 2), (0, 2, 2), (2, 0, 2), (2, 2, 2)]
    assert region_grid(2, 6, 1) == [(0, left, 2) for left in (0, 1, 2, 4)]


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 1), (3, 2), (30, 2)])
def test_small_maps_have_finite_values(size: tuple[int, int]) -> None:
    x = torch.rand(2, 4, *size, generator=torch.Generator().manual_seed(0))
    for pooled in (rmac(x), gem(x), Regional(GeM())(x)):
        assert pooled.shape == (2, 4) and torch.isfinite(pooled).all()


def test_gem_lies_between_mean_and_maximum_and_survives_zeros() -> None:
    x = torch.rand(3, 5, 6, 7, generator=torch.Generator().manual_seed(1))
    assert (gem(x, 3.0) >= spoc(x) - 1e-6).all() and (gem(x, 3.0) <= mac(x) + 1e-6).all()
    zeros = torch.zeros(1, 2, 3, 3, requires_grad=True)
    pool = GeM()
    pool(zeros).sum().backward()
    assert torch.isfinite(zeros.grad).all() and torch.isfinite(pool.p.grad).all()


@pytest.mark.parametrize("flushed", [False, True])
@pytest.mark.parametrize("p", [6.0, 6.5, 10.0, 50.0])
def test_large_exponents_have_finite_values_and_gradients(p: float, flushed: bool) -> None:
    """Also of channels without any response, with denormal numbers flushed as in training."""
    x = 10 * torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    x[:, 0] = 0
    wide = x.double().clamp(min=1e-6)
    expected = wide.amax((2, 3)) * (wide / wide.amax((2, 3), keepdim=True)).pow(p).mean((2, 3)).pow(1 / p)
    torch.set_flush_denormal(flushed)
    try:
        for exponent in (torch.tensor([p], requires_grad=True), torch.full((3,), p, requires_grad=True)):
            leaf = x.clone().requires_grad_()
            found = gem(leaf, exponent)
            found.sum().backward()
            torch.testing.assert_close(found, expected.float())
            torch.testing.assert_close(gem(x, p), expected.float())
            assert torch.isfinite(leaf.grad).all() and torch.isfinite(exponent.grad).all()
    finally:
        torch.set_flush_denormal(False)


def test_the_gradient_of_a_large_exponent_is_that_of_the_value() -> None:
    x = torch.rand(1, 2, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    p = torch.tensor([7.0, 3.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(gem, (x.requires_grad_(), p.requires_grad_()))


def test_equal_maxima_give_the_first_one_the_gradient() -> None:
    x = torch.zeros(1, 1, 2, 2, requires_grad=True)
    mac(x).sum().backward()
    assert x.grad.flatten().tolist() == [1, 0, 0, 0]


def test_modules_carry_their_exponents() -> None:
    assert GeM(2.5).p.tolist() == [2.5]
    assert GeM(per_channel=4).p.tolist() == [3.0] * 4
    assert [name for name, _ in Regional(GeM(), nn.Linear(2, 2)).named_parameters()] == [
        "rpool.p",
        "whiten.weight",
        "whiten.bias",
    ]


@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 3, 0, 4)])
def test_maps_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(FeatureMapShape, match=r"\[B, C, H, W\]"):
        gem(torch.ones(shape))


@with_oracles
@pytest.mark.parametrize("path", ORACLES, ids=lambda path: path.stem)
def test_values_and_gradients_of_the_published_code(path: Path) -> None:
    oracle = np.load(path)
    cases = modules()
    cases["gemmp"] = GeM(per_channel=len(oracle["gemmp_p"]))
    cases["gemmp"].p.data = torch.from_numpy(oracle["gemmp_p"])
    for name, module in cases.items():
        x = torch.from_numpy(oracle["x"]).requires_grad_()
        pooled = module.double()(x)
        pooled.backward(torch.from_numpy(oracle["grad_out"]).flatten(1))
        np.testing.assert_allclose(pooled.detach(), oracle[name][..., 0, 0], rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(x.grad, oracle[f"{name}_gx"], rtol=1e-4, atol=1e-8, err_msg=name)
        normalised = l2_normalize(pooled.detach())
        np.testing.assert_allclose(normalised, oracle[f"{name}_l2n"][..., 0, 0], rtol=1e-5)
        if hasattr(module, "p"):
            np.testing.assert_allclose(module.p.grad, oracle[f"{name}_gp"], rtol=1e-4)


@with_oracles
@pytest.mark.parametrize("path", ORACLES, ids=lambda path: path.stem)
def test_regional_pooling_of_the_published_code(path: Path) -> None:
    oracle = np.load(path)
    x = torch.from_numpy(oracle["x"])
    channels = x.shape[1]
    whitening = nn.Linear(channels, channels).double()
    whitening.weight.data = torch.from_numpy(oracle["whiten_weight"])
    whitening.bias.data = torch.from_numpy(oracle["whiten_bias"])
    for name, module in {
        "r_gem3": Regional(GeM(3)),
        "r_mac": Regional(MAC()),
        "r_gem3_whiten": Regional(GeM(3), whitening),
    }.items():
        with torch.no_grad():
            np.testing.assert_allclose(module(x), oracle[name][..., 0, 0], rtol=1e-5)
            if oracle[f"{name}_regions"].size:
                regions = oracle[f"{name}_regions"][..., 0, 0]
                np.testing.assert_allclose(module(x, aggregate=False), regions, rtol=1e-5)
