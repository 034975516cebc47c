"""Strings, keys, their time to live, and pipelines."""

import time
import unittest

import redis
from wire import TestCase


class Strings(TestCase):
    def test_a_value_comes_back(self):
        self.assertTrue(self.redis.set("name", "value"))
        self.assertEqual(self.redis.get("name"), "value")
        self.assertIsNone(self.redis.get("nobody"))

    def test_a_value_of_a_megabyte_comes_back(self):
        value = "0123456789abcdef" * 65536
        self.redis.set("large", value)
        self.assertEqual(self.redis.get("large"), value)
        self.assertEqual(self.redis.strlen("large"), len(value))

    def test_a_counter_counts(self):
        self.assertEqual([self.redis.incr("n"), self.redis.incrby("n", 9), self.redis.decr("n")], [1, 10, 9])
        self.assertEqual(self.redis.incrbyfloat("n", 0.5), 9.5)

    def test_an_error_is_of_its_class(self):
        self.redis.lpush("list", "x")
        with self.assertRaisesRegex(redis.ResponseError, "WRONGTYPE"):
            self.redis.incr("list")
        with self.assertRaisesRegex(redis.ResponseError, "unknown command"):
            self.redis.execute_command("NONSENSE")

    def test_a_key_expires(self):
        self.redis.set("brief", "x", px=20)
        left = self.redis.pttl("brief")
        self.assertTrue(0 < left <= 20 or left == -2, left)
        end = time.monotonic() + 20
        while self.redis.exists("brief"):
            self.assertLess(time.monotonic(), end)
        self.assertEqual(self.redis.pttl("brief"), -2)
        # Nobody asks for it, and it goes.
        self.redis.set("unseen", "x", px=1)
        while self.redis.dbsize():
            self.assertLess(time.monotonic(), end)

    def test_a_key_expires_as_late_as_was_said(self):
        start = time.monotonic()
        self.redis.set("brief", "x", px=100)
        while self.redis.exists("brief"):
            pass
        self.assertGreaterEqual(time.monotonic() - start, 0.099)

    def test_time_to_live_counts_down_from_what_was_said(self):
        self.redis.set("long", "x", ex=1000)
        self.assertTrue(990_000 < self.redis.pttl("long") <= 1_000_000)

    def test_scanning_finds_each_key_that_was_there_all_the_time(self):
        names = {f"key:{i}" for i in range(1000)}
        self.redis.mset({name: "x" for name in names})
        found = []
        for name in self.redis.scan_iter(count=7):
            found.append(name)
            # Keys come and go meanwhile.
            self.redis.set(f"new:{len(found)}", "x")
            self.redis.delete(f"new:{len(found) - 10}")
        self.assertEqual({name for name in found if name.startswith("key:")}, names)
        self.assertEqual(set(self.redis.scan_iter(match="key:99?")), {f"key:99{i}" for i in range(10)})
        self.assertEqual(set(self.redis.keys("key:*")), names)

    def test_scanning_finds_each_key_that_stays_while_most_of_them_go(self):
        for step in [1, 10, 100]:
            names = [f"key:{i}" for i in range(2000)]
            self.redis.mset({name: "x" for name in names})
            kept, others = set(names[::97]), [name for i, name in enumerate(names) if i % 97]
            cursor, found = self.redis.scan(count=7)
            while cursor:
                removed, others = others[:step], others[step:]
                if removed:
                    self.redis.delete(*removed)
                cursor, more = self.redis.scan(cursor, count=7)
                found += more
            self.assertEqual(kept - set(found), set(), f"{step} go at each step")
            self.redis.flushall()

    def test_one_scan_is_small(self):
        self.redis.mset({f"key:{i}": "x" for i in range(1000)})
        cursor, found = self.redis.scan(count=10)
        self.assertNotEqual(cursor, 0)
        self.assertLess(len(found), 100)

    def test_a_pipeline_has_its_answers_in_order(self):
        pipeline = self.redis.pipeline(transaction=False)
        for i in range(10_000):
            pipeline.set(f"key:{i % 100}", i)
            pipeline.get(f"key:{i % 100}")
        answers = pipeline.execute()
        self.assertEqual(answers[1::2], [str(i) for i in range(10_000)])
        self.assertTrue(all(answers[::2]))

    def test_an_error_in_a_pipeline_is_one_answer_of_it(self):
        pipeline = self.redis.pipeline(transaction=False)
        pipeline.set("text", "x").incr("text").get("text")
        answers = pipeline.execute(raise_on_error=False)
        self.assertIsInstance(answers[1], redis.ResponseError)
        self.assertEqual([answers[0], answers[2]], [True, "x"])


unittest.main()
