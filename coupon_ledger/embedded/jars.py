"""The jars of Apache Kafka, fetched once into the user's cache folder, checked against the committed lock."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from coupon_ledger.embedded.life import EmbeddedServerError, locked

KAFKA_VERSION = "4.3.1"
LOCK_FILE = Path(__file__).with_name(f"kafka-{KAFKA_VERSION}.lock")
_DOWNLOADS_AT_ONCE = 4
_REQUEST_SECONDS = 30


def cache_folder() -> Path:
    """The folder of this lock's jars (another lock has another) in XDG_CACHE_HOME, else in ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    lock_sum = hashlib.sha256(LOCK_FILE.read_bytes()).hexdigest()
    return Path(base).resolve() / "coupon-ledger" / f"kafka-{KAFKA_VERSION}-{lock_sum[:12]}"


def read_lock() -> dict[str, tuple[str, str]]:
    """From each jar's file name to its Maven coordinate (group:artifact:version) and its SHA-256."""
    jars = {}
    for line in LOCK_FILE.read_text().splitlines():
        if line and not line.startswith("#"):
            coordinate, sha256 = line.split()
            _, artifact, version = coordinate.split(":")
            jars[f"{artifact}-{version}.jar"] = (coordinate, sha256)
    return jars


def kafka_jars() -> list[Path]:
    """Every jar of Kafka's class path, in a fixed order, fetched if this is the first time.

    All sums are checked each time (0.05 s). Raises EmbeddedServerError naming the jar when one differs from
    the lock, is missing or is not in the lock.
    """
    folder = cache_folder() / "jars"
    if not folder.is_dir():
        cache_folder().mkdir(parents=True, exist_ok=True)
        with locked(cache_folder() / "lock"):
            if not folder.is_dir():
                _fetch(folder)
    _check(folder, hint=f"delete {folder} to fetch it again")
    return [folder / name for name in sorted(read_lock())]


def _check(folder: Path, hint: str) -> None:
    wanted = read_lock()
    found = {path.name for path in folder.iterdir()}
    for name in sorted(wanted.keys() - found):
        raise EmbeddedServerError(f"the Kafka jar {name} is missing: {hint}")
    for name in sorted(found - wanted.keys()):
        raise EmbeddedServerError(f"the Kafka jar {name} is not in the lock: {hint}")
    for name, (_, sha256) in wanted.items():
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != sha256:
            raise EmbeddedServerError(f"the Kafka jar {name} differs from the lock: {hint}")


def _fetch(folder: Path) -> None:
    """Fetch exactly the locked jars into a new folder, check them, and only then give the folder its name."""
    try:
        with warnings.catch_warnings():
            # A library of jgo's warns of an unset XDG_RUNTIME_DIR, which nothing here needs.
            warnings.simplefilter("ignore")
            from jgo.maven import MavenContext  # noqa: PLC0415, of the extra
    except ImportError:
        raise EmbeddedServerError(
            "embedded Kafka is not installed: pip install 'coupon-ledger[embedded]', or set KAFKA_BOOTSTRAP"
        ) from None
    for unfinished in folder.parent.glob("jars.new-*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    new = Path(tempfile.mkdtemp(prefix="jars.new-", dir=folder.parent))
    maven = MavenContext(repo_cache=new / "repository", timeout=_REQUEST_SECONDS)

    def fetch(coordinate: str) -> None:
        group, artifact, version = coordinate.split(":")
        jar = maven.project(group, artifact).at_version(version).artifact().resolve()
        jar.rename(new / "jars" / jar.name)

    try:
        (new / "jars").mkdir()
        coordinates = [coordinate for coordinate, _ in read_lock().values()]
        with ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as threads:
            done = threads.map(fetch, coordinates)
            for _ in shown(f"Fetching Apache Kafka {KAFKA_VERSION}, once", done, total=len(coordinates)):
                pass
        _check(new / "jars", hint="refused what was fetched")
        (new / "jars").rename(folder)
    except EmbeddedServerError:
        raise
    except Exception as error:
        # jgo raises what its HTTP client does, and bare RuntimeErrors: there is no narrower class to name.
        reason = str(error).split("\n")[0]
        raise EmbeddedServerError(f"Apache Kafka could not be fetched: {reason}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def shown(title: str, steps: Iterable[object], total: int) -> Iterator[object]:
    """The steps, with a progress bar on a terminal, or one line on stderr where there is none."""
    with _progress(title) as bar:
        yield from steps if bar is None else bar.track(steps, total=total, description=title)


@contextmanager
def waiting(title: str) -> Iterator[None]:
    """The same for a wait without steps."""
    with _progress(title) as bar:
        if bar is not None:
            bar.add_task(title, total=None)
        yield


@contextmanager
def _progress(title: str) -> Iterator[Progress | None]:
    if not sys.stderr.isatty():
        sys.stderr.write(f"{title}\n")
        yield None
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        yield bar
