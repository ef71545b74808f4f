# make demo   the three tiers: rejected, fenced, enforced, with real connections (root or sudo)
# make test   everything that needs no cluster: format, lints, unit, property and packet tests (root or sudo)
# make build  the release binary, target/release/ringfence
# make fuzz   any bytes for the webhook and for check, half a minute each; FUZZ_SECONDS FUZZ_SEED
# make bench  what compiling and judging cost on this machine (root or sudo)
# make static the same without any file that it needs beside itself, target/image/ringfence
# make image  the image, target/ringfence-image.tar (an OCI archive); ARCH=arm64 for that machine, target/ringfence-image-arm64.tar
# make chart-test  the helm chart, without a cluster
#
# make cluster       two real Kubernetes nodes with the chart on them; CHART=0 PROXY=iptables DUAL=1 (tests/cluster/README.md)
# make cluster-down  the cluster is gone, without a trace
# make conformance   everything that takes such clusters, Kubernetes' own NetworkPolicy suite included; FOCUS=REGEX for some of it
# make bench-cluster  what a change, a connection, an agent's start and a pod's first packet cost on such a cluster

SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
CARGO ?= cargo
BINARY := target/release/ringfence

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p;T;q' Cargo.toml)
TARGET := $(shell rustc -vV | sed -n 's/^host: //p')
IMAGE := target/image
# Of another architecture than this machine: Debian's cross compiler, and static libraries that tests/arm64.sh unpacks.
ifeq ($(ARCH),arm64)
STATIC := aarch64-unknown-linux-gnu
IMAGE := target/image-arm64
ARM64 := $(CURDIR)/target/arm64/sysroot/usr
STATIC_ENV := CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
	CFLAGS_aarch64_unknown_linux_gnu="-idirafter $(ARM64)/include -idirafter $(ARM64)/include/aarch64-linux-gnu" \
	LIBBPF_SYS_LIBRARY_PATH_aarch64_unknown_linux_gnu=$(ARM64)/lib/aarch64-linux-gnu \
	LIBBPF_SYS_LIBRARY_PATH_$(subst -,_,$(TARGET))="$$(dirname "$$(cc -print-file-name=libelf.a)")" PKG_CONFIG_ALLOW_CROSS=1
else
STATIC := $(TARGET)
STATIC_ENV := LIBBPF_SYS_LIBRARY_PATH="$$(dirname "$$(cc -print-file-name=libelf.a)")"
endif

.PHONY: help packages build bench static image chart-test demo test fuzz lint fmt clean cluster cluster-down cluster-programs conformance bench-cluster

help:
	@sed -n '/^#/!q;s/^# //p' Makefile

# What Debian 12 lacks for building and for the network namespaces; asks for nothing when all of it is there.
packages:
	@./tests/packages.sh

build: packages
	$(CARGO) build --release --locked

# By name of the target, so that the flags are for the program and not for what runs while it is built.
static: packages
	$(if $(filter arm64,$(ARCH)),./tests/arm64.sh target/arm64)
	RUSTFLAGS="-C target-feature=+crt-static" $(STATIC_ENV) \
		$(CARGO) build --release --locked --features static --target $(STATIC) --target-dir target/static
	install -D target/static/$(STATIC)/release/ringfence $(IMAGE)/ringfence
	install -m 644 -t $(IMAGE) LICENSE src/datapath/bpf/LICENSE.BSD-2-Clause

image: static
	./tests/image.sh $(VERSION) $(ARCH)

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

# What is found stays in fuzz/artifacts; what is merely new goes with its folder.
FUZZ_SECONDS ?= 30
FUZZ_SEED ?= 1
fuzz: packages
	CARGO_TARGET_DIR=target RUSTC_WRAPPER=$(CURDIR)/fuzz/instrumented.sh $(CARGO) build --locked --manifest-path fuzz/Cargo.toml
	@mkdir -p fuzz/artifacts; new=$$(mktemp -d); trap 'rm -r "$$new"' EXIT; set -e; for target in review check; do mkdir "$$new/$$target"; \
		target/debug/$$target -seed=$(FUZZ_SEED) -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 -max_len=65536 -verbosity=0 -print_funcs=0 -print_final_stats=1 \
			-artifact_prefix="fuzz/artifacts/$$target-" "$$new/$$target" fuzz/corpus/$$target; done

# Figures, no verdicts: compare only what one run printed.
bench: packages
	$(CARGO) bench --locked
	CARGO_TARGET_$(TRIPLE)_RUNNER="$(strip $(SUDO) env RINGFENCE_REQUIRE_ROOT=1)" \
		$(CARGO) test --locked --release --test it -- --ignored --nocapture --test-threads 1

# Programs are built by whoever calls, into their cache; the cluster needs root.
CHART ?= 1
CLUSTER_CACHE := $(or $(RINGFENCE_CLUSTER_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/ringfence-cluster)
CLUSTER_DIR := $(or $(RINGFENCE_CLUSTER_DIR),/run/ringfence-cluster)
AS_ROOT = $(strip $(SUDO) env RINGFENCE_CLUSTER_CACHE=$(CLUSTER_CACHE) RINGFENCE_CLUSTER_DIR=$(CLUSTER_DIR) $(foreach \
	setting,PROXY DUAL CHART KEEP FOCUS PROCS CHANGES PAIRS PODS WAVE PAUSE CROWD CROWD_POLICIES START_PODS ONLY,$(if $($(setting)),$(setting)='$($(setting))')))

cluster-programs:
	@./tests/cluster/packages.sh
	@RINGFENCE_CLUSTER_CACHE=$(CLUSTER_CACHE) ./tests/cluster/build.sh

cluster: cluster-programs $(if $(filter 0,$(CHART)),,image)
	@$(AS_ROOT) ./tests/cluster/up.sh
	@$(if $(filter 0,$(CHART)),,$(AS_ROOT) ./tests/cluster/install.sh)
	@echo "try: $(CLUSTER_DIR)/bin/kubectl get pods -A -o wide"
	@echo "or:  export PATH=$(CLUSTER_DIR)/bin:\$$PATH, then kubectl, helm, and 'on n1 COMMAND' on a node; make cluster-down ends it"

cluster-down:
	@$(AS_ROOT) ./tests/cluster/down.sh

conformance: cluster-programs $(if $(filter 0,$(CHART)),,image)
	@$(AS_ROOT) ./tests/cluster/conformance.sh

bench-cluster: cluster-programs image
	@$(AS_ROOT) ./tests/cluster/bench.sh

clean:
	$(CARGO) clean
