"""What the tests in Python share: the port of the server and the version of the protocol, which are the arguments; a
client of the library, and a socket without it."""

import socket
import sys
import time
import unittest

import redis

PORT = int(sys.argv.pop(1))
VERSION = int(sys.argv.pop(1))
DEADLINE = 20


def client(**options):
    """A client of the library, whose every answer comes within the deadline."""
    return redis.Redis(port=PORT, protocol=VERSION, socket_timeout=DEADLINE, decode_responses=True, **options)


def command(*arguments):
    """A command's bytes."""
    parts = [str(argument).encode() for argument in arguments]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


class Raw:
    """A connection without the library."""

    def __init__(self):
        self.socket = socket.create_connection(("127.0.0.1", PORT), timeout=DEADLINE)
        self.file = self.socket.makefile("rb")

    def send(self, *arguments):
        self.socket.sendall(command(*arguments))

    def ask(self, *arguments):
        self.send(*arguments)
        return self.reply()

    def reply(self):
        """The next reply as Python has it: a map is a dict, a push a tuple behind "push", an error an Exception."""
        line = self.file.readline()
        assert line.endswith(b"\r\n"), line
        kind, text = line[:1], line[1:-2].decode()
        if kind == b"+":
            return text
        if kind == b"-":
            return Exception(text)
        if kind == b":":
            return int(text)
        if kind == b"_":
            return None
        if kind == b"#":
            return text == "t"
        if kind == b",":
            return float(text)
        if kind == b"$" or kind == b"=":
            if text == "-1":
                return None
            return self.file.read(int(text) + 2)[:-2].decode()
        if kind == b"*":
            return None if text == "-1" else self.replies(int(text))
        if kind == b"~":
            return set(self.replies(int(text)))
        if kind == b">":
            return ("push", *self.replies(int(text)))
        if kind == b"%":
            flat = self.replies(2 * int(text))
            return dict(zip(flat[::2], flat[1::2]))
        raise AssertionError(f"a reply of unknown kind: {line}")

    def replies(self, count):
        return [self.reply() for _ in range(count)]

    def close(self):
        self.file.close()
        self.socket.close()


class TestCase(unittest.TestCase):
    """Starts with a server without keys, and a client."""

    def setUp(self):
        self.redis = client()
        self.addCleanup(self.redis.close)
        self.redis.flushall()

    def client(self, **options):
        other = client(**options)
        self.addCleanup(other.close)
        return other

    def raw(self):
        raw = Raw()
        self.addCleanup(raw.close)
        return raw

    def until(self, is_so):
        """Asks until it is so, or the deadline has passed."""
        end = time.monotonic() + DEADLINE
        while not is_so():
            self.assertLess(time.monotonic(), end)

    def until_waiting(self, count):
        self.until(lambda: self.redis.info("clients")["blocked_clients"] == count)
