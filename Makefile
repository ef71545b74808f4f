# make demo   the three tiers: rejected, fenced, enforced, with real connections (root or sudo)
# make test   everything that needs no cluster: format, lints, unit, property and packet tests (root or sudo)
# make build  the release binary, target/release/ringfence

SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
CARGO ?= cargo
BINARY := target/release/ringfence

.PHONY: help packages build demo test lint fmt clean

help:
	@sed -n '/^#/!q;s/^# //p' Makefile

# What Debian 12 lacks for building and for the network namespaces; asks for nothing when all of it is there.
packages:
	@./tests/packages.sh

build: packages
	$(CARGO) build --release --locked

demo: build
	$(SUDO) $(BINARY) demo

fmt:
	$(CARGO) fmt --check

lint: packages
	$(CARGO) clippy --locked --all-targets -- --deny warnings

# Tests are built by whoever calls and run as root: packet tests load programs into the kernel. Missing root is a failure
# here, not a skipped test.
TRIPLE := $(shell rustc -vV | sed -n 's/^host: //p' | tr a-z- A-Z_)
test: packages fmt lint
	CARGO_TARGET_$(TRIPLE)_RUNNER="$(strip $(SUDO) env RINGFENCE_REQUIRE_ROOT=1)" $(CARGO) test --locked

clean:
	$(CARGO) clean
