"""The description that PyPI shows: README.md, with links that lead somewhere from there too.

All else is in setup.cfg.
"""

import configparser
import pathlib
import re

from setuptools import setup

ROOT = pathlib.Path(__file__).parent


def description():
    """Return README.md with absolute links: pictures as files, the rest as pages of the repository."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    url = config["metadata"]["url"]
    files = url.replace("github.com", "raw.githubusercontent.com") + "/main"

    def absolute(match):
        image, text, target = match.groups()
        if re.match(r"https?:|#", target):
            return match[0]
        return f"{image}[{text}]({files if image else f'{url}/blob/main'}/{target})"

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.sub(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", absolute, text)


if __name__ == "__main__":
    setup(long_description=description())
