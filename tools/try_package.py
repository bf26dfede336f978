"""Install the wheel into a new environment and use it there; run tests of the source distribution in it.

python tools/try_package.py dist
"""

import pathlib
import subprocess
import sys
import tarfile
import tempfile
import venv

# Of the tests of a source distribution: those that need its files, and that are quick.
TESTS = ["tests/test_project.py", "tests/test_results.py", "tests/test_requirements.py"]


def main(dist):
    """Try what is in a folder; raise if something fails."""
    (wheel,), (source,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        venv.create(folder / "env", with_pip=True)
        commands = folder / "env" / "bin"

        def run(name, *arguments, at=folder):
            print("$", name, *arguments, flush=True)
            subprocess.run([commands / name, *map(str, arguments)], cwd=at, check=True)

        run("pip", "install", "--quiet", f"{wheel.resolve()}[plots]")
        run("keras-snn", "--help")
        run("keras-snn", "demo", "--samples", 100, "--output", "digits")
        run("python", "-m", "keras_snn", "evaluate", "digits/snn.keras", "--data", "digits/test.npz")
        with tarfile.open(source) as file:
            file.extractall(folder, filter="data")
        (unpacked,) = folder.glob("keras_snn-*")
        run("pip", "install", "--quiet", "pytest")
        run("python", "-m", "pytest", *TESTS, at=unpacked)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
