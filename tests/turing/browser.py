"""A simulated subject of the visual Turing test, in headless Chromium, who knows the true kinds."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=600000"]
Habit = Literal["right", "wrong", "guesses"]

# It recognises pictures by their data, and alternates arrow keys and clicks.
SUBJECT = """
const [kinds, habit, stopAt] = KNOWN, sides = ["ArrowLeft", "ArrowRight"];
let seed = 7, given = 0;
const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
document.getElementById("subject").value = "Zoë <b>";
document.getElementById("start").click();
const timer = setInterval(() => {
  if (!document.getElementById("result").hidden || given === stopAt) return clearInterval(timer);
  const images = [...document.querySelectorAll("#pictures img")];
  if (document.getElementById("count").textContent.split(" ")[0] !== String(given + 1)) return;
  const refined = images.findIndex((image) => kinds[image.src] === "refined");
  const truth = images.length === 2 ? refined : refined === 0 ? 0 : 1;  // buttons: left or refined, right or real
  const side = habit === "guesses" ? Math.round(random()) : habit === "right" ? truth : 1 - truth;
  if (given++ % 2) document.querySelectorAll("#choices button")[side].click();
  else dispatchEvent(new KeyboardEvent("keydown", { key: sides[side] }));
}, 20);
"""


def run_page(page: Path, script: str, *flags: str) -> str:
    """Open a copy of a page with `script` at its end from a file; return the final document."""
    assert CHROMIUM is not None
    copy = page.with_name("scripted.html")
    copy.write_text(page.read_text().replace("</body>", f"<script>{script}</script></body>"))
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={page.parent / 'browser'}", *flags, "--dump-dom", copy.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def subject(key: dict[str, str], habit: Habit, stop_at: int = -1) -> str:
    """Return the script of a subject with a habit, who knows each picture's kind by its data."""
    return SUBJECT.replace("KNOWN", json.dumps([key, habit, stop_at]))


def key_of(page: Path, document: dict[str, Any]) -> dict[str, str]:
    """Return the kind of each picture of a page by its data, from the document of `--json`."""
    data = json.loads(re.findall(r'<script id="data"[^>]*>(.*?)</script>', page.read_text())[0])
    return {url: image["kind"] for url, image in zip(data["images"], document["images"], strict=True)}


def downloaded(dom: str) -> str:
    """Return the JSON that the page offers at its end."""
    return unquote(unescape(re.findall(r'href="data:application/json,([^"]*)"', dom)[0]))
