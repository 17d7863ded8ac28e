"""Bad images, folders and checkpoints: the right exit code, the path, the advice, no traceback."""

import json
import re
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simgan_cli.engine.export.network_folder import save_network
from simgan_cli.engine.method.gaze_estimator import Estimator
from simgan_cli.engine.metrics import realism
from tests.conftest import Domains
from tests.helpers import TINY, UNPRIVILEGED, invoke, needs_permissions, simgan, write_images


def assert_fails(code: int, domains: Domains, *more: str, says: tuple[str, ...]) -> None:
    result = invoke("train", *domains.flags, *TINY, *more, code=code)
    assert [words for words in says if words not in result.stderr] == [], result.stderr


def only(folder: Path, *files: str) -> None:
    """Replace the files of a folder by empty ones of these names."""
    shutil.rmtree(folder)
    folder.mkdir()
    for name in files:
        (folder / name).touch()


def replace(folder: Path, count: int, shape: tuple[int, ...]) -> Path:
    shutil.rmtree(folder)
    return write_images(folder, count, 3, shape)


def replace_by_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("years of work")


def put_estimator(d: Domains) -> None:
    save_network(d.out.with_name("estimator"), Estimator("cnn", 35, 55), {}, {})


CASES: dict[str, tuple[Callable[[Domains], Any], list[str], int, tuple[str, ...]]] = {
    "a missing folder": (lambda d: shutil.rmtree(d.real), [], 2, ("{real}", "no such folder")),
    "a file for a folder": (lambda d: replace_by_file(d.real), [], 2, ("{real}", "a file, not a folder")),
    "a file for --out": (lambda d: d.out.write_text(""), [], 2, ("--out {out}: a file, not a folder",)),
    "an empty folder": (lambda d: only(d.real), [], 4, ("{real}", "no image among its files", ".png")),
    "no image": (lambda d: only(d.synthetic, "labels.csv"), [], 4, ("{synthetic}", "no image among its files")),
    "nothing readable": (
        lambda d: only(d.real, "0.png", "1.png", "2.png"), [], 4,
        ("none of 3 images can be read", "{real}/0.png", "empty file"),
    ),
    "mixed sizes": (
        lambda d: write_images(d.synthetic / "larger", 1, 3, (32, 40)), [], 4,
        ("mixed sizes", "16x20", "32x40", "larger/0.png", "--size"),
    ),
    "mixed channels": (
        lambda d: write_images(d.synthetic / "colour", 1, 3, (16, 20, 3)), [], 4,
        ("mixed channels", "colour/0.png", "--channels"),
    ),
    "domains of different sizes": (
        lambda d: replace(d.real, 3, (20, 24)), [], 4,
        ("the domains differ: synthetic images are 16x20 grey, 8 bits and real images are 20x24 grey, 8 bits; "
         "pass --size HEIGHTxWIDTH",),
    ),
    "images too small for the networks": (
        lambda d: [replace(folder, 4, (2, 2)) for folder in (d.synthetic, d.real)], [], 2,
        ("images of 2x2 are too small",),
    ),
    "images too small for psi": (
        put_estimator, ["--psi", "{folder}/estimator"], 2,
        ("images of 16x20 are too small for its network", "a larger --size"),
    ),
    "too few for lambda auto": (
        lambda d: None, ["--lambda", "auto"], 2, ("3 in a domain are too few", "(wanted: 80)"),
    ),
    "one folder twice": (lambda d: None, ["--real", "{synthetic}/../synthetic"], 2, ("same folder",)),
    "one in the other": (
        lambda d: write_images(d.synthetic / "photos", 1, 3), ["--real", "{synthetic}/photos"], 2,
        ("one lies inside the other",),
    ),
    "out inside real": (lambda d: None, ["--out", "{real}/run"], 2, ("--out {real}/run", "inside --real")),
    "contradictions at once": (
        lambda d: None,
        ["--refiner-kernel", "4", "--fit", "crop", "--history-size", "1", "--psi", "dreams", "--batch-size", "8",
         "--adversarial", "global", "--discriminator-scales", "2", "--weights", "Auto"], 2,
        ("--refiner-kernel 4", "--fit crop", "--history-size 1", "--psi dreams", "--discriminator-scales 2",
         "--weights Auto: no such file; give auto, off,"),
    ),
    "labels of an archive": (
        lambda d: shutil.make_archive(str(d.out.with_name("renders")), "tar", d.synthetic),
        ["--synthetic", "{folder}/renders.tar", "--labels", "csv"], 2,
        ("--labels csv", "renders.tar is an archive", "unpack it"),
    ),
    "an absent device": (lambda d: None, ["--device", "cuda:99"], 2, ("--device cuda:99", "use auto, cpu")),
    "divergence": (
        lambda d: None, ["--optimizer", "sgd", "--ema", "0", "--refiner-lr", "1e38", "--save-every", "2"], 4,
        ("diverged before step", "{out}/checkpoints/step-00000002", "--clip-gradient"),
    ),
}  # fmt: skip
WITH_DRY_RUN = ("domains of different sizes", "images too small for psi", "too few for lambda auto")


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow) if "psi" in case else case for case in CASES]
)
def test_an_error_names_the_place_and_what_to_do(case: str, domains: Domains) -> None:
    prepare, more, code, says = CASES[case]
    prepare(domains)
    places = vars(domains) | {"folder": domains.out.parent}
    flags = [text.format_map(places) for text in more]
    words = tuple(text.format_map(places) for text in says)
    assert_fails(code, domains, *flags, says=words)
    if case in WITH_DRY_RUN:
        assert_fails(code, domains, *flags, "--dry-run", says=words)


