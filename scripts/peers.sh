#!/bin/sh
# Runs bin/peers with what it compares. The arguments are its own.
set -eu
cd "$(dirname "$0")/.."
go build -o bin/ ./cmd/unilog
(cd peers && GOWORK=off go vet . && GOWORK=off go test . && GOWORK=off go build -o ../bin/peers .)
case " $* " in
*" --check "*) debezium=$(sh scripts/debezium.sh cached) ;;
*)
	debezium=$(sh scripts/debezium.sh)
	set -- --document docs/compare.md "$@"
	;;
esac
# Unquoted, since they are several, each in a line.
IFS='
'
set -f
exec bin/peers --unilog bin/unilog $debezium "$@"
