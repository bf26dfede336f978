import configparser
import re

from documents import ROOT


def bounds(text):
    """Return versions by name, as three numbers."""
    found = re.findall(r"^([\w-]+)(?:>=|==)([\d.]+)$", text, flags=re.MULTILINE)
    return {name: [*map(int, version.split(".")), 0, 0][:3] for name, version in found}


def test_the_oldest_versions_that_are_tested_are_those_that_are_allowed():
    """Of all that tests install; `make test-oldest` runs them."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = config["options.extras_require"]
    included = re.search(r"keras-snn\[(.*)\]", extras["test"])[1].split(",")
    allowed = bounds(config["options"]["install_requires"])
    for extra in ("test", *included):
        allowed |= bounds(extras[extra])
    exact = bounds((ROOT / "tests" / "oldest.txt").read_text(encoding="utf-8"))
    assert len(allowed) > 10
    assert {name: exact.get(name) for name in allowed} == allowed
