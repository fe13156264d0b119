"""The engine that replicas share: Debian's redis-server, a client for it (RESP2), and servers that respond with garbage."""

import contextlib
import itertools
import random
import signal
import socket
import threading

from peers import Peer, free_port


class Engine(Peer):
    """A redis-server without a password that keeps nothing on disk, and does not compress what `DUMP` returns."""

    def __init__(self, directory, port=None):
        self.port = port or free_port()
        options = {"port": self.port, "bind": "127.0.0.1", "dir": directory, "save": "", "appendonly": "no", "rdbcompression": "no"}
        command = ["redis-server", *itertools.chain.from_iterable((f"--{name}", str(value)) for name, value in options.items())]
        super().__init__("redis-server", command, self.port, directory)
        self.url = f"redis://{self.address}"

    def __exit__(self, *_):
        self.resume()  # a frozen process does not end
        super().__exit__()

    def freeze(self):
        self.popen.send_signal(signal.SIGSTOP)

    def resume(self):
        self.popen.send_signal(signal.SIGCONT)

    def run(self, *command):
        """Runs a command and returns the response."""
        with Client(self.port) as client:
            return client.run(*command)

    def entries(self):
        """Each key with its serialized value."""
        with Client(self.port) as client:
            return {key: client.run("DUMP", key) or b"" for key in client.keys()}

    def damage(self):
        """Flips a bit in the middle of each string value and of each field of a hash. Returns how many were changed."""
        changed = 0
        with Client(self.port) as client:
            for key in client.keys():
                kind = client.run("TYPE", key)
                if kind == b"string":
                    client.run("SET", key, damaged(client.run("GET", key)), "KEEPTTL")
                    changed += 1
                elif kind == b"hash":
                    values = client.run("HGETALL", key)
                    for field, value in zip(values[::2], values[1::2], strict=True):
                        client.run("HSET", key, field, damaged(value))
                        changed += 1
        return changed


def damaged(value):
    at = len(value) // 2
    return value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :] if value else b"damaged"


class Client:
    """Commands over a socket: https://redis.io/docs/latest/develop/reference/protocol-spec/"""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def run(self, *command):
        words = [word if isinstance(word, bytes) else str(word).encode() for word in command]
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
        return self._read()

    def keys(self):
        cursor, found = b"0", set()
        while True:
            cursor, keys = self.run("SCAN", cursor, "COUNT", 1000)
            found.update(keys)
            if cursor == b"0":
                return found

    def _read(self):
        line = self.file.readline()
        kind, value = line[:1], line[1:-2]
        if kind == b"$":
            return None if value == b"-1" else self.file.read(int(value) + 2)[:-2]
        if kind == b"*":
            return [self._read() for _ in range(int(value))]
        if kind == b"-":
            raise SystemExit(f"redis-server: {value.decode()}")
        return value


GARBAGE = {
    "random bytes": lambda: random.Random(1).randbytes(64),
    "a number for everything": lambda: b":7\r\n",
    "a string of 4 GiB that never comes": lambda: b"$4294967296\r\n",
    "other bytes for everything": lambda: b"$5\r\nother\r\n",
    "no response": lambda: b"",
}


class GarbageEngine:
    """Listens on the engine's port and responds to whatever it receives with the same bytes."""

    def __init__(self, port, kind):
        self.response, self.connections = GARBAGE[kind](), []
        self.listener = socket.create_server(("127.0.0.1", port), backlog=128)
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.connections.append(connection)
                threading.Thread(target=self._respond, args=[connection], daemon=True).start()

    def _respond(self, connection):
        with contextlib.suppress(OSError), connection:
            while connection.recv(1 << 16):
                connection.sendall(self.response)
