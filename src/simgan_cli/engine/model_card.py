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

```python
from pathlib import Path
from simgan_cli.engine.export import load_network

refiner = load_network(Path("."))  # this folder
refined = refiner(images).clamp(-1, 1)  # N x C x H x W, float32 in [-1, 1], any height and width
```

Images were preprocessed with: {facts["preprocess"]}. Nothing here shows that refining helps your task: measure it.

## Last metrics
| | |
|---|---|
{numbers or "| none yet | |"}

## Settings
| | |
|---|---|
{rows}
"""
