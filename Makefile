# For GNU make 3.81 and newer.
.NOTPARALLEL:
.PHONY: help run test build lint fmt model torture bench-once cover release alerts screenshots

# Where https://go.dev/doc/install puts go, if it is not on the PATH.
export PATH := $(PATH):/usr/local/go/bin

# The race detector needs cgo.
TESTFLAGS ?= -race -shuffle=on -timeout 10m
GOFUMPT := go run mvdan.cc/gofumpt@v0.12.0
STATICCHECK := go run honnef.co/go/tools/cmd/staticcheck@v0.8.2
ACTIONLINT := go run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
# What depends on the operating system. To check the rest for macOS, too, would be to
# compile all that it needs once more; make release does that.
OF_THE_SYSTEM := ./internal/private/... ./internal/up ./internal/testenv ./internal/proxy ./internal/kafka ./internal/redisnodes
VERSION ?= $(shell git describe --tags --always --dirty)

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1|/p' Makefile | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

run: ## install what is missing and run everything; ARGS="--rate 200 --for 30s"
	@sh scripts/setup.sh go servers
	go build -o bin/rocketrides ./cmd/rocketrides
	@exec bin/rocketrides up $(ARGS)

test: ## install what is missing and run all tests
	@sh scripts/setup.sh go servers compiler
	@sh scripts/setup.sh browser
	@sh scripts/setup.sh kafka
	CGO_ENABLED=1 go test $(TESTFLAGS) ./...
	cd examples/receipts && CGO_ENABLED=1 go test $(TESTFLAGS) ./...

build: ## build bin/rocketrides
	@sh scripts/setup.sh go
	go build -o bin/rocketrides ./cmd/rocketrides

lint: ## check the formatting and the code, what is of the system for macOS too
	@sh scripts/setup.sh go
	@files=$$($(GOFUMPT) -l .) || exit 1; \
	if [ -n "$$files" ]; then echo "not formatted (run make fmt):"; echo "$$files"; exit 1; fi
	go vet ./...
	GOOS=darwin go vet $(OF_THE_SYSTEM)
	$(STATICCHECK) ./...
	cd examples/receipts && go vet ./... && $(STATICCHECK) ./...
	$(ACTIONLINT)

fmt: ## format the code
	$(GOFUMPT) -w .

model: ## install what is missing and check the protocol's model; ARGS=thorough
	@sh scripts/setup.sh model
	@sh scripts/model.sh $(ARGS)

torture: build ## inject every fault for a minute and see that all promises are kept; ARGS="--for 10m"
	@sh scripts/setup.sh servers
	@bin/rocketrides torture $(ARGS)

bench-once: ## run each benchmark once
	@sh scripts/setup.sh go servers
	go test -run '^$$' -bench . -benchtime 1x ./...

alerts: ## test the rules for Prometheus
	@sh scripts/setup.sh go
	cd deploy/prometheus && go vet ./... && go test ./...

cover: ## run the tests and write bin/cover.html
	@sh scripts/setup.sh go servers
	@mkdir -p bin
	go test -coverprofile=bin/cover.out ./...
	go tool cover -html=bin/cover.out -o bin/cover.html

screenshots: ## picture the dashboard, for people to look at, in bin/screenshots, and for the README
	@sh scripts/setup.sh go servers
	@sh scripts/setup.sh browser
	go test -run '^TestScreenshots$$' -count=1 ./cmd/rocketrides -screenshots='$(CURDIR)/bin/screenshots' -picture='$(CURDIR)/docs/dashboard.webp'

release: ## cross-compile for Linux and macOS into dist/; VERSION=v1.2.3
	@sh scripts/setup.sh go
	@sh scripts/release.sh '$(VERSION)'
