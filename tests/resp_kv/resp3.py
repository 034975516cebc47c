"""The third version of the protocol as it is on the wire; the other tests speak it by way of the library."""

import unittest

from wire import TestCase


class Resp3(TestCase):
    def setUp(self):
        super().setUp()
        self.three = self.raw()
        self.hello = self.three.ask("HELLO", 3)

    def test_hello_tells_who_answers(self):
        self.assertIsInstance(self.hello, dict)
        self.assertEqual(self.hello["proto"], 3)
        self.assertEqual(self.hello["mode"], "standalone")
        self.assertEqual(self.hello["role"], "master")
        self.assertEqual(self.hello["id"], self.three.ask("CLIENT", "ID"))
        self.assertLessEqual({"server", "version", "modules"}, set(self.hello))

    def test_hello_can_name_the_client(self):
        self.three.ask("HELLO", 3, "SETNAME", "me")
        self.assertEqual(self.three.ask("CLIENT", "GETNAME"), "me")

    def test_hello_without_a_version_changes_nothing(self):
        self.assertEqual(self.three.ask("HELLO")["proto"], 3)
        self.assertEqual(self.raw().ask("HELLO")[4:6], ["proto", 2])

    def test_one_can_go_back(self):
        self.assertEqual(self.three.ask("HELLO", 2)[4:6], ["proto", 2])
        self.assertEqual(self.three.ask("HGETALL", "none"), [])

    def test_maps_and_sets_are_of_their_own_type(self):
        self.three.ask("HSET", "hash", "a", 1, "b", 2)
        self.assertEqual(self.three.ask("HGETALL", "hash"), {"a": "1", "b": "2"})
        self.three.ask("SADD", "set", "a", "b")
        self.assertEqual(self.three.ask("SMEMBERS", "set"), {"a", "b"})
        self.assertIsInstance(self.three.ask("CONFIG", "GET", "save"), dict)

    def test_nothing_is_of_its_own_type(self):
        self.three.send("GET", "none")
        self.assertEqual(self.three.file.readline(), b"_\r\n")
        self.three.send("BLPOP", "none", "0.01")
        self.assertEqual(self.three.file.readline(), b"_\r\n")

    def test_messages_are_pushed_between_answers(self):
        self.assertEqual(self.three.ask("SUBSCRIBE", "news"), ("push", "subscribe", "news", 1))
        # Who speaks it may do other things meanwhile.
        self.assertEqual(self.three.ask("SET", "a", 1), "OK")
        self.assertEqual(self.redis.publish("news", "hello"), 1)
        self.assertEqual(self.three.reply(), ("push", "message", "news", "hello"))
        self.assertEqual(self.three.ask("GET", "a"), "1")
        self.assertEqual(self.three.ask("PING"), "PONG")
        self.assertEqual(self.three.ask("PSUBSCRIBE", "n*"), ("push", "psubscribe", "n*", 2))
        self.redis.publish("news", "2")
        self.assertEqual(self.three.reply(), ("push", "message", "news", "2"))
        self.assertEqual(self.three.reply(), ("push", "pmessage", "n*", "news", "2"))

    def test_transactions_nest_types(self):
        for command in [("MULTI",), ("HSET", "h", "f", "v"), ("HGETALL", "h"), ("GET", "none")]:
            self.three.ask(*command)
        self.assertEqual(self.three.ask("EXEC"), [1, {"f": "v"}, None])

    def test_others_keep_the_second_version(self):
        self.three.ask("HSET", "h", "f", "v")
        self.assertEqual(self.raw().ask("HGETALL", "h"), ["f", "v"])


unittest.main()
