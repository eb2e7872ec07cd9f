"""The page of `biformer visualize` in a real browser: pointer, keys, controls, a phone.

Usage: visualize.py path/to/biformer [--screenshots DIR]; needs Chromium and ChromeDriver (Debian's
packages chromium and chromium-driver), and speaks WebDriver to them with Python alone.
"""

import argparse
import base64
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

PICTURE = Path(__file__).parents[4] / "docs" / "images" / "demo_predictions.png"
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
RIGHT, DOWN, LEFT = "\ue014", "\ue015", "\ue012"
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("biformer", type=Path)
    parser.add_argument("--screenshots", type=Path, help="folder for what the browser shows")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        visualize = [args.biformer.resolve(), "visualize", PICTURE]
        small, large = (Path(folder) / size for size in ("small", "large"))
        for output, size in ((small, []), (large, ["--img-size", "1024"])):
            command = [*visualize, "--output", output, *size]
            subprocess.run(command, check=True, capture_output=True)
        browser = Browser()
        try:
            check(browser, (small / f"{PICTURE.stem}.html").as_uri(), args.screenshots)
            check_cells(browser, (large / f"{PICTURE.stem}.html").as_uri())
        finally:
            browser.close()
    print("the page of visualize: all checks passed")
    return 0


def check(browser: "Browser", page: str, screenshots: Path | None) -> None:
    def shot(name: str) -> None:
        if screenshots:
            screenshots.mkdir(parents=True, exist_ok=True)
            png = base64.b64decode(browser.get("screenshot"))
            (screenshots / f"{name}.png").write_bytes(png)

    browser.resize(1100, 850)
    browser.post("url", url=page)
    said = lambda: browser.run("return document.getElementById('said').textContent")  # noqa: E731
    drawn = lambda: browser.run("return document.getElementById('view').toDataURL()")  # noqa: E731
    wait(lambda: said() != "", "the page says something")
    expect(said(), "The region in row 3, column 3 of 4 × 4 is routed to 8 of 16 regions (50 % of")
    shot("desktop")

    before = drawn()
    browser.move_to("view", -0.45, -0.45)
    expect(said(), "row 1, column 1 of 4 × 4")
    assert drawn() != before, "the pointer changes the drawing"
    browser.keys("view", RIGHT + RIGHT + DOWN + LEFT)
    expect(said(), "row 2, column 2 of 4 × 4")

    for box in ("heat", "regions"):
        before = drawn()
        browser.click(box)
        assert drawn() != before, f"`{box}` changes the drawing"
        browser.click(box)
        assert drawn() == before, f"`{box}` brings it back"

    before = drawn()
    browser.keys("block", LEFT)
    expect(browser.run("return document.getElementById('block-of').textContent"), "2 of 3")
    assert drawn() != before, "the block changes the drawing"
    browser.keys("head", DOWN)
    assert browser.run("return document.getElementById('head').value") == "1"
    browser.keys("stage", RIGHT)
    expect(said(), "attends to all")
    shot("last_stage")
    browser.post("url", url=page + "#stage=2&block=1&place=7")
    wait(lambda: "row 2, column 4" in said(), "the address chooses the place")
    expect(said(), "routed to 4 of 16 regions")

    browser.resize(390, 844)
    width, room = browser.run("return [document.documentElement.scrollWidth, innerWidth]")
    assert width <= room, f"{width} pixels wide on a phone of {room}"
    shot("phone")
    errors = [entry for entry in browser.logs() if entry["level"] == "SEVERE"]
    assert not errors, errors


def check_cells(browser: "Browser", page: str) -> None:
    """The last stage of a large picture: 32 × 32 tokens, shown in cells of 2 × 2."""
    said = lambda: browser.run("return document.getElementById('said').textContent")  # noqa: E731
    browser.post("url", url=page + "#stage=4&block=1&place=0")
    wait(lambda: "2 × 2 tokens in row 1, column 1 of 16 × 16" in said(), "it is said")
    expect(said(), "attend to all 1024 tokens. Colours are means over 2 × 2 tokens.")
    # Every token of the map is coloured, and those of a cell alike.
    wrong = browser.run("""
        const { data, width } = heat.getContext("2d").getImageData(0, 0, 32, 32);
        const at = (x, y) => data.slice(4 * (y * width + x), 4 * (y * width + x) + 4).join();
        return [...Array(1024).keys()].filter(i => {
          const [x, y] = [i % 32, Math.floor(i / 32)];
          return data[4 * i + 3] === 0 || at(x, y) !== at(x & ~1, y & ~1);
        });""")
    assert wrong == [], f"tokens {wrong}"


def expect(found: str, words: str) -> None:
    assert words in found, f"expected `{words}` in `{found}`"


def wait(condition: Any, what: str, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.05)


class Browser:
    """A session of ChromeDriver (https://www.w3.org/TR/webdriver2/)."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.driver = subprocess.Popen(["chromedriver", f"--port={port}", "--silent"])
        self.base = f"http://127.0.0.1:{port}"
        wait(self.is_ready, "ChromeDriver answers")
        options = {"args": FLAGS}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self.call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.base += f"/session/{session['sessionId']}"

    def is_ready(self) -> bool:
        try:
            return self.call("GET", "/status")["ready"]
        except OSError:
            return False

    def call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.read().decode()}") from error

    def get(self, path: str) -> Any:
        return self.call("GET", f"/{path}")

    def post(self, path: str, **body: Any) -> Any:
        return self.call("POST", f"/{path}", body)

    def run(self, script: str) -> Any:
        return self.post("execute/sync", script=script, args=[])

    def resize(self, width: int, height: int) -> None:
        self.post("window/rect", width=width, height=height)

    def element(self, name: str) -> str:
        return self.post("element", using="css selector", value=f"#{name}")[ELEMENT]

    def click(self, name: str) -> None:
        self.post(f"element/{self.element(name)}/click")

    def keys(self, name: str, keys: str) -> None:
        """Focuses an element, then types."""
        self.run(f"document.getElementById('{name}').focus()")
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.post("actions", actions=[{"type": "key", "id": "keys", "actions": actions}])

    def move_to(self, name: str, x: float, y: float) -> None:
        """Moves the pointer to shares of the size from the middle of an element."""
        element = self.element(name)
        rect = self.get(f"element/{element}/rect")
        move = {
            "type": "pointerMove", "origin": {ELEMENT: element},
            "x": round(x * rect["width"]), "y": round(y * rect["height"]),
        }  # fmt: skip
        self.post("actions", actions=[{"type": "pointer", "id": "mouse", "actions": [move]}])

    def logs(self) -> list[dict[str, Any]]:
        return self.post("se/log", type="browser")

    def close(self) -> None:
        try:
            self.call("DELETE", "")
        finally:
            self.driver.terminate()
            self.driver.wait()


if __name__ == "__main__":
    sys.exit(main())
