"""The README.md of an exported refiner."""

from collections.abc import Sequence
from typing import Any

from simgan_cli.errors import plural

GRID = "grid.png"


def model_card(
    facts: dict[str, Any],
    step: int,
    metrics: dict[str, Any],
    *,
    model: str = ".",
    license_id: str = "unknown",
    has_grid: bool = False,
    evaluation: dict[str, Any] | None = None,
) -> str:
    """Return Markdown with a Hugging Face header: the model, its training, and how to load it.

    `model` names it in the commands that are shown. With `has_grid` a picture called GRID lies beside the card.
    `evaluation` is a results.json of `simgan eval-gaze`.
    """
    height, width = facts["size"]
    images = facts["training_images"]
    rows = "\n".join(f"| `{key}` | {value} |" for key, value in facts["training_settings"].items())
    numbers = "\n".join(f"| `{key}` | {value:.4g} |" for key, value in metrics.items() if isinstance(value, float))
    grid = f"\n![Renders, refined renders, and the difference]({GRID})\n" if has_grid else ""
    measured = (
        _evaluation(evaluation) if evaluation else "Nothing here shows that refining helps your task: measure it."
    )
    return f"""---
license: {license_id}
library_name: simgan
pipeline_tag: image-to-image
tags: [simgan, gan, synthetic-data, sim2real, domain-adaptation]
---
# SimGAN refiner

Makes rendered images look like the real images it was trained with, pixel for pixel in place, so that labels stay
true. Trained with `simgan train` for {plural(step, "step")} on {images["synthetic"]:,} synthetic and
{images["real"]:,} real images of {height}x{width} (height x width). Method: Shrivastava et al., *Learning from
Simulated and Unsupervised Images through Adversarial Training*, CVPR 2017.
{grid}
```sh
simgan refine renders/ --model {model} --out refined/
```

```python
import simgan_cli

refiner = simgan_cli.load_refiner("{model}")
refined = refiner(images)  # arrays or tensors of uint8, uint16, or floats in [0, 1]
```

Both take images of any size, and preprocess them as in training: {facts["preprocess"]}.

## Does it help?

Conclusion of the training: {facts["conclusion"]}.

{measured}

## Last metrics
| | |
|---|---|
{numbers or "| none yet | |"}

## Settings
| | |
|---|---|
{rows}
"""


def _evaluation(results: dict[str, Any]) -> str:
    """Return the table of a results.json, and its verdict."""
    unit, test = results["unit"], results["test"]
    persons = f" of {plural(test['persons'], 'person')}" if test.get("persons") else ""
    rows = "\n".join(_row(row) for row in results["rows"])
    comparison = results.get("comparison")
    verdict = ""
    if comparison:
        first, second = comparison["pair"]
        verdict = f"\n\n`{second}` against `{first}`: {comparison['verdict']}."
    return f"""Measured with `simgan eval-gaze` on {plural(test["images"], "labelled real image")}{persons}
(target: {results["target"]}):

| trained on | estimator | images | mean error, {unit} (95%) |
|---|---|---:|---:|
{rows}{verdict}"""


def _row(row: dict[str, Any]) -> str:
    low, high = row["ci95"]
    return f"| {row['name']} | {row['estimator']} | {row['images']:,} | {row['mean']:.2f} ({low:.2f} to {high:.2f}) |"


def missing_facts(facts: dict[str, Any]) -> Sequence[str]:
    """Return the keys of a config.json that a model card needs and that are missing."""
    needed = ("size", "training_images", "training_settings", "preprocess", "conclusion")
    return [name for name in needed if name not in facts]
