"""Readers of blobs, all at once in one thread: each compares every byte that it gets with the content of the blob.

Raw HTTP/2 with large frames, because 200 readers of 256 MiB are 50 GiB. A reader whose stream ends has read the blob when it got
exactly the bytes that it asked for and the trailer. The content's SHA-256 is the digest (see `registry.Blob`), so comparing
with it is comparing the digest, and costs less.
"""

import selectors
import socket
import struct
import time

from http2 import ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, PING, PREFACE, RST_STREAM
from http2 import SETTINGS, WINDOW_UPDATE, frame, grpc_headers, message, string_field

from replicas import NAME

MAX_FRAME_SIZE = 5
"""The setting (RFC 9113, section 6.5.2)."""
LARGEST_FRAME = 1 << 20
WINDOW = 4 << 20
SECONDS = 600
"""All readers must have ended after this time."""

HEADER, CHUNK, TRAILER = 1, 2, 3
"""Fields of StreamBlobResponse."""


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def encoded_varint(value):
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(encoded) + bytes([value])


class Reader:
    """One call of StreamBlob on a connection of its own."""

    def __init__(self, replica, repository, blob, offset=0, limit=0, token=None):
        self.blob, self.at = blob, offset
        self.end = min(offset + limit, blob.size) if limit else blob.size
        self.buffer, self.message = bytearray(), bytearray()
        self.unacknowledged, self.trailer, self.over, self.wrong = 0, False, False, False
        self.failure = None
        request = string_field(1, NAME) + string_field(2, repository) + string_field(3, blob.digest)
        if offset:
            request += b"\x20" + encoded_varint(offset)
        if limit:
            request += b"\x28" + encoded_varint(limit)
        values = struct.pack(">HIHI", INITIAL_WINDOW_SIZE, WINDOW, MAX_FRAME_SIZE, LARGEST_FRAME)
        extra = [("authorization", f"Bearer {token}")] if token else []
        self.socket = socket.create_connection(replica.address.split(":"), 30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(
            PREFACE
            + frame(SETTINGS, 0, 0, values)
            + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WINDOW))
            + frame(HEADERS, END_HEADERS, 1, grpc_headers("StreamBlob", extra))
            + frame(DATA, END_STREAM, 1, message(request))
        )

    @property
    def complete(self):
        return self.trailer and self.at == self.end and not self.wrong

    def receive(self):
        """Takes what has arrived."""
        try:
            data = self.socket.recv(1 << 20)
        except OSError as error:
            data, self.failure = b"", str(error)
        if not data:
            return self.finish("the connection was closed")
        self.buffer += data
        at = 0
        while len(self.buffer) - at >= 9 and not self.over:
            end = at + 9 + int.from_bytes(self.buffer[at : at + 3], "big")
            if end > len(self.buffer):
                break
            kind, flags, stream = self.buffer[at + 3], self.buffer[at + 4], int.from_bytes(self.buffer[at + 5 : at + 9], "big")
            self._frame(kind, flags, stream, memoryview(self.buffer)[at + 9 : end])
            at = end
        del self.buffer[:at]

    def _frame(self, kind, flags, stream, payload):
        if kind == SETTINGS and not flags & ACK:
            self.socket.sendall(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self.socket.sendall(frame(PING, ACK, 0, bytes(payload)))
        elif kind == DATA and stream == 1:
            self._data(payload)
        payload.release()
        if kind == GOAWAY or (kind == RST_STREAM and stream == 1):
            self.finish("the stream was reset")
        elif kind in (DATA, HEADERS) and stream == 1 and flags & END_STREAM:
            self.finish(None)

    def _data(self, payload):
        self.message += payload
        self.unacknowledged += len(payload)
        if self.unacknowledged > WINDOW // 2:
            update = struct.pack(">I", self.unacknowledged)
            self.unacknowledged = 0
            self.socket.sendall(frame(WINDOW_UPDATE, 0, 0, update) + frame(WINDOW_UPDATE, 0, 1, update))
        while len(self.message) >= 5:
            end = 5 + int.from_bytes(self.message[1:5], "big")
            if len(self.message) < end:
                break
            self._message(end)
            del self.message[:end]

    def _message(self, end):
        field, (_, at) = self.message[5] >> 3, varint(self.message, 6)
        if field == TRAILER:
            self.trailer = True
        elif field == CHUNK:
            offset = 0
            if at < end and self.message[at] == 0x08:
                offset, at = varint(self.message, at + 1)
            length, at = varint(self.message, at + 1)
            data = self.message[at : at + length]
            self.wrong |= offset != self.at or data != self.blob.content[offset : offset + length]
            self.at += length

    def finish(self, failure):
        self.over, self.failure = True, self.failure or failure
        self.socket.close()


class Readings:
    """What became of readers: how many failed, how many got a wrong byte."""

    def __init__(self, readers, seconds):
        self.count, self.seconds = len(readers), seconds
        self.failed = sum(not reader.complete for reader in readers)
        self.wrong = sum(reader.wrong for reader in readers)
        self.why = sorted({reader.failure or f"no trailer after {reader.at} bytes" for reader in readers if not reader.complete})

    def __str__(self):
        failures = f" ({'; '.join(self.why)[:300]})" if self.failed else ""
        return f"{self.failed} of {self.count} failed{failures}, {self.wrong} got wrong bytes, {self.seconds:.1f} s"

    @property
    def good(self):
        return not self.failed and not self.wrong


def read(readers, until=None):
    """Reads to the end of each stream, or until the condition holds."""
    began = time.monotonic()
    with selectors.DefaultSelector() as selector:
        for reader in readers:
            reader.socket.setblocking(True)
            selector.register(reader.socket, selectors.EVENT_READ, reader)
        left = len(readers)
        while left and time.monotonic() < began + SECONDS and not (until and until()):
            for key, _ in selector.select(0.05):
                socket_before = key.fileobj
                key.data.receive()
                if key.data.over:
                    selector.unregister(socket_before)
                    left -= 1
    for reader in readers:
        if not reader.over:
            reader.finish("not read to its end")
    return Readings(readers, time.monotonic() - began)


def read_blobs(replicas, repository, blobs, callers=1, **what):
    """Each blob is read by some callers, in turn at one of the replicas; all at once."""
    readers = [
        Reader(replicas[(number + caller) % len(replicas)], repository, blob, **what)
        for number, blob in enumerate(blobs)
        for caller in range(callers)
    ]
    return read(readers)
