# For GNU make 3.81 and newer.
.NOTPARALLEL:
.PHONY: help run tour setup test test-setup test-core test-apart test-cluster test-kafka \
	test-managed test-browser test-languages test-fresh test-matrix check stress build lint fmt \
	tidy tag tag-check apidiff model torture peers peers-check prove bench-once cover release \
	alerts screenshots

# Where https://go.dev/doc/install puts go, if it is not on the PATH.
export PATH := $(PATH):/usr/local/go/bin
# What is compiled for one checkout is then of use to the next one, as in CI.
export GOFLAGS := $(strip $(shell PATH='$(PATH)' go env GOFLAGS 2>/dev/null) -trimpath)

# Only a hang takes so long.
TESTFLAGS ?= -shuffle=on -timeout 30m
# Most tests wait for servers, so more of them than there are processors run at the same
# time. The race detector, which needs cgo, is for where our concurrency is: what only
# the tests of the others need takes longest to compile, and would be compiled twice.
# Without what a debugger needs, linking takes half as long. What vet finds is for make
# lint and make check.
GOTEST := go test -ldflags=-w -vet=off -p 3 -parallel 10 $(TESTFLAGS)
GOTEST_RACE := CGO_ENABLED=1 GORACE=atexit_sleep_ms=0 $(GOTEST) -race
NO_RACE := /cmd/unilog$$|/rocketrides/cmd/rocketrides$$|/openapitest$$|/internal/version$$|/internal/stress$$
# Those that take longest come first, or else the others would be done before them.
LONGEST := ./streamer ./endtoend ./cmd/unilog/dashboard
# What needs a browser, Kafka, several Redis servers, a pooler, or Python and Node runs apart. A
# test of those has this in its name, and none else: package testenv sees to it.
CLUSTER := Cluster|Sentinel
KAFKA := Kafka
MANAGED := Managed
BROWSER := ^TestBrowser
LANGUAGES := Languages
# What only make test-matrix has.
MATRIX := PgBouncer
# The modules: the library, its command, and the demonstration. What has a module of
# its own beside them is not in go.work: it needs many more modules, or shows how
# another service uses the library.
ALL := ./... ./cmd/unilog/... ./rocketrides/...
APART := $(CLUSTER)|$(KAFKA)|$(MANAGED)|$(BROWSER)|$(LANGUAGES)
NOT_CORE := $(APART)|$(MATRIX)
GOFUMPT := go run mvdan.cc/gofumpt@v0.12.0
STATICCHECK := go run honnef.co/go/tools/cmd/staticcheck@v0.8.2
ACTIONLINT := go run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
# What depends on the operating system. To check the rest for macOS, too, would be to
# compile all that it needs once more; make release does that.
OF_THE_SYSTEM := ./internal/private/... ./rocketrides/internal/up ./internal/testenv ./internal/proxy ./internal/kafka ./internal/redisnodes ./internal/stress
VERSION ?= $(shell git describe --tags --always --dirty)

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1|/p' Makefile | awk -F'|' '{ printf "%-21s %s\n", $$1, $$2 }'

run: ## install what is missing and run everything; ARGS="--rate 200 --for 30s"
	@sh scripts/setup.sh go servers
	@[ -e bin/rocketrides ] || echo "Building it; the first time takes a minute or two."
	go build -o bin/rocketrides ./rocketrides/cmd/rocketrides
	@exec bin/rocketrides up $(ARGS)

tour: build ## see it survive in a terminal: six steps, on private servers
	@sh scripts/setup.sh servers
	@bin/rocketrides tour $(ARGS)

test: test-setup test-core test-apart alerts ## install what is missing and run all tests

setup: test-setup ## install what is missing for any target
	@sh scripts/setup.sh model

test-setup:
	@sh scripts/setup.sh go servers compiler
	@sh scripts/setup.sh browser
	@sh scripts/setup.sh kafka
	@sh scripts/setup.sh managed
	@sh scripts/setup.sh languages

test-core: ## the tests that need Postgres and Redis at the most
	@sh scripts/setup.sh go servers compiler
	@sh scripts/beside.sh \
		"$(GOTEST_RACE) -skip '$(NOT_CORE)' $(LONGEST) \$$(go list $(ALL) | grep -vE '$(NO_RACE)')" \
		"$(GOTEST) -skip '$(NOT_CORE)' \$$(go list $(ALL) | grep -E '$(NO_RACE)')" \
		"cd examples/receipts && GOWORK=off $(GOTEST_RACE) ./..." \
		"cd examples/drivers && GOWORK=off $(GOTEST) ./..."

test-apart: test-setup ## those that need more, side by side
	@sh scripts/apart.sh '$(APART)' '$(GOTEST)' '$(GOTEST_RACE)'

test-cluster: ## those on a Redis Cluster and Sentinel
	@sh scripts/setup.sh go servers compiler
	@sh scripts/apart.sh '$(CLUSTER)' '$(GOTEST)' '$(GOTEST_RACE)'

test-kafka: ## those on Kafka
	@sh scripts/setup.sh go servers compiler
	@sh scripts/setup.sh kafka
	@sh scripts/apart.sh '$(KAFKA)' '$(GOTEST)' '$(GOTEST_RACE)'

test-managed: ## those under the conditions of hosted servers; ARGS=-v says what each process said
	@sh scripts/setup.sh go servers
	@sh scripts/setup.sh managed
	@sh scripts/apart.sh '$(MANAGED)' '$(GOTEST) $(ARGS)' '$(GOTEST_RACE) $(ARGS)'

