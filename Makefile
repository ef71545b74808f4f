# make demo   the three tiers: rejected, fenced, enforced, with real connections (root or sudo)
# make test   everything that needs no cluster: format, lints, unit, property and packet tests (root or sudo)
# make build  the release binary, target/release/ringfence
# make static the same without any file that it needs beside itself, target/image/ringfence
# make image  the image, target/ringfence-image.tar (an OCI archive)
# make chart-test  the helm chart, without a cluster

SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
CARGO ?= cargo
BINARY := target/release/ringfence

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p;T;q' Cargo.toml)
TARGET := $(shell rustc -vV | sed -n 's/^host: //p')

.PHONY: help packages build static image chart-test demo test lint fmt clean

help:
	@sed -n '/^#/!q;s/^# //p' Makefile

# What Debian 12 lacks for building and for the network namespaces; asks for nothing when all of it is there.
packages:
	@./tests/packages.sh

build: packages
	$(CARGO) build --release --locked

# By name of the target, so that the flags are for the program and not for what runs while it is built.
static: packages
	RUSTFLAGS="-C target-feature=+crt-static" LIBBPF_SYS_LIBRARY_PATH="$$(dirname "$$(cc -print-file-name=libelf.a)")" \
		$(CARGO) build --release --locked --features static --target $(TARGET) --target-dir target/static
	install -D target/static/$(TARGET)/release/ringfence target/image/ringfence
	install -m 644 -t target/image LICENSE src/datapath/bpf/LICENSE.BSD-2-Clause

image: static
	./tests/image.sh $(VERSION)

chart-test: build
	./tests/chart.sh $(BINARY)

demo: build
	$(SUDO) $(BINARY) demo

fmt:
	$(CARGO) fmt --check

lint: packages
	$(CARGO) clippy --locked --all-targets -- --deny warnings

# Tests are built by whoever calls and run as root: packet tests load programs into the kernel. Missing root is a failure
# here, not a skipped test.
TRIPLE := $(shell echo $(TARGET) | tr a-z- A-Z_)
test: packages fmt lint
	CARGO_TARGET_$(TRIPLE)_RUNNER="$(strip $(SUDO) env RINGFENCE_REQUIRE_ROOT=1)" $(CARGO) test --locked

clean:
	$(CARGO) clean
