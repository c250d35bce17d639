"""The real Apache Kafka 4.3.1 in KRaft mode, one process that is broker and controller."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from coupon_ledger.embedded.guard import Launch
from coupon_ledger.embedded.jars import KAFKA_VERSION, cache_folder, kafka_jars, waiting
from coupon_ledger.embedded.java import Java, find_java, java_environment
from coupon_ledger.embedded.life import EmbeddedServerError, GuardedServer, locked

_FORMAT_SECONDS = 60.0
_PORT_TRIES = 3
#: The first Java that makes an ahead-of-time cache in one run and has compact object headers for good.
_AOT_JAVA = 25
_AOT_CACHES_KEPT = 3

# Measured on two cores: 148 MB resident after a start with these and `_PROPERTIES`, 340 MB without.
_JVM_FLAGS = (
    "-Xms32m", "-Xmx512m", "-Xss512k", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
    "-XX:ReservedCodeCacheSize=48m",
    # A broker out of memory must end, so that its owner sees it, and not limp on.
    "-XX:+ExitOnOutOfMemoryError", "-XX:-UsePerfData", "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
)  # fmt: skip
_JVM_FLAGS_25 = ("-XX:+UseCompactObjectHeaders",)

# The folder of the data is relative to the state folder, the server's working folder: the file's format would
# need escapes for some paths, and takes a comma for a separator.
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
# One broker: every internal topic has one replica, and few partitions.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
# After kill -9 the controller waits for the old session to end: 2 s, not 9.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
# The cleaner's buffer is 128 MB by default, and the threads are for more cores than a small machine has.
log.cleaner.dedupe.buffer.size=8388608
num.io.threads=4
num.network.threads=2
background.threads=2
"""


