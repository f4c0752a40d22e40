CREATE TABLE IF NOT EXISTS orders (id text PRIMARY KEY, cents bigint NOT NULL);
CREATE TABLE IF NOT EXISTS revenue (consumer text PRIMARY KEY, cents bigint NOT NULL);
