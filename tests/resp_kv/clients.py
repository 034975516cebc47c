"""CLIENT, INFO, CONFIG and COMMAND."""

import time
import unittest

from wire import DEADLINE, TestCase, command


class Clients(TestCase):
    def test_each_client_has_a_number(self):
        ids = [self.client(single_connection_client=True).client_id() for _ in range(3)]
        self.assertEqual(ids, sorted(set(ids)))

    def test_the_list_names_all_clients(self):
        other = self.client(single_connection_client=True)
        other.client_setname("other")
        self.assertEqual(other.client_getname(), "other")
        clients = {client["name"]: client for client in self.redis.client_list()}
        self.assertIn("other", clients)
        self.assertEqual(int(clients["other"]["id"]), other.client_id())
        self.assertRegex(clients["other"]["addr"], r"^127\.0\.0\.1:\d+$")
        self.assertRegex(clients["other"]["cmd"], "^client")

    def assert_gone(self, raw):
        try:
            self.assertEqual(raw.file.read(), b"")
        except ConnectionResetError:
            pass

    def test_a_killed_client_is_gone(self):
        raw = self.raw()
        number = raw.ask("CLIENT", "ID")
        self.assertEqual(self.redis.client_kill_filter(_id=number), 1)
        self.assert_gone(raw)
        self.assertEqual(self.redis.client_kill_filter(_id=number), 0)

    def test_a_client_can_be_killed_by_its_address(self):
        raw = self.raw()
        raw.ask("PING")
        host, port = raw.socket.getsockname()
        self.assertTrue(self.redis.client_kill(f"{host}:{port}"))
        self.assert_gone(raw)

    def test_a_killed_client_that_waits_gets_nothing(self):
        raw = self.raw()
        number = raw.ask("CLIENT", "ID")
        raw.send("BLPOP", "list", 0)
        self.until_waiting(1)
        self.redis.client_kill_filter(_id=number)
        self.redis.rpush("list", "x")
        self.assertEqual(self.redis.lrange("list", 0, -1), ["x"])

    def test_a_pause_puts_off_all_commands(self):
        other = self.client()
        other.ping()
        self.assertTrue(self.redis.client_pause(100))
        start = time.monotonic()
        other.set("a", 1)
        self.assertGreaterEqual(time.monotonic() - start, 0.09)

    def test_a_pause_of_writes_lets_others_read(self):
        self.redis.set("a", 1)
        raw, writer = self.raw(), self.raw()
        self.assertEqual(raw.ask("CLIENT", "PAUSE", DEADLINE * 1000, "WRITE"), "OK")
        writer.send("SET", "a", 2)
        self.assertEqual(raw.ask("GET", "a"), "1")
        self.assertEqual(raw.ask("CLIENT", "UNPAUSE"), "OK")
        self.assertEqual(writer.reply(), "OK")
        self.assertEqual(raw.ask("GET", "a"), "2")

    def test_info_has_what_tools_look_for(self):
        info = self.redis.info()
        for name in ["redis_version", "uptime_in_seconds", "connected_clients", "blocked_clients",
                     "total_connections_received", "total_commands_processed"]:
            self.assertIn(name, info)
        if "server_name" in info:  # it is ours
            self.assertGreater(info["loop_turns"], 0)  # the loop's own figures
        self.redis.set("a", 1, ex=100)
        self.redis.set("b", 1)
        keyspace = self.redis.info("keyspace")["db0"]
        self.assertEqual((keyspace["keys"], keyspace["expires"]), (2, 1))

    def test_the_config_can_be_asked(self):
        self.assertEqual(self.redis.config_get("appendonly"), {"appendonly": "no"})
        self.assertEqual(self.redis.config_get("save"), {"save": ""})
        self.assertEqual(self.redis.config_get("tcp-keepalive"), {"tcp-keepalive": "300"})
        self.assertIn("appendfsync", self.redis.config_get("append*"))

    def test_commands_are_described(self):
        self.assertGreater(self.redis.command_count(), 50)
        commands = self.redis.command()
        for name, keys in {"get": (1, 1, 1), "mset": (1, -1, 2), "blpop": (1, -2, 1), "ping": (0, 0, 0)}.items():
            places = [commands[name][place] for place in ("first_key_pos", "last_key_pos", "step_count")]
            self.assertEqual(places, list(keys), name)
        self.assertEqual(commands["get"]["arity"], 2)
        self.assertEqual(commands["set"]["arity"], -3)

    def test_quit_ends_the_connection_behind_its_answer(self):
        raw = self.raw()
        # All at once: Redis resets a connection on which more comes later.
        raw.socket.sendall(command("SET", "a", 1) + command("QUIT") + command("SET", "a", 2))
        self.assertEqual(raw.file.read(), b"+OK\r\n+OK\r\n")
        self.assertEqual(self.redis.get("a"), "1")


unittest.main()
