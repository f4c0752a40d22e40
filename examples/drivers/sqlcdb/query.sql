-- name: CreateOrder :exec
INSERT INTO orders (id, cents) VALUES ($1, $2);

-- name: AddRevenue :exec
UPDATE revenue SET cents = cents + sqlc.arg(cents) WHERE consumer = sqlc.arg(consumer);
