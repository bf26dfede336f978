"""The site that `make docs` builds, as it was built: pages, reference, pictures."""

import html
import html.parser
import importlib.util
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.parse

import pytest
from documents import ROOT

import keras_snn

MODULES = tuple(name for name in keras_snn.__all__ if inspect.ismodule(getattr(keras_snn, name)))


class Page(html.parser.HTMLParser):
    """What a page holds: places that links may lead to, links, and what a browser loads with it."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.loaded = [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids += [found["id"]] if found.get("id") else []
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag in ("img", "script") and "src" in found:
            self.loaded.append(found["src"])
        elif tag == "link" and found.get("rel") in ("stylesheet", "icon", "preconnect"):
            self.loaded.append(found["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("mkdocstrings") is None:
        pytest.skip("the site needs keras-snn[docs]")
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr[-2000:]
    return {path: Page(path) for path in folder.rglob("*.html") if path.name != "404.html"}


@pytest.mark.process
def test_the_site_has_every_public_name_with_convert_first_and_nothing_from_elsewhere(site):
    ids = [name for page in site.values() for name in page.ids]
    public = {f"keras_snn.{name}" for name in keras_snn.__all__ if name not in (*MODULES, "__version__")}
    for module in MODULES:
        public |= {f"keras_snn.{module}.{name}" for name in getattr(keras_snn, module).__all__}
    assert public <= set(ids)
    described = set()
    for path in site:
        sections = re.split(r'<h3 id="', path.read_text(encoding="utf-8"))[1:]
        described |= {section.split('"')[0] for section in sections if "<p>" in section}
    assert public <= described
    (reference,) = (page for path, page in site.items() if path.parent.name == "reference")
    assert next(name for name in reference.ids if name.startswith("keras_snn.")) == "keras_snn.convert"
    for path, page in site.items():
        for target in [*page.loaded, *page.links]:
            parts = urllib.parse.urlsplit(target)
            if parts.scheme or parts.netloc:
                assert target not in page.loaded, f"{path} loads {target}"
            elif parts.path:
                assert (path.parent / urllib.parse.unquote(parts.path)).exists(), f"{path}: {target}"
        text = path.read_text(encoding="utf-8")
        # The theme asks api.github.com for numbers of a repository where it finds this.
        assert 'data-md-component="source"' not in text, path
        # What is returned is a sentence, of which a colon makes a type.
        assert not re.search(r"field-body\">\s*<code>[^<]*`", text), path
        assert not re.search(r"field-body\">\s*–", text), path
        # Docstrings that were not understood show their headings as they are.
        assert not any(f"<p>{heading}:" in text for heading in ("Args", "Returns", "Raises")), path


@pytest.mark.process
def test_no_page_is_wider_than_a_phone(site, tmp_path):
    """Tables and code that are wider scroll, and the page around them does not."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium is installed")
    # Scripts of the pages stay off: they change no width, and take most of the time.
    frame = '<iframe src="{}" width="390" height="1" sandbox="allow-same-origin"></iframe>'
    frames = "".join(frame.format(path.as_uri()) for path in site)
    measure = "f => [f.src, f.contentDocument.documentElement.scrollWidth]"
    collect = f"JSON.stringify([...document.querySelectorAll('iframe')].map({measure}))"
    page = tmp_path / "frames.html"
    page.write_text(f"<body>{frames}<script>onload = () => {{document.title = {collect}}}</script>")
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]
    command += ["--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command += ["--disable-extensions", "--allow-file-access-from-files"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    shown = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    widths = json.loads(html.unescape(re.search("<title>(.*?)</title>", shown.stdout).group(1)))
    assert len(widths) == len(site)
    assert not [(address, width) for address, width in widths if width > 390]