test-browser: ## those that look at the dashboard in a browser
	@sh scripts/setup.sh go servers
	@sh scripts/setup.sh browser
	@sh scripts/apart.sh '$(BROWSER)' '$(GOTEST)' '$(GOTEST_RACE)'

test-languages: ## those of the examples in Python and Node
	@sh scripts/setup.sh go servers compiler
	@sh scripts/setup.sh languages
	@sh scripts/apart.sh '$(LANGUAGES)' '$(GOTEST)' '$(GOTEST_RACE)'

test-matrix: ## those that meet a server, and torture, on every version of it; ONLY="postgres-18 redis"
	@sh scripts/setup.sh go servers matrix
	@go run ./rocketrides/internal/matrix -write README.md $(ONLY)

test-fresh: ## make run and make test on a Debian 12 and a 13 made for it; needs root and debootstrap
	@sh scripts/fresh.sh 12
	@sh scripts/fresh.sh 13

check: ## check and test what has changed since the last commit; SINCE=main
	@sh scripts/setup.sh go servers compiler
	@sh scripts/check.sh '$(SINCE)' '$(GOFUMPT)' '$(STATICCHECK)' "$(GOTEST_RACE) -skip '$(NOT_CORE)'"

stress: test-setup ## run all tests N times, every other time beside a load, and say which were not green; N=20
	go run ./internal/stress -n $(or $(N),20) -logs bin/stress $(MAKE) -k test TESTFLAGS='-json -count=1 $(TESTFLAGS)'

build: ## build bin/unilog and bin/rocketrides
	@sh scripts/setup.sh go
	go build -o bin/ ./cmd/unilog ./rocketrides/cmd/rocketrides

lint: ## check the formatting and the code, what is of the system for macOS too
	@sh scripts/setup.sh go
	@files=$$($(GOFUMPT) -l .) || exit 1; \
	if [ -n "$$files" ]; then echo "not formatted (run make fmt):"; echo "$$files"; exit 1; fi
	go vet $(ALL)
	GOOS=darwin go vet $(OF_THE_SYSTEM)
	$(STATICCHECK) $(ALL)
	for dir in examples/receipts examples/drivers peers; do (cd $$dir && GOWORK=off go vet ./... && GOWORK=off $(STATICCHECK) ./...) || exit 1; done
	$(ACTIONLINT)

fmt: ## format the code
	$(GOFUMPT) -w .

model: ## install what is missing and check the protocol's model; ARGS=thorough
	@sh scripts/setup.sh model
	@sh scripts/model.sh $(ARGS)

torture: build ## inject every fault for a minute and see that all promises are kept; ARGS="--for 10m"
	@sh scripts/setup.sh servers
	@bin/rocketrides torture $(ARGS)

prove: ## take away what each promise rests on, and see that its test goes red; ARGS="pause"
	@sh scripts/setup.sh go servers
	@go run ./internal/prove $(ARGS)

peers: ## compare with a plain outbox, Watermill and Debezium, and write docs/compare.md; ARGS="--rounds 5"
	@sh scripts/setup.sh go servers
	@sh scripts/peers.sh $(ARGS)

peers-check: ## see that what is compared delivers everything, and unilog whatever is done to it
	@sh scripts/setup.sh go servers
	@sh scripts/peers.sh --check --records 5000

bench-once: ## run each benchmark once
	@sh scripts/setup.sh go servers compiler
	$(GOTEST_RACE) -run '^$$' -bench . -benchtime 1x $$(grep -rl --include='*_test.go' '^func Benchmark' . | xargs -n 1 dirname | sort -u)

alerts: ## test the rules for Prometheus
	@sh scripts/setup.sh go
	cd deploy/prometheus && GOWORK=off go vet ./... && GOWORK=off go test ./...

cover: ## run the tests and write bin/cover.html
	@sh scripts/setup.sh go servers
	@mkdir -p bin
	go test -coverprofile=bin/cover.out $(ALL)
	go tool cover -html=bin/cover.out -o bin/cover.html

screenshots: ## picture the dashboard, for people to look at, in bin/screenshots, and for the README
	@sh scripts/setup.sh go servers
	@sh scripts/setup.sh browser
	go test -run '^TestScreenshots$$' -count=1 ./rocketrides/cmd/rocketrides -screenshots='$(CURDIR)/bin/screenshots' -picture='$(CURDIR)/docs/dashboard.webp'

tidy: ## tidy all go.mod
	@sh scripts/setup.sh go
	@sh scripts/tidy.sh

tag: ## tag all modules in lock-step, after a check that they can be had; VERSION=v1.2.3
	@sh scripts/setup.sh go
	@sh scripts/tag.sh '$(VERSION)'

tag-check: ## see that a tag of all modules could be had
	@sh scripts/setup.sh go
	@sh scripts/tag.sh v0.0.1-check check

apidiff: ## see that no change to the Go API breaks who uses the last version without a word; SINCE=v1.2.3
	@sh scripts/setup.sh go
	@sh scripts/apidiff.sh $(SINCE)

release: ## build archives, an image, SBOMs and checksums into dist/; VERSION=v1.2.3 PLATFORMS="linux/amd64"
	@sh scripts/setup.sh go
	@sh scripts/release.sh '$(VERSION)' $(PLATFORMS)
