"""What a project has beside its code: workflows, citation, changelog, links, a script for releases."""

import configparser
import importlib.util
import re

import pytest
from documents import ROOT

import keras_snn

DOCUMENTS = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / ".github").rglob("*.md"),
    *(ROOT / "keras_snn").rglob("*.md"),
]


def setup():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config


def text_of(*parts):
    return ROOT.joinpath(*parts).read_text(encoding="utf-8")


@pytest.fixture
def release():
    spec = importlib.util.spec_from_file_location("release", ROOT / "tools" / "release.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_in_documents_lead_to_files():
    for path in DOCUMENTS:
        text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if not re.match(r"https?:|#|mailto:", target):
                assert (path.parent / target.split("#")[0]).exists(), f"{path.name}: {target}"


def test_workflows_and_documents_name_targets_that_there_are():
    targets = set(re.findall(r"^([\w-]+):", text_of("Makefile"), re.MULTILINE))
    workflows = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / ".github").rglob("*.yml"))
    named = set(re.findall(r"run: make ([\w-]+)$", workflows, re.MULTILINE))
    named |= set(re.search(r"target: \[(.*)\]", workflows)[1].split(", "))
    named |= set(re.findall(r"`make ([\w-]+)`", text_of("CONTRIBUTING.md")))
    assert len(named) > 7
    assert named <= targets


def test_workflows_run_actions_of_one_commit_and_may_only_read_by_default():
    """A tag may be moved to other code; what a job may write it names itself."""
    workflows = sorted((ROOT / ".github/workflows").glob("*.yml"))
    assert len(workflows) == 3
    for path in workflows:
        text = path.read_text(encoding="utf-8")
        assert "\npermissions:\n  contents: read\n\n" in text, path.name
        used = re.findall(r"uses: (.*)", text)
        assert used
        assert [
            step for step in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", step)
        ] == []
        assert text.count("actions/checkout@") == text.count("persist-credentials: false")


def test_workflows_and_templates_are_yaml():
    yaml = pytest.importorskip("yaml")
    files = sorted((ROOT / ".github").rglob("*.yml"))
    assert len(files) > 4
    for path in files:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        if path.parent.name == "workflows":
            # `on` is true in YAML 1.1.
            assert {"name", True, "permissions", "jobs"} <= set(found), path.name
            assert all(job["steps"] and job["runs-on"] == "ubuntu-latest" for job in found["jobs"].values())


def test_pull_requests_are_tested_on_every_python_that_is_promised():
    tested = re.findall(
        r'"(3\.\d+)"', re.search(r"python: \[(.*)\]", text_of(".github/workflows/tests.yml"))[1]
    )
    promised = re.findall(r"Python :: (3\.\d+)", setup()["metadata"]["classifiers"])
    assert tested == promised
    assert setup()["options"]["python_requires"] == f">={tested[0]}"


def test_the_readme_is_short_and_its_links_lead_somewhere_from_pypi():
    assert len(text_of("README.md").splitlines()) <= 120
    url = setup()["metadata"]["url"]
    spec = importlib.util.spec_from_file_location("setup", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    links = re.findall(r"(!?)\[[^\]]*\]\(([^)\s]+)\)", module.description())
    pages, files = f"{url}/blob/main/", url.replace("github.com", "raw.githubusercontent.com") + "/main/"
    inside = [(image, target) for image, target in links if target.startswith((pages, files))]
    assert all(target.startswith("https://") for _, target in links)
    assert len(inside) > 10
    for image, target in inside:
        assert target.startswith(files if image else pages)
        assert (ROOT / target.removeprefix(pages).removeprefix(files)).exists(), target


def test_the_version_is_the_same_everywhere():
    assert f"\nversion: {keras_snn.__version__}\n" in text_of("CITATION.cff")
    assert f"\n  version = {{{keras_snn.__version__}}},\n" in text_of("README.md")
    assert f"## [{keras_snn.__version__}]" in text_of("CHANGELOG.md")


def test_the_changelog_keeps_to_its_format():
    """That of https://keepachangelog.com."""
    headings = re.findall(r"^#+ .*$", text_of("CHANGELOG.md"), re.MULTILINE)
    assert headings[:2] == ["# Changelog", "## [Unreleased]"]
    kinds = "Added|Changed|Deprecated|Removed|Fixed|Security"
    allowed = re.compile(rf"## \[\d+\.\d+\.\d+\]( - \d{{4}}-\d\d-\d\d)?|### ({kinds})")
    assert all(allowed.fullmatch(heading) for heading in headings[2:])


def test_a_release_sets_the_version_and_dates_the_changes(release, tmp_path):
    for name in release.CHANGED:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text_of(name), encoding="utf-8")
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- x\n", encoding="utf-8"
    )
    release.prepare(tmp_path, "9.0.1", "2027-01-02")
    changelog, citation, module, readme = (
        (tmp_path / name).read_text(encoding="utf-8") for name in release.CHANGED
    )
    assert changelog == "# Changelog\n\n## [Unreleased]\n\n## [9.0.1] - 2027-01-02\n\n### Added\n\n- x\n"
    assert "\nversion: 9.0.1\n" in citation
    assert '__version__ = "9.0.1"' in module
    assert "\n  version = {9.0.1},\n" in readme
    with pytest.raises(ValueError, match="has no changes"):
        release.prepare(tmp_path, "9.0.2", "2027-01-03")
    with pytest.raises(ValueError, match=r"not below 9\.0\.1\. Received: 9\.0\.0"):
        release.prepare(tmp_path, "9.0.0", "2027-01-03")
