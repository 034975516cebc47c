"""BLPOP and BRPOP: who waits, who is served, and who is not held up."""

import time
import unittest

from wire import TestCase


class Blocking(TestCase):
    def waiting(self, *commands):
        """Connections that wait, in this order."""
        raws = []
        for command in commands:
            raws.append(self.raw())
            raws[-1].send(*command)
            # Whoever came first is served first, and connections are read in any order.
            self.until_waiting(len(raws))
        return raws

    def test_an_element_goes_to_the_one_who_waits(self):
        (waiting,) = self.waiting(("BLPOP", "list", 0))
        self.assertEqual(self.redis.rpush("list", "x"), 1)
        self.assertEqual(waiting.reply(), ["list", "x"])
        self.assertFalse(self.redis.exists("list"))

    def test_who_waited_first_is_served_first(self):
        waiting = self.waiting(*[("BLPOP", "list", 0)] * 5)
        self.redis.rpush("list", "a", "b", "c")
        self.assertEqual([raw.reply() for raw in waiting[:3]], [["list", element] for element in "abc"])
        self.redis.rpush("list", "d", "e", "f")
        self.assertEqual([raw.reply() for raw in waiting[3:]], [["list", "d"], ["list", "e"]])
        self.assertEqual(self.redis.lrange("list", 0, -1), ["f"])

    def test_all_elements_are_there_before_one_is_given_away(self):
        (left, right) = self.waiting(("BLPOP", "list", 0), ("BRPOP", "list", 0))
        self.assertEqual(self.redis.rpush("list", "a", "b", "c"), 3)
        self.assertEqual([left.reply(), right.reply()], [["list", "a"], ["list", "c"]])
        self.assertEqual(self.redis.lrange("list", 0, -1), ["b"])

    def test_of_several_lists_the_first_with_an_element_counts(self):
        (waiting,) = self.waiting(("BLPOP", "one", "two", "three", 0))
        self.redis.rpush("two", "x")
        self.assertEqual(waiting.reply(), ["two", "x"])
        self.redis.rpush("three", "3")
        self.redis.rpush("two", "2")
        self.assertEqual(tuple(self.redis.blpop(["one", "two", "three"])), ("two", "2"))

    def test_waiting_ends_after_its_time(self):
        start = time.monotonic()
        self.assertIsNone(self.redis.blpop("list", timeout=0.1))
        self.assertGreaterEqual(time.monotonic() - start, 0.099)
        self.redis.rpush("list", "x")
        self.assertEqual(self.redis.lrange("list", 0, -1), ["x"])

    def test_the_shortest_time_is_a_time(self):
        self.assertIsNone(self.raw().ask("BLPOP", "list", "0.0000000001"))

    def test_who_names_a_list_twice_waits_once(self):
        (waiting,) = self.waiting(("BLPOP", "list", "list", "list", 0))
        self.redis.rpush("list", "x", "y")
        self.assertEqual(waiting.reply(), ["list", "x"])
        self.assertEqual(self.redis.lrange("list", 0, -1), ["y"])

    def test_what_was_sent_behind_it_waits_too(self):
        (waiting,) = self.waiting(("BLPOP", "list", 0))
        waiting.send("SET", "after", "1")
        waiting.send("GET", "after")
        self.assertIsNone(self.redis.get("after"))
        self.redis.rpush("list", "x")
        self.assertEqual(waiting.replies(3), [["list", "x"], "OK", "1"])

    def test_who_has_left_gets_nothing(self):
        first, second = self.waiting(("BLPOP", "list", 0), ("BLPOP", "list", 0))
        first.close()
        self.until_waiting(1)
        self.redis.rpush("list", "x", "y")
        self.assertEqual(second.reply(), ["list", "x"])
        self.assertEqual(self.redis.lrange("list", 0, -1), ["y"])

    def test_who_has_left_gets_nothing_whatever_it_sent_behind(self):
        (waiting,) = self.waiting(("BLPOP", "list", 0))
        waiting.send("PING")
        waiting.send("SET", "after", "1")
        waiting.close()
        self.until_waiting(0)
        self.redis.rpush("list", "x")
        self.assertEqual(self.redis.lrange("list", 0, -1), ["x"])
        self.assertIsNone(self.redis.get("after"))

    def test_a_transaction_serves_when_it_is_complete(self):
        (waiting,) = self.waiting(("BLPOP", "list", 0))
        pipeline = self.redis.pipeline(transaction=True)
        pipeline.rpush("list", "x").delete("list").rpush("list", "y")
        self.assertEqual(pipeline.execute(), [1, 1, 1])
        self.assertEqual(waiting.reply(), ["list", "y"])

    def test_a_key_of_another_type_serves_nobody(self):
        (waiting,) = self.waiting(("BLPOP", "list", 0))
        self.redis.set("list", "text")
        self.redis.delete("list")
        self.redis.rpush("list", "x")
        self.assertEqual(waiting.reply(), ["list", "x"])

    def test_a_renamed_list_serves_who_waits_for_its_name(self):
        (waiting,) = self.waiting(("BLPOP", "list", 0))
        self.redis.rpush("other", "x")
        self.redis.rename("other", "list")
        self.assertEqual(waiting.reply(), ["list", "x"])

    def test_a_hundred_who_wait_hold_up_nobody(self):
        waiting = [self.raw() for _ in range(100)]
        for raw in waiting:
            raw.send("BLPOP", "list", 0)
        self.until_waiting(100)
        for i in range(1000):
            self.redis.set("key", i)
            self.assertEqual(self.redis.get("key"), str(i))
        self.redis.rpush("list", *range(100))
        elements = [raw.reply()[1] for raw in waiting]
        self.assertEqual(sorted(map(int, elements)), list(range(100)))


unittest.main()
