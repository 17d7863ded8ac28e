"""`simgan doctor`: versions, device, cache, and a test of the method on this machine."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import typer

from simgan_cli import __version__
from simgan_cli.cli.command import ConfigFile, Json, with_settings
from simgan_cli.cli.console import echo_err, exit_codes, print_json, strip_control
from simgan_cli.cli.resolve import read_settings
from simgan_cli.data.cache import cache_folder
from simgan_cli.documents import CacheFolder, Check, DoctorDocument
from simgan_cli.settings.doctor import DoctorConfig

if TYPE_CHECKING:
    import torch

PACKAGES = (
    "torch", "torchvision", "numpy", "pillow", "safetensors", "scipy", "pydantic", "typer", "rich", "platformdirs",
)  # fmt: skip
# of [gaze], [plots], [renders], [tensorboard], [onnx] and [hub]
EXTRAS = (
    "h5py", "matplotlib", "openexr", "tifffile", "imagecodecs", "tensorboard", "onnx", "onnxscript", "onnxruntime",
    "huggingface-hub",
)  # fmt: skip


@with_settings(DoctorConfig)
def doctor(flags: dict[str, Any], *, config: ConfigFile = None, json: Json = False) -> None:
    """Show versions, device and cache; test the method.

        simgan doctor

    Run it first, and send its output with a question.
    """
    smaller = "the self-test takes little: end other programs, or give another --device"
    with exit_codes("the self-test", smaller=smaller, json=json):
        settings = read_settings(DoctorConfig, flags, config)
        from simgan_cli.engine.runtime.device import resolve_device
        from simgan_cli.engine.selftest import self_test  # torch takes seconds to import

        device = resolve_device(settings.device)
        cache = _cache(None if settings.cache == "off" else settings.cache)
        document = _document(device, cache, self_test(device))
    print_json(document) if json else _print(document)
    if not document["healthy"]:
        raise typer.Exit(1)


def _document(device: "torch.device", cache: CacheFolder, checks: list[Check]) -> DoctorDocument:
    """Return versions, device, precision, cores, cache and checks."""
    import torch

    from simgan_cli.engine.runtime.device import precision_reason, resolve_precision

    return {
        "schema": "simgan.doctor/1",
        "versions": {
            "simgan": __version__,
            "python": platform.python_version(),
            **{name: _version(name) for name in (*PACKAGES, *EXTRAS)},
        },
        "platform": platform.platform(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "precision": resolve_precision("auto", device),
        "precision_reason": precision_reason(device),
        "threads": torch.get_num_threads(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cache": cache,
        "checks": checks,
        "healthy": all(check["ok"] for check in checks),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cache(cache: str | None) -> CacheFolder:
    folder = cache_folder(cache)
    return {"folder": str(folder), "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())}


def _print(document: DoctorDocument) -> None:
    """Write the facts to stdout as plain lines, and failures to stderr."""
    cache, checks = document["cache"], document["checks"]
    rows = [*document["versions"].items()]
    rows += [
        ("platform", document["platform"]),
        ("device", f"{document['device']} ({document['device_name']})"),
        ("precision", f"{document['precision']}: {document['precision_reason']}"),
        ("threads", f"{document['threads']} (cores: {document['cores']})"),
        ("cache", f"{cache['folder']}: {cache['bytes'] / 1e6:,.1f} MB; may be deleted"),
    ]
    rows += [
        (check["name"], f"{'ok' if check['ok'] else 'FAILED'}: {check['found']} ({check['seconds']:.1f} s)")
        for check in checks
    ]
    for name, value in rows:
        sys.stdout.write(strip_control(f"{name:>12}  {value or 'not installed'}") + "\n")
    for check in checks:
        if not check["ok"]:
            echo_err(f"error: {check['name']}: {check['found']}", "bold red")
