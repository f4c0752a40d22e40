-- The tables of Rocket Rides. What an older version has granted, or a hand:
REVOKE ALL ON rides, idempotency_keys, idempotency_keys_0, idempotency_keys_1, idempotency_keys_2, consumer_states
    FROM rocketrides_api, rocketrides_streamer, rocketrides_consumer, rocketrides_reader;
REVOKE ALL ON SEQUENCE rides_id_seq FROM rocketrides_api, rocketrides_streamer, rocketrides_consumer, rocketrides_reader;

GRANT SELECT, INSERT (id, distance) ON rides TO rocketrides_api; -- it takes ids before it makes rides
GRANT USAGE ON SEQUENCE rides_id_seq TO rocketrides_api;
GRANT SELECT, INSERT ON idempotency_keys TO rocketrides_api;
GRANT TRUNCATE ON idempotency_keys_0, idempotency_keys_1, idempotency_keys_2 TO rocketrides_api; -- when they are old
GRANT SELECT, INSERT, UPDATE ON consumer_states TO rocketrides_consumer;
GRANT SELECT ON rides, consumer_states TO rocketrides_reader;
