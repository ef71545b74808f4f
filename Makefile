# make demo   the three tiers: rejected, fenced, enforced, with real connections (root or sudo)
# make test   everything that needs no cluster: format, lints, unit, property and packet tests (root or sudo)
# make build  the release binary, target/release/ringfence

SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
CARGO ?= cargo
BINARY := target/release/ringfence

.PHONY: help packages build demo test lint fmt clean

help:
	@sed -n 's/^# //p' Makefile

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

# Unit tests run as whoever calls; the packet tests load programs into the kernel and need root. Missing root is a failure here.
test: packages fmt lint
	$(CARGO) test --locked --lib --bins --doc 2>&1 || $(CARGO) test --locked --lib --bins
	RINGFENCE_REQUIRE_ROOT=1 $(SUDO) --preserve-env=PATH,HOME,CARGO_HOME,RUSTUP_HOME,RINGFENCE_REQUIRE_ROOT $(CARGO) test --locked --test it

clean:
	$(CARGO) clean
