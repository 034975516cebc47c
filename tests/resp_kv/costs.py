"""What would take long if it were done in the obvious way: the answers come within the deadline of the client, which
minutes would not."""

import unittest

import redis
from wire import TestCase

# Long enough that to look for it a thousand times would be noticed.
KEY = "x" * (8 << 20)
COUNT = 5_000


class Costs(TestCase):
    def test_a_long_key_is_looked_up_once_by_a_command_however_many_elements_it_has(self):
        numbers = [str(i) for i in range(COUNT)]
        self.assertEqual(self.redis.hset(KEY, mapping={i: i for i in numbers}), COUNT)
        self.assertEqual(self.redis.hdel(KEY, *numbers), COUNT)
        self.redis.rpush(KEY, *numbers)
        self.assertEqual(self.redis.lpop(KEY, COUNT // 2) + self.redis.rpop(KEY, COUNT // 2)[::-1], numbers)
        self.redis.sadd(KEY, *numbers)
        self.assertEqual(sorted(self.redis.spop(KEY, COUNT)), sorted(numbers))

    def test_sets_are_combined_in_no_longer_than_they_have_members(self):
        members = [str(i) for i in range(COUNT)]
        self.redis.sadd("many", *members)
        self.redis.sadd("others", *members[1:], "other")
        self.redis.sadd("one", "0")
        same = ["many"] * COUNT
        self.assertEqual(self.redis.sinter(*same, "one"), {"0"})
        self.assertEqual(self.redis.sinter(*same), set(members))
        self.assertEqual(self.redis.sdiff("many", *["others"] * COUNT), {"0"})
        self.assertEqual(self.redis.sunion(*same, "others"), {*members, "other"})

    def test_a_long_pattern_is_not_tried_on_a_long_key(self):
        self.redis.set(KEY, "")
        pattern = "*" + "x" * 1000 + "y"
        for ask in [lambda: self.redis.keys(pattern), lambda: self.redis.scan(match=pattern)]:
            with self.assertRaisesRegex(redis.ResponseError, "the pattern takes too long"):
                ask()
        self.assertEqual(self.redis.keys("x*"), [KEY])
        self.assertEqual(self.redis.keys("*y"), [])
        self.assertEqual(self.redis.keys("users:*"), [])

    def test_a_pattern_has_a_bound(self):
        with self.assertRaisesRegex(redis.ResponseError, "at most 256 bytes"):
            self.redis.config_get("*" * 257)
        with self.assertRaisesRegex(redis.ResponseError, "CONFIG GET with one pattern"):
            self.redis.config_get("*", "*")


unittest.main()