class EmbeddedKafka(GuardedServer):
    """An Apache Kafka broker on 127.0.0.1, its topics in `state/kafka`, its log in `state/kafka.log`.

    The first start on a machine fetches the jars and makes an ahead-of-time cache, which needs a network and
    about 20 s; later ones need neither.
    """

    name = "kafka"
    title = "Kafka"
    stop_signals = ((signal.SIGTERM, 20.0),)
    ready_seconds = 60.0

    def _ready(self, address: str) -> bool:
        host, port = address.split(":")
        try:
            # The admin client leaves a thread behind when it cannot connect, so it is not the first to try.
            socket.create_connection((host, int(port)), timeout=1.0).close()
        except OSError:
            return False
        try:
            with closing(
                KafkaAdminClient(bootstrap_servers=address, bootstrap_timeout_ms=2_000, request_timeout_ms=2_000)
            ) as admin:
                cluster = admin.describe_cluster()
        except KafkaError:
            return False
        # Another cluster on a port that was ours once is not this one.
        return bool(cluster["brokers"]) and cluster["cluster_id"] == self._cluster_id()

    def _start(self) -> str:
        java = find_java()
        jars = kafka_jars()
        flags = [*_flags(java), *_aot_flags(java, jars)]
        self._format([str(java.program), *flags, "-cp", _class_path(jars)])
        return self._run(java, jars, flags)

    def _run(self, java: Java, jars: Sequence[Path], flags: Sequence[str]) -> str:
        for attempt in range(_PORT_TRIES):
            port, controller_port = self._pick_ports(prefer_earlier=attempt == 0)
            self._write_properties(port, controller_port)
            address = f"127.0.0.1:{port}"
            launch = Launch(
                command=[
                    str(java.program),
                    *flags,
                    "-cp",
                    _class_path(jars),
                    "kafka.Kafka",
                    "kafka.properties",
                ],
                cwd=str(self.state),
                environment=java_environment(),
                log=str(self.log),
                record=str(self._record_path),
                address=address,
                user=None,
                stop_signals=self.stop_signals,
                death_signal=signal.SIGKILL,
                run_folder=None,
            )
            if self._launch(launch):
                return address
            if _free(port) and _free(controller_port):
                break  # It was not for a port that another process took in between.
        raise EmbeddedServerError(f"Kafka ended while it started; see the last lines of {self.log}")

    def _cluster_id(self) -> str:
        for line in (self.data / "meta.properties").read_text().splitlines():
            if line.startswith("cluster.id="):
                return line.removeprefix("cluster.id=")
        raise EmbeddedServerError(f"{self.data / 'meta.properties'} names no cluster id")

    def _format(self, java_command: list[str]) -> None:
        """Make the data folder once, under another name first: a killed format leaves nothing half made."""
        for unfinished in self.state.glob("kafka.new-*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        if self.data.exists():
            return
        new = Path(tempfile.mkdtemp(prefix="kafka.new-", dir=self.state))
        # The ports are written into the first snapshot; a later start with others is accepted.
        self._write_properties(*self._pick_ports(prefer_earlier=True), data=new.name)
        cluster_id = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
        # An id that starts with a dash would be taken for an option.
        command = [*java_command, "kafka.tools.StorageTool", "format", "--standalone", f"-t={cluster_id}"]
        with open(self.log, "ab") as log:
            try:
                code = subprocess.run(
                    [*command, "-c", "kafka.properties"], cwd=self.state, env=java_environment(),
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=_FORMAT_SECONDS,
                    check=False,
                ).returncode  # fmt: skip
            except subprocess.TimeoutExpired:
                raise EmbeddedServerError(f"formatting took over {_FORMAT_SECONDS:.0f} s; see {self.log}") from None
        if code != 0:
            raise EmbeddedServerError(f"formatting failed with code {code}; see the last lines of {self.log}")
        new.rename(self.data)

    def _write_properties(self, port: int, controller_port: int, data: str = "kafka") -> None:
        text = _PROPERTIES.format(port=port, controller_port=controller_port, data=data)
        (self.state / "kafka.properties").write_text(text)
        (self.state / "kafka.ports").write_text(f"{port} {controller_port}\n")

    def _pick_ports(self, prefer_earlier: bool) -> tuple[int, int]:
        """Two free ports, the state folder's earlier ones if they may and can be had."""
        try:
            port, controller_port = map(int, (self.state / "kafka.ports").read_text().split())
            if prefer_earlier and _free(port) and _free(controller_port):
                return port, controller_port
        except (FileNotFoundError, ValueError):
            pass
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            other.bind(("127.0.0.1", 0))
            return one.getsockname()[1], other.getsockname()[1]


class _Training(EmbeddedKafka):
    """The run in which Java writes its ahead-of-time cache, at its end and in about 7 s."""

    stop_signals = ((signal.SIGTERM, 60.0),)

    def __init__(self, state: Path, java: Java, jars: Sequence[Path], output: Path) -> None:
        super().__init__(state)
        self._java, self._jars, self._output = java, jars, output

    def _start(self) -> str:
        flags = _flags(self._java)
        self._format([str(self._java.program), *flags, "-cp", _class_path(self._jars)])
        return self._run(self._java, self._jars, [*flags, f"-XX:AOTCacheOutput={self._output}"])


def _aot_flags(java: Java, jars: Sequence[Path]) -> list[str]:
    """The flag that names the ahead-of-time cache, made on the first call; none where Java cannot make one.

    The cache is beside the jars, and its name holds the Java, the flags and (by its folder) the lock it was
    made with. Starting without one only takes longer, so a failure is noted in a file and not tried again.
    """
    if java.major < _AOT_JAVA:
        return []
    key = hashlib.sha256(repr((java.identity, _flags(java), _class_path(jars))).encode()).hexdigest()
    cache = cache_folder() / f"{key[:16]}.aot"
    failed = cache.with_suffix(".failed")
    if not cache.exists() and not failed.exists():
        with locked(cache_folder() / "lock"):
            if not cache.exists() and not failed.exists():
                _make_aot_cache(java, jars, cache, failed)
    return [f"-XX:AOTCache={cache}"] if cache.exists() else []


def _make_aot_cache(java: Java, jars: Sequence[Path], cache: Path, failed: Path) -> None:
    for unfinished in cache_folder().glob("training-*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    state = Path(tempfile.mkdtemp(prefix="training-", dir=cache_folder()))
    try:
        with (
            waiting(f"Preparing Apache Kafka {KAFKA_VERSION} for fast starts, once"),
            _Training(state, java, jars, state / "new.aot"),
        ):
            pass
        (state / "new.aot").replace(cache)
    except (EmbeddedServerError, OSError) as error:
        failed.write_text(f"{error}\n")
    finally:
        shutil.rmtree(state, ignore_errors=True)
    # Each is 65 MB, and every new Java has its own.
    caches = sorted(cache_folder().glob("*.aot"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in caches[_AOT_CACHES_KEPT:]:
        old.unlink(missing_ok=True)


def _flags(java: Java) -> list[str]:
    return [*_JVM_FLAGS, *(_JVM_FLAGS_25 if java.major >= _AOT_JAVA else ())]


def _class_path(jars: Sequence[Path]) -> str:
    return os.pathsep.join(map(str, jars))


def _free(port: int) -> bool:
    with socket.socket() as probe:
        # As the server itself does: a port in TIME_WAIT counts as free, one that is listened on does not.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
