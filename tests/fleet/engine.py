"""The engine that replicas share: Debian's redis-server, and a client for it (RESP2)."""

import itertools
import signal
import socket

from peers import Peer, free_port


class Engine(Peer):
    """A redis-server that keeps nothing on disk, and does not compress what `DUMP` returns."""

    def __init__(self, directory, port=None, password=None):
        self.port, self.password = port or free_port(), password
        options = {"port": self.port, "bind": "127.0.0.1", "dir": directory}
        options |= {"save": "", "appendonly": "no", "rdbcompression": "no"}
        options |= {"requirepass": password} if password else {}
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
        with Client(self.port, self.password) as client:
            return client.run(*command)

    def entries(self):
        """Each key with its serialized value."""
        with Client(self.port, self.password) as client:
            return {key: client.run("DUMP", key) or b"" for key in client.keys()}

    def damage(self):
        """Flips a bit in the middle of each string value and of each field of a hash. Returns how many were changed."""
        changed = 0
        with Client(self.port, self.password) as client:
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

    def exchange(self):
        """Gives each string value the value of another key. Returns how many were exchanged."""
        with Client(self.port, self.password) as client:
            keys = [key for key in sorted(client.keys()) if client.run("TYPE", key) == b"string"]
            values = [client.run("GET", key) for key in keys]
            for key, value in zip(keys, values[1:] + values[:1], strict=True):
                client.run("SET", key, value, "KEEPTTL")
            return len(keys)


def damaged(value):
    at = len(value) // 2
    return value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :] if value else b"damaged"


class Client:
    """Commands over a socket: https://redis.io/docs/latest/develop/reference/protocol-spec/"""

    def __init__(self, port, password=None):
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        self.file = self.socket.makefile("rb")
        if password:
            self.run("AUTH", password)

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
