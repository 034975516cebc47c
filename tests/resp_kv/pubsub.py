"""Channels, patterns, and who hears what."""

import unittest

import redis
from wire import DEADLINE, TestCase


class PubSub(TestCase):
    def subscriber(self):
        subscriber = self.client().pubsub(ignore_subscribe_messages=False)
        self.addCleanup(subscriber.close)
        return subscriber

    def next(self, subscriber):
        message = subscriber.get_message(timeout=DEADLINE)
        self.assertIsNotNone(message, "no message")
        return message["type"], message["pattern"], message["channel"], message["data"]

    def test_a_message_comes_to_all_who_subscribed(self):
        subscribers = [self.subscriber() for _ in range(10)]
        for subscriber in subscribers:
            subscriber.subscribe("news")
            self.assertEqual(self.next(subscriber), ("subscribe", None, "news", 1))
        self.assertEqual(self.redis.publish("news", "hello"), 10)
        self.assertEqual(self.redis.publish("olds", "hello"), 0)
        for subscriber in subscribers:
            self.assertEqual(self.next(subscriber), ("message", None, "news", "hello"))

    def test_messages_come_in_order(self):
        subscriber = self.subscriber()
        subscriber.subscribe("news")
        self.next(subscriber)
        pipeline = self.redis.pipeline(transaction=False)
        for i in range(5000):
            pipeline.publish("news", i)
        self.assertEqual(pipeline.execute(), [1] * 5000)
        for i in range(5000):
            self.assertEqual(self.next(subscriber)[3], str(i))

    def test_a_pattern_hears_all_that_match(self):
        subscriber = self.subscriber()
        subscriber.psubscribe("news.*", "n?ws.art")
        self.assertEqual(self.next(subscriber), ("psubscribe", None, "news.*", 1))
        self.assertEqual(self.next(subscriber), ("psubscribe", None, "n?ws.art", 2))
        self.assertEqual(self.redis.publish("news.art", "x"), 2)
        self.assertEqual(self.redis.publish("news", "x"), 0)
        heard = {self.next(subscriber), self.next(subscriber)}
        patterns = {("pmessage", pattern, "news.art", "x") for pattern in ("news.*", "n?ws.art")}
        self.assertEqual(heard, patterns)

    def test_who_has_unsubscribed_hears_no_more(self):
        subscriber = self.subscriber()
        subscriber.subscribe("a", "b")
        subscriber.unsubscribe("a")
        for expected in [("subscribe", "a", 1), ("subscribe", "b", 2), ("unsubscribe", "a", 1)]:
            kind, _, channel, count = self.next(subscriber)
            self.assertEqual((kind, channel, count), expected)
        self.assertEqual([self.redis.publish("a", "x"), self.redis.publish("b", "y")], [0, 1])
        self.assertEqual(self.next(subscriber), ("message", None, "b", "y"))

    def test_who_has_left_is_not_counted(self):
        subscriber = self.subscriber()
        subscriber.subscribe("news")
        self.next(subscriber)
        self.assertEqual(self.redis.publish("news", "x"), 1)
        subscriber.close()
        # Its end and the next command come by different connections.
        self.until(lambda: self.redis.publish("news", "x") == 0)

    def test_a_subscriber_may_only_subscribe_and_ping(self):
        raw = self.raw()
        self.assertEqual(raw.ask("SUBSCRIBE", "news"), ["subscribe", "news", 1])
        self.assertIn("Can't execute 'get'", str(raw.ask("GET", "x")))
        self.assertEqual(raw.ask("PING"), ["pong", ""])
        self.assertEqual(raw.ask("PING", "hello"), ["pong", "hello"])
        self.assertEqual(raw.ask("UNSUBSCRIBE"), ["unsubscribe", "news", 0])
        self.assertEqual(raw.ask("PING"), "PONG")
        self.assertEqual(raw.ask("GET", "x"), None)

    def test_publishing_is_part_of_a_transaction(self):
        subscriber = self.subscriber()
        subscriber.subscribe("news")
        self.next(subscriber)
        pipeline = self.redis.pipeline(transaction=True)
        pipeline.set("a", 1).publish("news", "set").get("a")
        self.assertEqual(pipeline.execute(), [True, 1, "1"])
        self.assertEqual(self.next(subscriber)[3], "set")

    def test_subscribing_twice_is_subscribing_once(self):
        raw = self.raw()
        self.assertEqual(raw.ask("SUBSCRIBE", "news", "news"), ["subscribe", "news", 1])
        self.assertEqual(raw.reply(), ["subscribe", "news", 1])
        self.assertEqual(self.redis.publish("news", "x"), 1)
        self.assertEqual(raw.reply(), ["message", "news", "x"])


unittest.main()
