"""What one busy caller does to another one: 500 slow readers of blobs and 10,000 calls that wait for the same registry."""

import contextlib
import struct
import threading
import time

from http2 import DATA, END_HEADERS, END_STREAM, HEADERS, WINDOW_UPDATE, Connection, frame, grpc_headers, message, string_field
from service import BLOB_DIGEST

CONNECTIONS, STREAMS = 10, 50
BYTES_PER_SECOND = 100 * 1024
PAUSE = 0.5
WAITING_CONNECTIONS, WAITING_STREAMS = 100, 100

TARGET = string_field(1, "registry.test") + string_field(2, "org/app")
SLOW_TAGS = string_field(1, "registry.test") + string_field(2, "org/slow") + b"\x18\xe8\x07"
"""registry, repository, page_size 1,000; the registry takes its time."""


def token(name):
    return ("authorization", f"Bearer {3 * name}")


class Readers:
    """500 streams, each read at 100 KiB/s."""

    def __init__(self, port, name):
        self.over = threading.Event()
        self.bytes = [0] * CONNECTIONS
        self.threads = [
            threading.Thread(target=self._read, args=(number, port, name), daemon=True) for number in range(CONNECTIONS)
        ]
        for thread in self.threads:
            thread.start()

    def _read(self, number, port, name):
        connection = Connection(port)
        request = message(TARGET + string_field(3, BLOB_DIGEST))
        streams = [connection.next_stream() for _ in range(STREAMS)]
        for stream in streams:
            headers = frame(HEADERS, END_HEADERS, stream, grpc_headers("StreamBlob", [token(name)]))
            connection.send(headers + frame(DATA, END_STREAM, stream, request))
        window = struct.pack(">I", int(BYTES_PER_SECOND * PAUSE))
        updates = b"".join(frame(WINDOW_UPDATE, 0, of, window) for stream in streams for of in (0, stream))
        connection.socket.settimeout(PAUSE / 10)
        with contextlib.suppress(ConnectionError):
            while not self.over.is_set():
                connection.send(updates)
                end = time.monotonic() + PAUSE
                while time.monotonic() < end:
                    with contextlib.suppress(TimeoutError):
                        self.bytes[number] += len(connection.socket.recv(1 << 20))
        connection.close()

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join(10)
        return sum(self.bytes)


def wait_for_registry(port, name):
    """10,000 calls that wait for their turn at the registry, as far as the service lets them in."""
    held = []
    for _ in range(WAITING_CONNECTIONS):
        with contextlib.suppress(OSError):  # the service closes connections of a peer that holds all of its memory
            connection = Connection(port)
            held.append(connection)
            headers = grpc_headers("ListTags", [token(name)])
            for _ in range(WAITING_STREAMS):
                stream = connection.next_stream()
                connection.send(
                    frame(HEADERS, END_HEADERS, stream, headers) + frame(DATA, END_STREAM, stream, message(SLOW_TAGS))
                )
    return held
