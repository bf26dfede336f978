"""What the callback writes, shown by a real TensorBoard in a real browser, both on this machine only."""

import base64
import contextlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request

import networks
import pytest
from contracts import convert

from keras_snn.callbacks import SpikeRateTensorBoard
from keras_snn.simulation.internals import internals

MISSING = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
QUIET += ["--disable-background-networking", "--disable-component-update", "--window-size=1400,1000"]


@contextlib.contextmanager
def started(command, pattern):
    """Start a server; give what `pattern` finds in its output, and end it after the block."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if found := re.search(pattern, line):
                yield found.group(1)
                return
        raise AssertionError(f"{command[0]} ended: {''.join(lines)}")
    finally:
        process.kill()
        process.communicate()


class Browser:
    """A session of Chromium, driven as in the WebDriver standard."""

    def __init__(self, port, profile):
        self.address = f"http://127.0.0.1:{port}/session"
        arguments = [*QUIET, f"--user-data-dir={profile}"]
        chrome = {"binary": shutil.which("chromium"), "args": arguments}
        session = self.ask("", {"capabilities": {"alwaysMatch": {"goog:chromeOptions": chrome}}})
        self.address += f"/{session['sessionId']}"

    def ask(self, path, data=None, method=None):
        body = None if data is None else json.dumps(data).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.address + path, body, headers, method=method)
        # Not through a proxy.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def open_until(self, url, texts):
        """Open a page and wait until it shows all texts; return those it does not."""
        self.ask("/url", {"url": url})
        for _ in range(60):
            script = {"script": "return document.body.innerText", "args": []}
            # Tags are shown in pieces.
            shown = "".join(self.ask("/execute/sync", script).split())
            missing = [text for text in texts if text not in shown]
            if not missing:
                break
            time.sleep(1)
        return missing

    def __enter__(self):
        return self

    def __exit__(self, *error):
        # Else Chromium outlives its driver.
        self.ask("", method="DELETE")

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.ask("/screenshot")))


@pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}, as in Debian's packages")
@pytest.mark.skipif(not importlib.util.find_spec("tensorboard"), reason="needs tensorboard")
@pytest.mark.process
def test_tensorboard_shows_the_rates_in_a_browser(rng, tmp_path):
    model = networks.build(networks.plain, rng)
    x = networks.data_for(model, rng)
    snn = convert(model, x, timesteps=16)
    y = model.predict(x, verbose=0).argmax(axis=-1)
    snn.compile(loss="sparse_categorical_crossentropy")
    callback = SpikeRateTensorBoard(tmp_path / "logs", histogram_freq=1, accuracy_data=(x, y))
    snn.evaluate(x, y, verbose=0, callbacks=[callback])
    name = next(iter(internals(snn).counter.layers))
    # Histograms, too, have a group of cards; other pages hide their text in a shadow tree.
    texts = [
        "accuracy_over_time",
        f"firing_rate/{name}",
        "firing_rates4cards",
        "saturated",
        "silent",
        "sparsity",
    ]
    board = [sys.executable, "-m", "tensorboard.main", "--logdir", str(tmp_path / "logs")]
    board += ["--host", "127.0.0.1", "--port", "0", "--load_fast", "false"]
    driver = [shutil.which("chromedriver"), "--port=0"]
    with (
        started(board, r"(http://127\.0\.0\.1:\d+)") as url,
        started(driver, r"successfully on port (\d+)") as port,
        Browser(port, tmp_path / "profile") as browser,
    ):
        assert not browser.open_until(f"{url}/#timeseries", texts)
        browser.screenshot(tmp_path / "timeseries.png")
    assert (tmp_path / "timeseries.png").stat().st_size > 10_000
