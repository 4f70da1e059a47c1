# Everything a person or a CI runs here. `make` alone lists the targets.
#
# DEMO_ARGS, BENCH_ARGS and SIM_ARGS go to the program: make demo DEMO_ARGS="--from 2026-09-01 --to 2026-09-30"
# CARGO_TARGET_DIR says where builds lie. Unless it is set: outside the clone, in a folder of this clone's own. Clones
# never share one by default: cargo tells what is fresh by the time of a file, not by what is in it.
SHELL := /bin/bash
.DEFAULT_GOAL := help

CACHE_HOME := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)
CLONE := $(notdir $(CURDIR))-$(firstword $(shell printf '%s' '$(CURDIR)' | cksum))
CARGO_TARGET_DIR ?= $(CACHE_HOME)/bletchley/$(CLONE)
export CARGO_TARGET_DIR
# A shell that was open while rustup was installed does not have cargo on its path yet.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

# A log has no use for colours and moving bars.
ifneq ($(CI),)
export CARGO_TERM_COLOR := never
export CARGO_TERM_PROGRESS_WHEN := never
export NO_COLOR := 1
export NPM_CONFIG_PROGRESS := false
endif

BIN := $(CARGO_TARGET_DIR)/release
CARGO_ARGS := --release --locked
PROGRAMS := -p cryptlet-cli -p cryptlet-container
DEMO_ARGS ?=
BENCH_ARGS ?=
SIM_ARGS ?=
STEPS := fmt clippy build rust api contracts cryptlets rustdoc
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?=

##@ Use
.PHONY: help demo bench bench-anvil bench-isolation bench-register install
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@ / {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## one contract, woken for a month with real rates; installs and builds what is missing
	@scripts/setup.sh rust cc
	@echo "==> build: the cryptlet program and its container (once; minutes when cold)"
	@cargo build $(CARGO_ARGS) $(PROGRAMS)
	@echo "==> run: cryptlet demo $(DEMO_ARGS)"
	@$(BIN)/cryptlet demo $(DEMO_ARGS)

bench: ## latency and throughput of the path, beside its limits
	@scripts/setup.sh rust cc
	@cargo build $(CARGO_ARGS) $(PROGRAMS)
	@$(BIN)/cryptlet bench path $(BENCH_ARGS)

bench-anvil: ## the same on Anvil, a node that is not ours
	@scripts/setup.sh rust cc node anvil
	@cargo build $(CARGO_ARGS) $(PROGRAMS)
	@$(BIN)/cryptlet bench path --chain anvil $(BENCH_ARGS)

bench-isolation: ## what a region costs, beside the same work without one and wasmtime alone
	@scripts/setup.sh rust cc
	@cargo build $(CARGO_ARGS) $(PROGRAMS)
	@$(BIN)/cryptlet bench isolation $(BENCH_ARGS)

bench-register: ## look-up and search among 100,000 registered cryptlets, beside a bare SELECT
	@scripts/setup.sh rust cc
	@cargo bench --locked -p cryptlet-register

install: ## put cryptlet and its container into cargo's bin folder
	@scripts/setup.sh rust cc
	cargo install --locked --path enclave/container
	cargo install --locked --path apps/cli

##@ Check
.PHONY: test lint fmt clippy build rust sim fuzz api contracts cryptlets microvm rustdoc docs setup
test: ## everything that CI runs, in its order, with the time of each step
	@scripts/setup.sh rust cc wasm node services python tpm guest
	+@MAKE='$(MAKE)' scripts/steps.sh $(STEPS)

lint: fmt clippy ## formatting and lints only

fmt: ## formatting of all cargo workspaces
	cargo fmt --all --check
	cargo fmt --all --check --manifest-path cryptlets/Cargo.toml
	cargo fmt --all --check --manifest-path enclave/microvm/Cargo.toml

clippy: ## lints of both cargo workspaces, warnings are errors
	@scripts/setup.sh rust cc tpm
	cargo clippy $(CARGO_ARGS) --workspace --all-targets -- -D warnings
	CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/cryptlets cargo clippy $(CARGO_ARGS) --workspace --all-targets \
		--manifest-path cryptlets/Cargo.toml -- -D warnings

build: ## programs and tests, with the features that `make rust` uses
	@scripts/setup.sh rust cc tpm
	cargo build $(CARGO_ARGS) --workspace --all-targets

rust: build ## Rust tests, those that drive cast, forge, viem, ethers, Anvil, a TPM in software and booted images included
	@scripts/setup.sh rust cc guest
	CRYPTLET_CLIENT_TESTS=1 CRYPTLET_GUEST_TESTS=1 cargo test $(CARGO_ARGS) --workspace

sim: ## the whole path in simulated worlds, one a seed: make sim SIM_ARGS="--seeds 5000"; a short run is part of `make rust`
	@scripts/setup.sh rust cc
	@cargo build $(CARGO_ARGS) -p cryptlet-sim
	@$(BIN)/cryptlet-sim $(or $(SIM_ARGS),--seeds 3000)

fuzz: ## each parser at the boundary for a minute, by libFuzzer: make fuzz FUZZ_SECONDS=3600 FUZZ_TARGETS="package policy"
	@scripts/setup.sh rust cc
	@scripts/fuzz.sh $(FUZZ_SECONDS) $(FUZZ_TARGETS)

api: build ## a real host, asked by schemathesis whatever its OpenAPI document allows, and more
	scripts/api-fuzz.sh $(BIN)/cryptlet

contracts: ## contract tests, gas snapshot, and that the checked-in artifacts match the sources
	$(MAKE) -C contracts test

cryptlets: ## tests of the cryptlets; rebuild the components and compare them with the checked-in ones, bit for bit
	cargo fetch --locked --manifest-path cryptlets/Cargo.toml
	$(MAKE) -C cryptlets test check

# A workspace of its own, since its guest is built for no operating system; its folder is not shared with the others.
microvm: build ## regions in virtual machines: builds their container, and tests it on a processor that QEMU emulates
	@scripts/setup.sh microvm
	CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/microvm cargo clippy $(CARGO_ARGS) --all-targets \
		--manifest-path enclave/microvm/Cargo.toml -- -D warnings
	CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/microvm cargo clippy $(CARGO_ARGS) -p cryptlet-microvm-guest \
		--target x86_64-unknown-none --manifest-path enclave/microvm/Cargo.toml -- -D warnings
	CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/microvm cargo test $(CARGO_ARGS) --manifest-path enclave/microvm/Cargo.toml
	CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/microvm cargo build $(CARGO_ARGS) --manifest-path enclave/microvm/Cargo.toml
	cp $(CARGO_TARGET_DIR)/microvm/release/cryptlet-container-microvm $(BIN)/
	MICROVM_CARGO='$(CARGO_ARGS) --workspace' scripts/microvm-test.sh $(BIN)

# Module pages are written for who works on them too, and may link to private items.
rustdoc: ## API documentation without a warning
	@scripts/setup.sh rust cc tpm
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc $(CARGO_ARGS) --workspace --no-deps

docs: ## links, paths and conformance rows of the documents; arrows between crates (part of `make rust`)
	cargo test $(CARGO_ARGS) --workspace --test docs --test arrows

setup: ## only install what the targets need
	@scripts/setup.sh rust cc wasm node services python tpm guest

##@ Clean
.PHONY: clean
clean: ## remove builds, node packages and demo output
	cargo clean
	rm -rf bletchley-demo contracts/node_modules contracts/out contracts/cache
	find apps node pipeline -name node_modules -prune -exec rm -rf {} +
