CREATE TABLE rides (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Metres. The upper bound also keeps out NaN and Infinity, which Postgres
    -- sorts above every number and which would poison every sum.
    distance   numeric NOT NULL CHECK (distance >= 0 AND distance <= 1e9)
);

CREATE TABLE consumer_states (
    name           text PRIMARY KEY,
    total_distance numeric NOT NULL
);
