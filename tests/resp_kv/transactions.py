"""MULTI, EXEC, WATCH, from several clients."""

import threading
import unittest

import redis
from wire import TestCase, command


class Transactions(TestCase):
    def test_all_answers_come_together(self):
        pipeline = self.redis.pipeline(transaction=True)
        pipeline.set("a", 1).incr("a").rpush("l", "x", "y").lrange("l", 0, -1).hgetall("none")
        self.assertEqual(pipeline.execute(), [True, 2, 2, ["x", "y"], {}])

    def test_nobody_sees_half_a_transaction(self):
        raw = self.raw()
        for command in [("MULTI",), ("SET", "a", 1), ("SET", "b", 1)]:
            raw.ask(*command)
        self.assertEqual(self.redis.mget("a", "b"), [None, None])
        self.assertEqual(raw.ask("EXEC"), ["OK", "OK"])
        self.assertEqual(self.redis.mget("a", "b"), ["1", "1"])

    def test_a_watched_key_that_changed_undoes_it(self):
        self.redis.set("a", 1)
        pipeline = self.redis.pipeline(transaction=True)
        pipeline.watch("a")
        self.assertEqual(pipeline.get("a"), "1")
        self.redis.set("a", 2)
        pipeline.multi()
        pipeline.set("a", 3)
        with self.assertRaises(redis.WatchError):
            pipeline.execute()
        self.assertEqual(self.redis.get("a"), "2")

    def test_a_watched_key_that_expired_undoes_it(self):
        raw = self.raw()
        raw.socket.sendall(command("SET", "a", 1, "PX", 30) + command("WATCH", "a"))
        self.assertEqual(raw.replies(2), ["OK", "OK"])
        self.until(lambda: not self.redis.exists("a"))
        self.assertEqual(raw.ask("MULTI"), "OK")
        self.assertEqual(raw.ask("SET", "b", 1), "QUEUED")
        self.assertIsNone(raw.ask("EXEC"))

    def test_reading_a_watched_key_undoes_nothing(self):
        self.redis.set("a", 1)
        raw = self.raw()
        raw.ask("WATCH", "a")
        self.redis.get("a")
        self.redis.exists("a")
        raw.ask("MULTI")
        raw.ask("INCR", "a")
        self.assertEqual(raw.ask("EXEC"), [2])

    def test_counters_of_many_with_watch_lose_nothing(self):
        def count(client):
            for _ in range(50):
                client.transaction(add_one, "counter")

        def add_one(pipeline):
            value = int(pipeline.get("counter") or 0)
            pipeline.multi()
            pipeline.set("counter", value + 1)

        threads = [threading.Thread(target=count, args=(self.client(),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(self.redis.get("counter"), "200")

    def test_money_is_neither_made_nor_lost(self):
        self.redis.mset({"one": 1000, "two": 1000})
        is_over = threading.Event()

        def move(client):
            while not is_over.is_set():
                client.pipeline(transaction=True).decrby("one", 7).incrby("two", 7).execute()
                client.pipeline(transaction=True).incrby("one", 3).decrby("two", 3).execute()

        thread = threading.Thread(target=move, args=(self.client(),))
        thread.start()
        try:
            for _ in range(300):
                self.assertEqual(sum(map(int, self.redis.mget("one", "two"))), 2000)
        finally:
            is_over.set()
            thread.join()


unittest.main()