@pytest.mark.slow
@needs_permissions
@pytest.mark.parametrize(
    ("name", "mode", "code", "words"),
    [
        ("synthetic/locked", 0, 4, "{path}: cannot be read (Permission denied)"),
        ("synthetic/3.png", 0, 0, "{path}: permission denied"),
        ("run", 0o500, 1, "Permission denied"),
    ],
)
def test_missing_permissions_are_named(name: str, mode: int, code: int, words: str, domains: Domains) -> None:
    path = domains.out.parent / name
    if not path.exists():
        write_images(path, 1, 3) if path != domains.out else path.mkdir()
    path.chmod(mode)
    result = simgan("train", *domains.flags, *TINY, prefix=UNPRIVILEGED)
    path.chmod(0o755)
    assert result.returncode == code, result.stderr
    assert words.format(path=path) in result.stderr
    assert str(path) in result.stderr
    assert "Traceback" not in result.stderr


def test_unreadable_images_are_skipped_named_and_counted_unless_strict(domains: Domains) -> None:
    folder = domains.synthetic
    (folder / "zero.png").touch()
    (folder / "corrupt.png").write_bytes(b"this is no image")
    intact = (folder / "0.png").read_bytes()
    (folder / "truncated.png").write_bytes(intact[: len(intact) // 2])
    (folder / "billion.pgm").write_bytes(b"P5 40000 30000 255\n")
    assert_fails(4, domains, "--strict", says=(str(folder / "billion.pgm"), "and 3 more", "--strict"))
    result = invoke("train", *domains.flags, *TINY)
    assert f"{folder / 'zero.png'}: empty file" in result.stderr
    assert f"{folder / 'corrupt.png'}: not an image" in result.stderr
    assert f"{folder / 'truncated.png'}: " in result.stderr
    assert f"{folder / 'billion.pgm'}: " in result.stderr
    assert "100,000,000" in result.stderr
    assert "skipped 4 unreadable images of 16" in result.stderr


def test_out_that_holds_something_else_stays_as_it_is(domains: Domains) -> None:
    domains.out.mkdir()
    (domains.out / "thesis.tex").write_text("years of work")
    assert_fails(2, domains, "--resume", "auto", says=(str(domains.out), "holds something other"))
    assert [path.name for path in domains.out.iterdir()] == ["thesis.tex"]


@pytest.mark.slow
def test_a_quiet_training_still_reports_that_it_gained_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realism, "STEPS", 1)  # of the two-sample classifier, whose result is not tested here
    alike = [write_images(tmp_path / name, 80, seed) for seed, name in enumerate(("synthetic", "real"))]
    folders = ["--synthetic", alike[0], "--real", alike[1], "--out", tmp_path / "run"]
    dry = invoke("train", *folders, "--lambda", "auto", "--dry-run")
    assert re.search(r"lambda +auto\b", dry.stderr)
    result = invoke("train", *folders, "--quiet", *TINY)
    assert "conclusion: synthetic images are as close to real ones as other real ones are" in result.stderr
    assert "realism" not in result.stderr


@pytest.mark.slow
def test_a_full_disk_leaves_the_previous_checkpoint_good(domains: Domains) -> None:
    """The limit on file sizes fails a write as a full disk does, in the middle of a file."""
    few = [
        "--save-every", "4", "--history-size", "800", "--batch-size", "80", "--keep", "0", "--optimizer", "sgd",
        "--refiner-updates", "1",
    ]  # fmt: skip

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (330_000, 330_000))

    flags = [*domains.flags, *TINY, *few, "--steps", "40", "--cache", "off", "--log-every", "100"]
    failed = simgan("train", *flags, "--json", preexec=limit)
    assert failed.returncode == 1, failed.stderr
    assert "File too large" in failed.stderr
    assert "--resume auto" in failed.stderr
    assert "Traceback" not in failed.stderr
    document = json.loads(failed.stdout)
    assert (document["schema"], document["exit_code"]) == ("simgan.error/1", 1)
    assert "File too large" in document["message"]
    saved = sorted(path.name for path in (domains.out / "checkpoints").iterdir())
    assert saved
    assert not any(name.startswith(".tmp") for name in saved)
    resumed = simgan("train", *flags, "--resume", "auto", "--steps", str(int(saved[-1][-8:])), "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert f"resumed {domains.out / 'checkpoints' / saved[-1]}" in resumed.stderr


def test_a_bad_checkpoint_is_named_and_left_alone(domains: Domains) -> None:
    invoke("train", *domains.flags, *TINY)
    folder = domains.out / "checkpoints" / "step-00000005"
    damages: dict[str, Callable[[bytes], bytes]] = {
        "history.safetensors": lambda content: content[:-9],
        "refiner.safetensors": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        "state.json": lambda content: content.replace(b'"step": 5', b'"step": 4'),
    }
    for name, spoiled in damages.items():
        path = folder / name
        content = path.read_bytes()
        path.write_bytes(spoiled(content))
        assert_fails(4, domains, "--resume", "auto", "--steps", "9", says=(str(path), "manifest", "older checkpoint"))
        path.write_bytes(content)
    assert_fails(2, domains, "--resume", "auto", "--lambda", "8", says=("--lambda", "1.0", "8.0"))
    says = ("--lambda: ", "--size: 'big' is not HEIGHTxWIDTH")
    assert_fails(2, domains, "--resume", "auto", "--lambda", "-1", "--size", "big", says=says)
    invoke("train", *domains.flags, *TINY, "--resume", "auto", "--steps", "4")


def test_resuming_another_run_needs_an_explicit_out(domains: Domains) -> None:
    invoke("train", *domains.flags, *TINY)
    for place in (domains.out / "checkpoints" / "step-00000005", domains.out):
        refused = invoke("train", *domains.flags[:4], "--resume", place, code=2)
        assert f"--resume {place}: belongs to another run than the default --out simgan-run" in refused.stderr
        assert "give --out" in refused.stderr
        invoke("train", *domains.flags, *TINY, "--resume", place, "--steps", "4")


def test_a_rerun_never_rewinds_its_own_run(domains: Domains) -> None:
    invoke("train", *domains.flags, *TINY, "--save-every", "2", "--keep", "0")
    early = domains.out / "checkpoints" / "step-00000002"
    says = (f"--resume {early}: its run has checkpoints up to step 5", "--resume auto", "another --out")
    assert_fails(2, domains, "--resume", str(early), says=says)
    assert {path.name for path in early.parent.iterdir()} == {f"step-{step:08}" for step in (2, 4, 5)}
    for step in (4, 5):
        shutil.rmtree(early.parent / f"step-{step:08}")
    invoke("train", *domains.flags, *TINY, "--resume", early)


def test_deleted_pixels_of_the_cache_are_rebuilt(domains: Domains, tmp_path: Path) -> None:
    flags = [*domains.flags, *TINY, "--cache", str(tmp_path / "cache")]
    invoke("train", *flags)
    deleted = list((tmp_path / "cache").rglob("pixels.bin"))
    for path in deleted:
        path.unlink()
    invoke("train", *flags, "--resume", "auto", "--steps", "4")
    assert [path.is_file() for path in deleted] == [True, True]
