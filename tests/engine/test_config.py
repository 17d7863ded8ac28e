"""The recipe `paper` against the numbers of Shrivastava et al. (CVPR 2017), Sec. 3 and the supplementary material."""

from simgan_cli.engine.config import TrainConfig, defaults_of


def paper(preset: str) -> TrainConfig:
    return TrainConfig.model_validate({"synthetic": "x", "real": "y"} | defaults_of("paper", preset))


def test_the_recipe_for_eyes_is_the_papers() -> None:
    eyes = paper("eyes")
    assert (eyes.size, eyes.channels) == ((35, 55), "1")
    assert (eyes.pretrain_refiner, eyes.pretrain_discriminator) == (1000, 200)
    assert (eyes.refiner_updates, eyes.discriminator_updates, eyes.batch_size) == (2, 1, 512)
    assert (eyes.optimizer, eyes.refiner_lr, eyes.discriminator_lr, eyes.lr_drop_step) == ("sgd", 0.001, 0.001, 0)
    assert (eyes.adversarial, eyes.psi, eyes.refiner_width, eyes.refiner_blocks) == ("local", "identity", 64, 4)


def test_the_recipe_for_hands_is_the_papers() -> None:
    hands = paper("hands")
    assert (hands.size, hands.channels) == ((224, 224), "1")
    assert (hands.pretrain_refiner, hands.pretrain_discriminator) == (500, 200)
    assert (hands.refiner_updates, hands.discriminator_updates) == (2, 1)
    assert (hands.optimizer, hands.refiner_lr, hands.discriminator_lr) == ("sgd", 0.0002, 0.0002)
    assert hands.lr_drop_step == 600_000
    assert (hands.refiner_width, hands.refiner_blocks, hands.refiner_kernel) == (64, 10, 7)


def test_what_the_paper_leaves_open_is_chosen() -> None:
    assert {"lambda", "history_size", "steps", "refiner_output", "refiner_padding"} <= set(defaults_of("paper", "eyes"))
