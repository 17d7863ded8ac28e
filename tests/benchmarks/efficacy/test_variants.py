"""The variants of the study: their losses by hand, and each of them in a real, tiny training."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.efficacy import variants
from simgan_cli.cli import app
from simgan_cli.engine.method import algorithm
from tests.engine.method.test_algorithm import Images, tiny_config, tiny_gan
from tests.gaze.helpers import write_csv
from tests.helpers import TINY

ODDS = torch.tensor([-2.0, 0.5, 3.0])


def test_losses_are_replaced_only_within_the_block() -> None:
    with variants.losses(lambda s: s.sum(), lambda s: -s.sum()):
        assert (float(algorithm.loss_if_refined(ODDS)), float(algorithm.loss_if_real(ODDS))) == (1.5, -1.5)
    assert float(algorithm.loss_if_real(ODDS)) == pytest.approx(np.log1p(np.exp(ODDS.numpy())).mean(), rel=1e-6)


def test_the_penalty_is_the_squared_slope_of_the_odds() -> None:
    network = nn.Conv2d(1, 2, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([1.0, 4.0])[:, None, None, None])  # s = 3 y + a constant at each pixel
    assert variants.penalty(network, torch.zeros(5, 1, 2, 3)).item() == pytest.approx(9)


def test_d_gets_the_image_moved_and_toned() -> None:
    image = torch.zeros(64, 1, 16, 16)
    image[..., 8:, :] = 1
    gan: Any = tiny_gan(tiny_config(), kind=variants.DiffAugment)
    seen = gan.seen(image)
    edges = (seen.diff(dim=2).abs().mean(dim=3)[:, 0]).argmax(dim=1)
    assert 5 <= int(edges.min()) < 7 < int(edges.max()) <= 9  # an eighth of 16 pixels to either side
    assert len(torch.unique(seen.amax(dim=(1, 2, 3)))) > 60


@pytest.mark.parametrize(("name", "fresh"), [("history-quarter", [8, 6, 6]), ("history-three-quarters", [8, 4, 2])])
def test_a_share_of_history_is_that_of_the_refined_half(name: str, fresh: list[int]) -> None:
    gan = tiny_gan(tiny_config(batch_size=8), kind=variants.VARIANTS[name])
    synthetic = Images(1)
    for step in range(3):  # the first step finds no history, the second four images
        gan.advance(step, synthetic, Images(2))
    assert [len(batch) for batch in synthetic.batches[1::2]] == fresh


@pytest.mark.parametrize("name", ["spectral-norm", "instance-noise", "diffaugment"])
def test_random_variants_follow_from_the_seed(name: str) -> None:
    losses = []
    for others in (1, 2):
        gan = tiny_gan(tiny_config(batch_size=8), kind=variants.VARIANTS[name])
        torch.manual_seed(others)
        for _ in range(others):
            gan.discriminator(Images(3)(1))  # as measurements do
        for step in range(2):
            measures = gan.advance(step, Images(1), Images(2))
        losses.append(float(measures["loss_discriminator"]))
    assert losses[0] == losses[1]


NAMES = (
    "least-squares", "hinge", "label-smoothing", "r1", "spectral-norm", "instance-noise", "diffaugment",
    "history-quarter", "history-three-quarters",
)  # fmt: skip


@pytest.mark.slow
def test_each_variant_trains_another_discriminator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tuple(variants.VARIANTS) == NAMES
    for seed, domain in enumerate(("synthetic", "real")):
        write_csv(tmp_path / domain, 8, seed)
    flags = ["train", "--synthetic", str(tmp_path / "synthetic"), "--real", str(tmp_path / "real"), "--quiet", "--json"]
    flags += [*TINY, "--cache", "off"]
    losses = set()
    for name in (*NAMES, None):
        command = ["variants.py", name] if name else ["simgan"]
        monkeypatch.setattr(sys, "argv", [*command, *flags, "--out", str(tmp_path / str(name))])
        with pytest.raises(SystemExit) as ended:
            variants.main() if name else app.main()
        assert ended.value.code == 0
        losses.add(json.loads(capsys.readouterr().out)["metrics"]["loss_discriminator"])
    assert len(losses) == len(NAMES) + 1
