"""Hashes, lists and sets with many elements, whose order is the server's own business."""

import unittest
from collections import Counter

from wire import TestCase


class Collections(TestCase):
    def test_a_hash_has_what_was_put_in(self):
        pairs = {f"field {i}": f"value {i}" for i in range(2000)}
        self.assertEqual(self.redis.hset("hash", mapping=pairs), 2000)
        self.assertEqual(self.redis.hgetall("hash"), pairs)
        self.assertEqual(set(self.redis.hkeys("hash")), set(pairs))
        self.assertEqual(sorted(self.redis.hvals("hash")), sorted(pairs.values()))
        self.assertEqual(self.redis.hmget("hash", "field 7", "nobody"), ["value 7", None])
        self.assertEqual(self.redis.hdel("hash", *list(pairs)[:1999]), 1999)
        self.assertEqual(self.redis.hlen("hash"), 1)

    def test_a_list_keeps_its_order(self):
        self.redis.rpush("list", *range(2000))
        self.redis.lpush("list", "first")
        self.assertEqual(self.redis.lrange("list", 0, -1), ["first", *map(str, range(2000))])
        self.assertEqual(self.redis.lrange("list", -3, -2), ["1997", "1998"])
        self.assertEqual(self.redis.lpop("list", 3), ["first", "0", "1"])
        self.assertEqual(self.redis.rpop("list"), "1999")
        self.assertEqual(self.redis.llen("list"), 1997)

    def test_a_set_has_each_member_once(self):
        self.assertEqual(self.redis.sadd("set", *range(2000), *range(1000)), 2000)
        members = {str(i) for i in range(2000)}
        self.assertEqual(self.redis.smembers("set"), members)
        self.redis.sadd("even", *range(0, 2000, 2))
        even = {str(i) for i in range(0, 2000, 2)}
        self.assertEqual(self.redis.sinter("set", "even"), even)
        self.assertEqual(self.redis.sdiff("set", "even"), members - even)
        self.assertEqual(self.redis.sunion("set", "even"), members)

    def test_random_members_are_different_ones_of_the_set(self):
        self.redis.sadd("set", *range(1000))
        members = {str(i) for i in range(1000)}
        for count in [1, 10, 499, 500, 999, 1000, 2000]:
            chosen = self.redis.srandmember("set", count)
            self.assertEqual(len(chosen), min(count, 1000))
            self.assertEqual(len(set(chosen)), len(chosen))
            self.assertLessEqual(set(chosen), members)
        # None of ten stands beside another one, in about two of three tries.
        tries = [sorted(map(int, self.redis.srandmember("set", 10))) for _ in range(20)]
        apart = [chosen for chosen in tries if all(b - a > 1 for a, b in zip(chosen, chosen[1:]))]
        self.assertTrue(apart)
        self.assertEqual(self.redis.scard("set"), 1000)

    def test_each_member_is_as_likely_to_be_chosen(self):
        self.redis.sadd("set", *range(10))
        for count, choices in [(-10_000, 1), (3, 3000)]:
            pipeline = self.redis.pipeline(transaction=False)
            for _ in range(choices):
                pipeline.srandmember("set", count)
            chosen = Counter(member for members in pipeline.execute() for member in members)
            mean = sum(chosen.values()) / 10
            self.assertEqual(len(chosen), 10)
            self.assertTrue(all(0.8 * mean < times < 1.2 * mean for times in chosen.values()), chosen)

    def test_popping_a_set_gives_each_member_once(self):
        self.redis.sadd("set", *range(500))
        popped = [self.redis.spop("set") for _ in range(250)] + list(self.redis.spop("set", 250))
        self.assertEqual(sorted(map(int, popped)), list(range(500)))
        self.assertFalse(self.redis.exists("set"))


unittest.main()
