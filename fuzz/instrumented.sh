#!/bin/bash
# usage: RUSTC_WRAPPER=fuzz/instrumented.sh cargo build     counts edges and compares for libFuzzer, of what is fuzzed only
# The flags are those of cargo-fuzz without a sanitizer, all of them stable: there is hardly anything unsafe in here to sanitize.
# Everything else is built as for tests, and so is built already where tests were.
set -euo pipefail
if [[ " $* " =~ " --crate-name "(ringfence|review|check|saphyr_parser)" " ]]; then
	counters=(-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-trace-compares
		-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table)
	exec "$@" "${counters[@]}"
fi
exec "$@"
