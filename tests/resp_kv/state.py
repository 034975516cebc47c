"""Prints every key with its type, its value and about when it expires, a line each."""

import time

from wire import client

server = client(encoding="latin-1")


def value(name, kind):
    if kind == "string":
        return server.execute_command("GET", name)
    if kind == "list":
        return server.lrange(name, 0, -1)
    if kind == "hash":
        return sorted(server.hgetall(name).items())
    return sorted(server.smembers(name))


for name in sorted(server.keys()):
    kind = server.type(name)
    left = server.pttl(name)
    # To ten minutes, so that the time between two runs makes no difference: those of the tests are 100 seconds and more.
    expires = "never" if left == -1 else round((time.time() + left / 1000) / 600)
    print(repr(name), kind, repr(value(name, kind)), expires)
