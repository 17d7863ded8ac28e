"""The README.md of an exported refiner."""

from typing import Any


def model_card(facts: dict[str, Any], step: int, metrics: dict[str, Any]) -> str:
    """Return Markdown with a Hugging Face header: what the model is, what it was trained on, and how to load it."""
    height, width = facts["size"]
    images = facts["training_images"]
    rows = "\n".join(f"| `{key}` | {value} |" for key, value in facts["training_settings"].items())
    numbers = "\n".join(f"| `{key}` | {value:.4g} |" for key, value in metrics.items() if isinstance(value, float))
    return f"""---
library_name: simgan
tags: [simgan, synthetic-data, image-to-image]
---
# SimGAN refiner

Makes rendered images look like the real images it was trained with, pixel for pixel in place, so that labels stay
true. Trained with `simgan train` for {step} steps on {images["synthetic"]:,} synthetic and {images["real"]:,} real
images of {height}x{width} (height x width). Method: Shrivastava et al., *Learning from Simulated and Unsupervised
Images through Adversarial Training*, CVPR 2017.

```sh
simgan refine renders/ --model . --out refined/
```

```python
import simgan_cli

refiner = simgan_cli.load_refiner(".")  # this folder
refined = refiner(images)  # H x W, H x W x C or N x H x W x C of uint8, uint16, or floats in [-1, 1]
```

Both preprocess images as in training: {facts["preprocess"]}.

Conclusion of the training: {facts["conclusion"]}.

Nothing here shows that refining helps your task: measure it.

## Last metrics
| | |
|---|---|
{numbers or "| none yet | |"}

## Settings
| | |
|---|---|
{rows}
"""
