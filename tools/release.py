"""Make a release: set the version, date the changelog, commit and tag.

    python tools/release.py 0.2.0

Pushing the tag publishes it: `git push origin main v0.2.0`.
"""

import argparse
import datetime
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent
CHANGED = ("CHANGELOG.md", "CITATION.cff", "keras_snn/_version.py", "README.md")


def prepare(root, version, date):
    """Write a version into all files that have it, and date the changes of it in the changelog.

    Raises:
        ValueError: If the version is no higher one, or the changelog has no changes.
    """
    changelog, citation, module, readme = (root / name for name in CHANGED)
    text = changelog.read_text(encoding="utf-8")
    current = re.search(r'__version__ = "(.+)"', module.read_text(encoding="utf-8"))[1]
    if not re.fullmatch(r"\d+\.\d+\.\d+", version) or _key(version) < _key(current):
        raise ValueError(f"The version must be X.Y.Z and not below {current}. Received: {version}.")
    if f"## [{version}]" in text:
        raise ValueError(f"CHANGELOG.md has {version} already.")
    changes = re.search(r"^## \[Unreleased\]\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    if changes is None or not changes[1].strip():
        raise ValueError('CHANGELOG.md has no changes under "## [Unreleased]".')
    dated = f"## [Unreleased]\n\n## [{version}] - {date}\n"
    changelog.write_text(text.replace("## [Unreleased]\n", dated, 1), encoding="utf-8")
    _replace(citation, r"^version: .*$", f"version: {version}")
    _replace(readme, r"^  version = \{.*\},$", f"  version = {{{version}}},")
    _replace(module, r'__version__ = ".+"', f'__version__ = "{version}"')


def _key(version):
    return tuple(map(int, version.split(".")))


def _replace(path, pattern, value):
    text = re.sub(pattern, value, path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    path.write_text(text, encoding="utf-8")


def main():
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("version")
    version = parser.parse_args().version

    def git(*arguments):
        command = ["git", *arguments]
        return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()

    if git("status", "--porcelain"):
        print("The working tree has changes. Commit or stash them first.", file=sys.stderr)
        return 1
    try:
        prepare(ROOT, version, datetime.date.today().isoformat())
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    git("commit", "--quiet", "--all", "--message", f"Release {version}")
    git("tag", "--annotate", f"v{version}", "--message", f"keras_snn {version}")
    print(f"Tagged v{version}. To publish it: git push origin HEAD v{version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
