"""The files that install, check and release the project agree with pyproject.toml and each other."""

import re
import runpy
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = SETTINGS["project"]
LISTED = {
    match[1]: match[2]
    for line in chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    if (match := re.fullmatch(r"([a-z0-9-]+)>=([0-9.]+)", line))
}
FREE = {"torch", "torchvision"}
RESULTS, PROSE = (runpy.run_path(str(ROOT / "scripts" / name)) for name in ("results", "prose"))


def pins(text: str) -> dict[str, str]:
    found = dict(line.split("==") for line in text.splitlines() if not line.startswith("#"))
    assert all(re.fullmatch(r"[0-9][0-9a-z.]*", version) for version in found.values())
    return found


def test_everything_but_pytorch_is_locked() -> None:
    locked = pins((ROOT / ".ci" / "constraints.txt").read_text())
    assert LISTED.keys() - locked.keys() == FREE
    assert not any(re.match("torch|nvidia|triton|cuda", name) for name in locked)
    for name, least in LISTED.items():
        if name in locked:
            assert [int(part) for part in re.findall(r"\d+", locked[name])] >= [int(p) for p in least.split(".")], name


@pytest.mark.slow
def test_the_oldest_versions_are_the_lower_bounds_of_what_users_install() -> None:
    result = subprocess.run([sys.executable, ROOT / "scripts" / "oldest"], capture_output=True, text=True, check=True)
    pinned = pins(result.stdout)
    assert {line.split(">=")[0] for line in PROJECT["dependencies"]} <= pinned.keys()
    assert {"scipy", "h5py", "matplotlib", "tensorboard"} <= pinned.keys()
    assert all(LISTED[name] == version for name, version in pinned.items())


def test_a_release_has_absolute_links() -> None:
    metadata_of = runpy.run_path(str(ROOT / "hatch_build.py"))["metadata_of"]
    readme = (
        "![a picture, of eyes](docs/a.png) [page](docs/p.md#part) [two](a.md), [three](b.md)\n"
        "[away](https://arxiv.org/abs/1) [here](#start) [write](mailto:a@b.c)"
    )
    release = {"GITHUB_SERVER_URL": "https://host", "GITHUB_REPOSITORY": "o/r", "GITHUB_REF_NAME": "v1.2"}
    made = metadata_of(readme, release)
    assert made["readme"] == {
        "content-type": "text/markdown",
        "text": "![a picture, of eyes](https://host/o/r/raw/v1.2/docs/a.png) "
        "[page](https://host/o/r/blob/v1.2/docs/p.md#part) "
        "[two](https://host/o/r/blob/v1.2/a.md), [three](https://host/o/r/blob/v1.2/b.md)\n"
        "[away](https://arxiv.org/abs/1) [here](#start) [write](mailto:a@b.c)",
    }
    assert made["urls"]["Source"] == "https://host/o/r"
    assert all(address.startswith("https://host/o/r") for address in made["urls"].values())
    assert metadata_of(readme, {}) == {"readme": {"content-type": "text/markdown", "text": readme}, "urls": {}}


def test_the_files_of_the_source_distribution_exist() -> None:
    included = SETTINGS["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert [name for name in included if not (ROOT / name).exists()] == []


def test_the_hook_of_git_lints_as_ci_does() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert set(re.findall(r"\[ruff==(.+)\]", hooks)) == {pins((ROOT / ".ci" / "constraints.txt").read_text())["ruff"]}


def test_workflows_name_actions_by_their_full_hash() -> None:
    for workflow in (ROOT / ".github" / "workflows").iterdir():
        used = re.findall(r"uses: (.+)", workflow.read_text())
        assert used
        assert [line for line in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []


def test_the_pages_name_the_makefile_s_targets() -> None:
    targets = set(re.findall(r"^(\w+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets == {"setup", "fix", "test", "check", "docs"}
    for page in ("README.md", "CONTRIBUTING.md"):
        assert set(re.findall(r"`make (\w+)`", (ROOT / page).read_text())) == targets


def test_the_results_page_is_what_its_script_prints(capsys: pytest.CaptureFixture[str]) -> None:
    RESULTS["main"]()
    assert capsys.readouterr().out == (ROOT / "benchmarks" / "RESULTS.md").read_text()


def test_a_training_of_several_seeds_has_means_and_students_interval() -> None:
    summary_of = RESULTS["summary_of"]
    ends = {"synthetic": 8.0, "oracle": 4.0}
    group = [
        {"seed": seed, "errors": ends | {"refined": 8 - 4 * share}} for seed, share in enumerate((0.25, 0.5, 0.75))
    ]
    summary = summary_of(group, [0, 1, 2])
    assert (summary["errors"]["refined"], summary["closure"]["refined"]) == (6, 0.5)
    # by hand: a deviation of 0.25, and 4.303 of its error
    half = 4.303 * 0.25 / 3**0.5
    assert summary["interval"]["refined"] == pytest.approx((0.5 - half, 0.5 + half), abs=1e-3)
    measured = {"seeds": [2, 1, 0], "interval": {"refined": [0.1, 0.9]}}  # an interval over persons, too
    assert summary_of([*group, measured], [0, 1, 2])["interval"]["refined"] == [0.1, 0.9]


def test_sentences_are_counted_outside_tables_code_and_formulas() -> None:
    page = (
        "# A heading\n\nOne two [three](four.md). Five `six seven`\neight, 0.9 nine!\n\n| a | table |\n|---|---|\n\n"
        "- **Ten**: eleven\n- twelve\n\n```sh\na command\n```\n<!-- a comment -->\n$$x = 1$$\n"
    )
    assert PROSE["sentences_of"](page) == ["One two three.", "Five Code eight, 0.9 nine!", "Ten: eleven", "twelve"]


def test_a_page_with_long_sentences_long_lines_or_too_many_lines_is_refused() -> None:
    text = "word " * 45 + "end.\n" + "| " + "x" * 300 + " |\n" + "\n" * 120
    faults = list(PROSE["faults_of"]("README.md", text, 46.0, PROSE["sentences_of"](text)))
    assert [re.sub(r":.*", "", fault) for fault in faults] == [
        "46.0 words a sentence, at most 18", "46 words, at most 40", "line 1 has 229 characters, at most 200",
        "122 lines, at most 120",
    ]  # fmt: skip
