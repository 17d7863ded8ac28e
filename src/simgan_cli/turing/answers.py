"""Read and score people's answers to pages of the visual Turing test. Imports no torch."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError
from scipy.stats import binom, binomtest

from simgan_cli.documents import Answers, Choice, Trial, TuringScore, TuringScoreDocument
from simgan_cli.errors import DataError

# For single images, and for pairs.
CHOICES: dict[bool, tuple[Choice, Choice]] = {False: ("real", "refined"), True: ("left", "right")}


def read_answers(path: Path) -> Answers:
    """Return the answers in a JSON file that a page gave. Raises DataError for any other file."""
    wanted = "wanted the JSON from a page of simgan turing-test; download it again, or leave it out"
    try:
        answers = Answers.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; give the JSON files that the page downloaded") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(f"{path}: {f'{place}: ' if place else ''}{first['msg']}; {wanted}") from error
    numbers = [tuple(trial.images) for trial in answers.trials]
    if {trial.answer for trial in answers.trials} - set(CHOICES[answers.pairs]):
        raise DataError(f"{path}: an answer is neither {' nor '.join(CHOICES[answers.pairs])}; {wanted}")
    if len({image for images in numbers for image in images}) != len(numbers) * (1 + answers.pairs):
        raise DataError(f"{path}: an image was answered twice, or a pair is incomplete; {wanted}")
    return answers


def score(paths: Sequence[Path]) -> TuringScoreDocument:
    """Return the scores of each page: by person, and for all persons together.

    Raises DataError for a file without answers, or with the same answers as another.
    """
    read: dict[str, tuple[Path, Answers]] = {}
    for path in paths:
        answers = read_answers(path)
        before, _ = read.setdefault(answers.model_dump_json(), (path, answers))
        if before is not path:
            raise DataError(f"{path}: the same answers as {before}; leave one of them out")
    pages: dict[str, list[tuple[Path, Answers]]] = {}
    for path, answers in read.values():
        pages.setdefault(answers.page, []).append((path, answers))
    return {
        "schema": "simgan.turing-test.score/1",
        "pages": [
            {
                "page": page,
                "pairs": group[0][1].pairs,
                "persons": [
                    {"file": str(path), "subject": answers.subject, **figures(answers.pairs, answers.trials)}
                    for path, answers in group
                ],
                "all": figures(group[0][1].pairs, [trial for _, answers in group for trial in answers.trials]),
            }
            for page, group in pages.items()
        ],
    }


def figures(pairs: bool, trials: Sequence[Trial]) -> TuringScore:
    """Return counts, the paper's Table 1, accuracy with Wilson's 95% interval, and the one-sided binomial p-value.

    The p-value is the probability that guessing gives as many correct answers or more (Shrivastava et al., Sec. 3.1).
    """
    correct = sum(trial.correct for trial in trials)
    interval = binomtest(correct, len(trials)).proportion_ci(0.95, "wilson")
    return {
        "trials": len(trials),
        "correct": correct,
        "accuracy": correct / len(trials),
        "ci95": [float(interval.low), float(interval.high)],
        "p": float(binom.sf(correct - 1, len(trials), 0.5)),
        "table": _table(pairs, trials),
    }


def _table(pairs: bool, trials: Sequence[Trial]) -> dict[Choice, dict[Choice, int]]:
    first, second = CHOICES[pairs]
    other = {first: second, second: first}
    counts: Counter[tuple[Choice, Choice]] = Counter(
        (trial.answer if trial.correct else other[trial.answer], trial.answer) for trial in trials
    )
    return {truth: {answer: counts[truth, answer] for answer in other} for truth in other}
