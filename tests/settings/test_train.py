"""The recipe `paper` against the numbers of Shrivastava et al. (CVPR 2017), Sec. 3 and the supplementary material."""

import pytest
from pydantic import ValidationError

from simgan_cli.settings.train import TrainConfig, defaults_of, parse_lambda, parse_psi, parse_rate


def paper(preset: str) -> TrainConfig:
    return TrainConfig.model_validate({"synthetic": "x", "real": "y"} | defaults_of("paper", preset))


def test_the_recipe_for_eyes_is_the_papers() -> None:
    eyes = paper("eyes")
    assert (eyes.size, eyes.channels) == ((35, 55), "1")
    assert (eyes.pretrain_refiner, eyes.pretrain_discriminator) == (1000, 200)
    assert (eyes.refiner_updates, eyes.discriminator_updates, eyes.batch_size) == (2, 1, 512)
    assert (eyes.optimizer, eyes.refiner_lr, eyes.discriminator_lr, eyes.lr_drop_step) == (
        "sgd", "0.001xpatches", "0.001xpatches", 0,
    )  # fmt: skip
    assert eyes.rates(9 * 14) == pytest.approx((0.126, 0.126))
    assert (eyes.adversarial, eyes.psi, eyes.refiner_width, eyes.refiner_blocks) == ("local", "identity", 64, 4)


def test_the_recipe_for_hands_is_the_papers() -> None:
    hands = paper("hands")
    assert (hands.size, hands.channels) == ((224, 224), "1")
    assert (hands.pretrain_refiner, hands.pretrain_discriminator) == (500, 200)
    assert (hands.refiner_updates, hands.discriminator_updates) == (2, 1)
    assert (hands.optimizer, hands.refiner_lr, hands.discriminator_lr) == ("sgd", "0.0002xpatches", "0.0002xpatches")
    assert hands.lr_drop_step == 600_000
    assert (hands.refiner_width, hands.refiner_blocks, hands.refiner_kernel) == (64, 10, 7)


def test_what_the_paper_leaves_open_is_chosen() -> None:
    assert {"lambda", "history_size", "steps", "refiner_output", "refiner_padding"} <= set(defaults_of("paper", "eyes"))


@pytest.mark.parametrize(("text", "rate"), [("0.1", 0.1), (2, 2.0), ("1e-3xpatches", "1e-3xpatches")])
def test_rates_are_parsed(text: object, rate: object) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "fast", "xpatches", "0", "-1xpatches", "inf", "0.1 x patches"])
def test_an_invalid_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is neither a positive number nor one"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("psi", "says"),
    [
        ("", "an empty term"),
        ("identity,,blur", "an empty term"),
        ("identity,identity=2", "stands twice"),
        ("identity=much", "is not a number"),
        ("identity=0", "positive"),
        ("identity=-1", "positive"),
        ("identity=inf", "positive"),
        ("identity=nan", "positive"),
    ],
)
def test_an_invalid_psi_is_refused(psi: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_psi(psi)


def test_transforms_have_the_weight_1_by_default() -> None:
    assert parse_psi("identity, blur=0.5") == [("identity", 1), ("blur", 0.5)]


@pytest.mark.parametrize("value", ["-1", "inf", "nan", "much"])
def test_lambda_is_a_number_of_0_or_more(value: str) -> None:
    with pytest.raises(ValueError, match=r"neither a number|not 0 or more"):
        parse_lambda(value)
    assert parse_lambda("0") == 0


@pytest.mark.parametrize("setting", ["refiner_width", "refiner_blocks", "refiner_kernel", "refiner_block_kernel"])
def test_networks_too_large_to_load_are_refused(setting: str) -> None:
    TrainConfig.model_validate({"synthetic": "x", "real": "y", setting: 4095})
    with pytest.raises(ValidationError, match="less than or equal to 4096"):
        TrainConfig.model_validate({"synthetic": "x", "real": "y", setting: 4097})
