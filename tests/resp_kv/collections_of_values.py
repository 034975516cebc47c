"""Hashes, lists and sets with many elements, whose order is the server's own business."""

import unittest

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

    def test_popping_a_set_gives_each_member_once(self):
        self.redis.sadd("set", *range(500))
        popped = [self.redis.spop("set") for _ in range(250)] + list(self.redis.spop("set", 250))
        self.assertEqual(sorted(map(int, popped)), list(range(500)))
        self.assertFalse(self.redis.exists("set"))


unittest.main()
