"""More bad input to the installed program: settings files, names that are not text, caches with holes.

test_errors.py has the folders and images; this file has what surrounds them.
"""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from simgan_cli.cli.resolve import gather
from tests.conftest import Domains
from tests.helpers import SIMGAN, TINY, UNPRIVILEGED, needs_permissions, simgan, write_images, write_refiner


def assert_usage_error(*arguments: str | Path, says: tuple[str, ...], env: dict[str, str] | None = None) -> None:
    result = simgan("train", *arguments, env=env)
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    for words in says:
        assert words in result.stderr


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    return path


@pytest.mark.slow
@needs_permissions
def test_an_image_without_permission_is_skipped_and_named(domains: Domains) -> None:
    locked = domains.synthetic / "3.png"
    locked.chmod(0)
    result = simgan("train", *domains.flags, *TINY, prefix=UNPRIVILEGED)
    assert result.returncode == 0, result.stderr
    assert f"{locked}: permission denied" in result.stderr
    assert "skipped 1 unreadable images of 12" in result.stderr


@pytest.mark.slow
@needs_permissions
def test_an_out_folder_without_permission(domains: Domains) -> None:
    domains.out.mkdir()
    domains.out.chmod(0o500)
    result = simgan("train", *domains.flags, *TINY, prefix=UNPRIVILEGED)
    assert result.returncode == 1, result.stderr
    assert f"{domains.out}" in result.stderr
    assert "Permission denied" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_out_is_a_file(domains: Domains) -> None:
    domains.out.write_text("years of work")
    assert_usage_error(*domains.flags, says=(f"--out {domains.out}: a file, not a folder",))
    assert domains.out.read_text() == "years of work"


@pytest.mark.slow
def test_out_inside_the_synthetic_folder(domains: Domains) -> None:
    out = domains.synthetic / "run"
    assert_usage_error(*domains.flags, "--out", out, says=(str(out), "inside --synthetic"))
    assert not out.exists()


@pytest.mark.slow
def test_all_wrong_types_of_a_file_are_reported_at_once(domains: Domains, tmp_path: Path) -> None:
    file = toml(tmp_path, '[train]\nsteps = "many"\nbatch-size = 2.5\nflip = "maybe"\nsize = [3]\nout = 3\nreal = 4\n')
    folders = ["--synthetic", str(domains.synthetic)]
    assert_usage_error(
        *folders, "--config", file, says=("--steps:", "--batch-size:", "--flip:", "--size", "--out:", "--real:")
    )


@pytest.mark.slow
def test_settings_outside_their_table(domains: Domains, tmp_path: Path) -> None:
    file = toml(tmp_path, "steps = 3\n")
    assert_usage_error(*domains.flags, "--config", file, says=(str(file), "'steps'", "below [train]"))


