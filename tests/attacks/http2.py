"""HTTP/2 without a library (RFC 9113): the frames of an attacker, and just enough of a client to make unary gRPC calls.

Header blocks use literals without indexing and no Huffman code (RFC 7541, section 6.2.2), so that their size is chosen freely.
"""

import socket
import struct
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1
INITIAL_WINDOW_SIZE = 4


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(**values):
    """A SETTINGS frame; the only setting that is needed here is the initial window."""
    window = values.get("initial_window")
    payload = b"" if window is None else struct.pack(">HI", INITIAL_WINDOW_SIZE, window)
    return frame(SETTINGS, 0, 0, payload)


def header_block(fields):
    return b"".join(b"\x00" + _string(name) + _string(value) for name, value in fields)


def _string(text):
    data = text.encode()
    if len(data) < 127:
        return bytes([len(data)]) + data
    length, encoded = len(data) - 127, b"\x7f"
    while length >= 128:
        encoded, length = encoded + bytes([length % 128 + 128]), length // 128
    return encoded + bytes([length]) + data


def grpc_headers(method, extra=()):
    """The headers of a call."""
    return header_block(
        [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", f"/rex.registry.v1.RegistryService/{method}"),
            (":authority", "rexd.test"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            *extra,
        ]
    )


def message(protobuf):
    """A gRPC message."""
    return b"\x00" + struct.pack(">I", len(protobuf)) + protobuf


def string_field(number, text):
    """A protobuf string of at most 127 bytes."""
    data = text.encode()
    return bytes([number << 3 | 2, len(data)]) + data


class Connection:
    """A connection from an address of its own."""

    def __init__(self, port, source="127.0.0.1", **wanted):
        self.socket = socket.create_connection(("127.0.0.1", port), 30, (source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(PREFACE + settings(**wanted))
        self.buffer = b""
        self.stream = -1
        self.window = 65_535

    def next_stream(self):
        self.stream += 2
        return self.stream

    def send(self, data):
        self.socket.sendall(data)

    def read_frame(self):
        """Returns (type, flags, stream, payload). Acknowledges SETTINGS and PING, and opens the windows for DATA."""
        head = self._take(9)
        length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        stream = int.from_bytes(head[5:9], "big") & 0x7FFFFFFF
        payload = self._take(length)
        if kind == SETTINGS and not flags & ACK:
            self.send(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self.send(frame(PING, ACK, 0, payload))
        elif kind == WINDOW_UPDATE and stream == 0:
            self.window += int.from_bytes(payload, "big")
        elif kind == DATA and length:
            window = struct.pack(">I", length)
            self.send(frame(WINDOW_UPDATE, 0, 0, window) + frame(WINDOW_UPDATE, 0, stream, window))
        return kind, flags, stream, payload

    def send_data(self, stream, data, flags):
        """Sends data as far as the connection's window allows, in frames of at most 16 KiB; waits for the rest of the window."""
        for at in range(0, len(data), 16_384):
            piece = data[at : at + 16_384]
            while self.window < len(piece):
                self.read_frame()
            self.window -= len(piece)
            self.send(frame(DATA, flags, stream, piece))

    def _take(self, count):
        while len(self.buffer) < count:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("closed by the service")
            self.buffer += data
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def unary(self, method, protobuf, extra=()):
        """Makes a call. Returns its seconds, and whether there was a message: an error has only trailers."""
        began, stream, complete = time.monotonic(), self.next_stream(), False
        self.send(
            frame(HEADERS, END_HEADERS, stream, grpc_headers(method, extra))
            + frame(DATA, END_STREAM, stream, message(protobuf))
        )
        while True:
            kind, flags, of, payload = self.read_frame()
            if kind == GOAWAY:
                raise ConnectionError("the service sent GOAWAY")
            if of != stream:
                continue
            complete |= kind == DATA and len(payload) > 5
            if kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & END_STREAM):
                return time.monotonic() - began, complete

    def close(self):
        self.socket.close()
