"""The real vault as a process, the small Twilio, a connection that loses answers, and SIP digests."""

import contextlib
import hashlib
import json
import os
import queue
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

PATIENCE = 30.0
REALM = "sip.test"


def program(variable: str) -> str:
    """The program that an environment variable names. Without it there is nothing to test, which is a failure."""
    path = os.environ.get(variable)
    if not path or not Path(path).is_file():
        raise RuntimeError(f"{variable} names a program: see CONTRIBUTING.md")
    return str(Path(path).resolve())


class Process:
    """A program that runs until it is stopped, and what it says."""

    def __init__(self, command: list[str], folder: Path, environment: Mapping[str, str]) -> None:
        self._lines: queue.Queue[str] = queue.Queue()
        self._child = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            self._lines.put(line)

    def wait_for(self, pattern: str) -> str:
        """The first group of the pattern in the first line that has it."""
        said = []
        with contextlib.suppress(queue.Empty):
            while True:
                said.append(self._lines.get(timeout=PATIENCE))
                if found := re.search(pattern, said[-1]):
                    return found.group(1)
        raise RuntimeError(f"it did not say {pattern!r} but:\n{''.join(said)}")

    def stop(self) -> None:
        self._child.send_signal(signal.SIGTERM)
        try:
            self._child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._reader.join(PATIENCE)
        if self._child.stdout is not None:
            self._child.stdout.close()


@contextlib.contextmanager
def dev_vault(folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """`credvault dev` in a folder; its token is in `credvault-data/dev.token` there. Yields its address."""
    command = [program("CREDVAULT_BIN"), "dev", "--listen", "127.0.0.1:0", "--ops-listen", "off"]
    process = Process(command, folder, environment)
    try:
        yield process.wait_for(r"is ready on (127\.0\.0\.1:\d+)")
    finally:
        process.stop()


@contextlib.contextmanager
def served_vault(folder: Path, listen: str, *options: str) -> Iterator[str]:
    """`credvault serve` on a vault in `data`, which `command` made. Yields its address."""
    command = [program("CREDVAULT_BIN"), "serve", "--data-dir", "data", "--listen", listen, "--ops-listen", "off"]
    process = Process([*command, *options], folder, {})
    try:
        yield str(json.loads(process.wait_for(r"(.*\"taking calls\".*)"))["address"])
    finally:
        process.stop()


def command(folder: Path, *arguments: str) -> None:
    """A command of the vault's, which has to succeed."""
    ran = subprocess.run(
        [program("CREDVAULT_BIN"), *arguments], cwd=folder, env={}, capture_output=True, text=True, timeout=PATIENCE
    )
    assert ran.returncode == 0, ran.stderr


@contextlib.contextmanager
def fake_twilio(folder: Path) -> Iterator[str]:
    """The small Twilio. Yields its URL."""
    process = Process([program("FAKE_TWILIO_BIN"), "--listen", "127.0.0.1:0"], folder, {})
    try:
        yield process.wait_for(r"listens on (http://127\.0\.0\.1:\d+)")
    finally:
        process.stop()


class Lossy:
    """A way to the vault that loses answers: the request arrives, and the connection ends where the answer begins. Or
    all connections die without a word.

    It reads the frames of HTTP/2 (RFC 9113 section 4.1) that the vault sends, and ends the connection instead of the
    first HEADERS for as many answers as it was told to. Or it resets the call there, as a proxy may.
    """

    _HEADERS = 0x1
    _CANCEL = (0x8).to_bytes(4)

    def __init__(self, vault: str) -> None:
        host, _, port = vault.rpartition(":")
        self._vault = (host, int(port))
        self._lock = threading.Lock()
        self._to_lose = 0
        self.lost = 0
        self._resets = False
        self._dead: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = [self._listener]
        self._threads: list[threading.Thread] = []
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._start(self._accept)

    def lose(self, answers: int, reset: bool = False) -> None:
        """Loses the next so many answers: with their connections, or by RST_STREAM with CANCEL."""
        with self._lock:
            self._to_lose, self.lost, self._resets = answers, 0, reset

    def die(self) -> None:
        """Nothing passes any more on the connections that there are, and nobody is told."""
        with self._lock:
            self._dead = set(self._sockets)

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self._listener.accept()
                vault = socket.create_connection(self._vault)
                self._sockets += [caller, vault]
                self._start(lambda caller=caller, vault=vault: self._requests(caller, vault))  # type: ignore[misc]
                self._start(lambda caller=caller, vault=vault: self._answers(caller, vault))  # type: ignore[misc]

    def _requests(self, caller: socket.socket, vault: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := caller.recv(65536):
                if caller not in self._dead:
                    vault.sendall(data)
        _end(caller, vault)

    def _answers(self, caller: socket.socket, vault: socket.socket) -> None:
        with contextlib.suppress(OSError), vault.makefile("rb") as frames:
            while len(head := frames.read(9)) == 9:
                frame = head + frames.read(int.from_bytes(head[:3]))
                if frame[3] == self._HEADERS and self._loses():
                    if not self._resets:
                        break
                    # Behind the headers, without which those of later answers could not be read (RFC 7541).
                    frame += b"\0\0\x04\x03\0" + frame[5:9] + self._CANCEL
                if caller not in self._dead:
                    caller.sendall(frame)
        _end(caller, vault)

    def _loses(self) -> bool:
        with self._lock:
            if self.lost == self._to_lose:
                return False
            self.lost += 1
            return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _end(*self._sockets)
        for thread in self._threads:
            thread.join(PATIENCE)
        for it in self._sockets:
            it.close()


def _end(*sockets: socket.socket) -> None:
    for it in sockets:
        with contextlib.suppress(OSError):
            it.shutdown(socket.SHUT_RDWR)


def digest(username: str, password: str, nonce: str, nc: str, cnonce: str) -> str:
    """`response` of a REGISTER to `REALM` with MD5 and qop auth (RFC 7616 section 3.4.1)."""

    def md5(text: str) -> str:
        return hashlib.md5(text.encode()).hexdigest()

    ha1, ha2 = md5(f"{username}:{REALM}:{password}"), md5(f"REGISTER:sip:{REALM}")
    return md5(f"{ha1}:{nonce}:{nc}:{cnonce}:auth:{ha2}")