@pytest.mark.slow
def test_a_settings_file_that_is_a_folder_or_not_text(domains: Domains, tmp_path: Path) -> None:
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path, binary):
        assert_usage_error(*domains.flags, "--config", path, says=(str(path), "cannot be read as TOML"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_settings_file_is_read_in_any_encoding_and_with_any_line_ends(
    tmp_path: Path, encoding: str, end: str
) -> None:
    path = tmp_path / "settings.toml"
    path.write_bytes(end.join(["# Größe", "[train]", "synthetic = 'rendérs'", "steps = 7", ""]).encode(encoding))
    assert gather("train", {}, path, {}) == {"synthetic": "rendérs", "steps": 7}


@pytest.mark.slow
def test_a_settings_file_of_another_encoding_says_how_to_save_it(domains: Domains, tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_bytes("[train]\n# Größe".encode("latin-1"))
    assert_usage_error(*domains.flags, "--config", path, says=(str(path), "byte 12 is no UTF-8", "save it as UTF-8"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "piped"),
    [("renders\r\n".encode("utf-16"), False), (b"renders\0", True), (b"\xef\xbb\xbf.\\renders  \r\n", False)],
)
def test_a_list_of_folders_is_read_however_it_was_written(tmp_path: Path, content: bytes, piped: bool) -> None:
    write_images(tmp_path / "renders", 2, 1)
    (tmp_path / "list").write_bytes(content)
    model = write_refiner(tmp_path / "model")
    command = [SIMGAN, "refine", "--from-file", "-" if piped else "list", "--model", str(model), "--out", "out"]
    with (tmp_path / "list").open("rb") as file:
        result = subprocess.run(
            [*command, "--dry-run"], cwd=tmp_path, stdin=file, capture_output=True, text=True, check=False
        )
    assert result.returncode == 0, result.stderr
    assert "2 images" in result.stderr + result.stdout


@pytest.mark.slow
def test_a_list_that_is_no_list_is_a_usage_error(tmp_path: Path) -> None:
    model = write_refiner(tmp_path / "model")
    random = np.random.default_rng(0).bytes(20_000).replace(b"\n", b"")
    for content in (random, b"\xff\xfe" + random, b"\x89PNG\r\n\x1a\n", b"\0\0\0", b" \n \n", b"x" * 5000):
        (tmp_path / "list").write_bytes(content)
        result = simgan("refine", "--from-file", tmp_path / "list", "--model", model, "--out", tmp_path / "out")
        assert result.returncode == 2, result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_a_wrong_value_in_the_environment(domains: Domains) -> None:
    assert_usage_error(*domains.flags, env={"SIMGAN_FLIP": "perhaps"}, says=("--flip:", "perhaps"))


@pytest.mark.slow
def test_cuda_on_a_machine_without_it(domains: Domains) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    assert_usage_error(*domains.flags, *TINY, "--device", "cuda", says=("--device cuda", "cpu"))


@pytest.mark.slow
def test_a_device_beyond_all_numbers(domains: Domains) -> None:
    assert_usage_error(*domains.flags, *TINY, "--device", "cuda:99999999999999999999", says=("--device: ",))


@pytest.mark.slow
def test_wrong_values_on_resuming_are_usage_errors(domains: Domains) -> None:
    assert simgan("train", *domains.flags, *TINY).returncode == 0
    more = ["--resume", "auto", "--lambda", "-1", "--size", "big"]
    assert_usage_error(*domains.flags, *more, says=("--lambda: ", "--size: 'big' is not HEIGHTxWIDTH"))


@pytest.mark.slow
def test_a_run_to_go_on_from_is_not_forked_unasked(domains: Domains) -> None:
    assert simgan("train", *domains.flags, *TINY).returncode == 0
    for place in (domains.out / "checkpoints" / "step-00000005", domains.out):
        says = (f"--resume {place}: lies in another run than --out simgan-run", "give --out")
        assert_usage_error(*domains.flags[:4], "--resume", place, says=says)
        resumed = simgan("train", *domains.flags, *TINY, "--resume", str(place), "--steps", "4")
        assert resumed.returncode == 0, resumed.stderr


@pytest.mark.slow
def test_a_repeated_command_never_goes_back_in_its_own_run(domains: Domains) -> None:
    assert simgan("train", *domains.flags, *TINY, "--save-every", "2", "--keep", "0").returncode == 0
    early = domains.out / "checkpoints" / "step-00000002"
    says = (f"--resume {early}: its run has checkpoints up to step 5", "--resume auto", "another --out")
    assert_usage_error(*domains.flags, "--resume", early, says=says)
    (early.parent / "first").symlink_to(early.name)
    assert_usage_error(*domains.flags, "--resume", early.with_name("first"), says=("up to step 5",))
    (early.parent / "first").unlink()
    assert {path.name for path in early.parent.iterdir()} == {f"step-{step:08}" for step in (2, 4, 5)}
    for step in (4, 5):
        shutil.rmtree(early.parent / f"step-{step:08}")
    again = simgan("train", *domains.flags, *TINY, "--resume", early)
    assert again.returncode == 0, again.stderr


@pytest.mark.slow
def test_presets_yield_to_a_file_and_files_to_flags(domains: Domains, tmp_path: Path) -> None:
    file = toml(tmp_path, '[train]\npreset = "hands"\nrefiner_kernel = 5\nrefiner_blocks = 2\nflip = true\n')
    more = ["--refiner-blocks", "1", "--no-flip", "--dry-run"]
    result = simgan("train", *domains.flags, "--config", file, *more)
    assert result.returncode == 0, result.stderr
    shown = dict(line.split() for line in result.stderr.splitlines() if len(line.split()) == 2)
    found = [shown[key] for key in ("size", "refiner-block-kernel", "refiner-kernel", "refiner-blocks", "flip")]
    assert found == ["224x224", "7", "5", "1", "False"]
    assert not domains.out.exists()


@pytest.mark.slow
def test_names_that_are_not_utf8(domains: Domains, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"render\xff")
    domains.synthetic.rename(folder)
    (folder / os.fsdecode(b"broken\xfe.png")).write_bytes(b"")
    flags = ["--synthetic", str(folder), *domains.flags[2:], *TINY]
    result = simgan("train", *flags)
    assert result.returncode == 0, result.stderr
    assert "broken\\udcfe.png: empty file" in result.stderr
    resumed = simgan("train", *domains.flags[2:], "--resume", "auto", "--steps", "4")
    assert resumed.returncode == 0, resumed.stderr


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "deleted"])
def test_a_cache_entry_with_holes_is_made_again(domains: Domains, tmp_path: Path, damage: str) -> None:
    cache = tmp_path / "cache"
    flags = [*domains.flags, *TINY, "--cache", str(cache)]
    assert simgan("train", *flags).returncode == 0
    for path in cache.rglob("pixels.bin"):
        path.write_bytes(path.read_bytes()[:-1]) if damage == "cut" else path.unlink()
    resumed = simgan("train", *flags, "--resume", "auto", "--steps", "4")
    assert resumed.returncode == 0, resumed.stderr


@pytest.mark.slow
def test_images_too_small_for_the_networks(domains: Domains) -> None:
    for folder in (domains.synthetic, domains.real):
        shutil.rmtree(folder)
        write_images(folder, 4, 1 if folder == domains.real else 2, (2, 2))
    assert_usage_error(*domains.flags, *TINY, says=("images of 2x2 are too small",))
