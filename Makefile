# Commands for developers. `make help` lists them.

CARGO ?= cargo
# The test runner: cargo-nextest where it is installed.
RUNNER := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo nextest run || echo test)
ifeq ($(RUNNER),test)
ONLY_COMPAT := --package compat-tests
else
# Select by filter, so that the build is that of the whole workspace and nothing is built twice.
ONLY_COMPAT := --workspace --filterset 'package(compat-tests)'
endif

.PHONY: help demo test compat format lint doctest replace

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## run a seed, a receiver and a sender as three processes that find each other and talk
	@echo "Building; the first time that takes a minute or two."
	@$(CARGO) build --quiet --features cli --bins --examples
	@scripts/demo

test: format lint doctest docs profile ## formatting, lints, documentation, instruction counts and all tests, including those against Perl
	@require=; \
	scripts/packages perl && require=packages; \
	scripts/packages hosts && require=$$require,hosts; \
	AEMP_REQUIRE=$$require; \
	export AEMP_REQUIRE; \
	$(CARGO) $(RUNNER) --workspace --no-fail-fast

compat: ## only the checks against Perl; fails if there are no real Perl nodes
	@scripts/packages perl && scripts/packages hosts
	@$(CARGO) build --workspace --bins --examples
	AEMP_REQUIRE=packages,live,hosts $(CARGO) $(RUNNER) --no-fail-fast $(ONLY_COMPAT)

format:
	$(CARGO) fmt --all --check

lint:
	$(CARGO) clippy --quiet --workspace --all-targets -- -D warnings

doctest:
ifneq ($(RUNNER),test)
	$(CARGO) test --quiet --workspace --doc
endif

.PHONY: docs

docs: ## the crate's documentation: without warnings, and with the public items that docs/public-items.txt lists
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc --quiet --package aemp --no-deps --features cli,metrics-facade
	@scripts/public-items "$${CARGO_TARGET_DIR:-target}/doc/aemp/all.html" | diff docs/public-items.txt - || \
	  { echo "The public items have changed. If that is meant: make public-items"; exit 1; }

.PHONY: public-items

public-items: ## write docs/public-items.txt anew
	@$(CARGO) doc --quiet --package aemp --no-deps --features cli,metrics-facade
	@scripts/public-items "$${CARGO_TARGET_DIR:-target}/doc/aemp/all.html" > docs/public-items.txt

.PHONY: browser

browser: ## the status page in Chromium, if installed; screenshots go to target/browser
	@$(CARGO) build --quiet --workspace --bins
	$(CARGO) test --quiet --workspace --test browser -- --nocapture

.PHONY: deb deny package

deb: ## a Debian package of the command, in target/
	@$(CARGO) build --release --quiet --features cli --bin aemp
	@scripts/deb "$${CARGO_TARGET_DIR:-target}"

deny: ## licences, duplicates and sources of all dependencies; ADVISORIES=1: also known vulnerabilities (needs network)
	@$(CARGO) deny --version > /dev/null || { echo "cargo install cargo-deny"; exit 1; }
	$(CARGO) deny $(if $(ADVISORIES),,--offline) check $(if $(ADVISORIES),advisories) bans licenses sources

package: ## check that the published package is complete: that it builds by itself
	$(CARGO) package --package aemp --quiet

.PHONY: bench profile

bench: ## all cases, compared with plain TCP, ZeroMQ, NATS, Erlang, ractor_cluster and Perl, where installed, and with BEFORE=COMMIT
	@before=; \
	if [ -n "$(BEFORE)" ]; then before=$$(CARGO="$(CARGO)" scripts/bench-before "$(BEFORE)") || exit 1; fi; \
	features=nats,ractor; \
	if pkg-config --exists libzmq 2>/dev/null; then features=$$features,zeromq; fi; \
	$(CARGO) build --release --quiet --features cli --bin aemp && \
	$(CARGO) run --release --quiet --package aemp-bench --features $$features --bin aemp-bench -- \
	  $${before:+--before "$$before"} $(BENCH)

profile: ## instruction counts of the hot paths (callgrind); fails if one grew by more than 3 %
	@if scripts/packages counts; then \
	  $(CARGO) build --profile counts --quiet --package aemp-bench --bin aemp-profile && \
	  "$${CARGO_TARGET_DIR:-target}/counts/aemp-profile" check bench/instructions.json; \
	else [ -z "$(AEMP_REQUIRE)" ]; fi

.PHONY: siege siege-known

siege: ## a hostile member against a node for SECONDS (600): how long others wait, what is kept (also SEED=...)
	@$(CARGO) build --release --quiet --package aemp-bench --bin aemp-siege
	@"$${CARGO_TARGET_DIR:-target}/release/aemp-siege" $(or $(SECONDS),600) $(SEED)

siege-known: ## the worst of each kind that a hostile member can send, one after the other (also NUMBERS="1 2")
	@$(CARGO) build --release --quiet --package aemp-bench --bin aemp-siege
	@"$${CARGO_TARGET_DIR:-target}/release/aemp-siege" known $(NUMBERS)

.PHONY: soak mutants scale

SEEDS ?= 20000
soak: ## SEEDS random plans of simulated networks, on all processors (also FIRST=... NODES=...)
	@$(CARGO) run --quiet --profile soak --package aemp-sim --example soak -- \
	  $(or $(FIRST),0) $(shell expr $(or $(FIRST),0) + $(SEEDS)) $(NODES)

mutants: ## break the kernel in known ways, each of which the simulation has to notice; takes a while
	@$(CARGO) run --quiet --package aemp-sim --example mutants -- $(MUTANTS)

scale: ## 100,000 simulated slaves on 30 global nodes: messages, memory, time (needs 6 GiB)
	@$(CARGO) run --quiet --profile soak --package aemp-sim --example scale -- $(SCALE)

replace: ## ten times in a row, replace the seeds of a Perl network by ours, and one back; also those of AEMP_OLD=COMMAND
	@$(CARGO) build --workspace
	$(CARGO) test --package compat-tests --test replace --no-run
	for run in 1 2 3 4 5 6 7 8 9 10; do \
	  AEMP_REQUIRE=packages,live AEMP_STEP_SECONDS=10 \
	  $(CARGO) test --quiet --package compat-tests --test replace -- --nocapture --test-threads 1 \
	  || exit 1; done

.PHONY: soak-real fuzz

MINUTES ?= 30
soak-real: ## kill, stop and flood processes for MINUTES (30); memory must not grow
	@$(CARGO) build --workspace --bins
	AEMP_TEST_VERBOSE=7 AEMP_SOAK_SECONDS=$$(($(MINUTES) * 60)) \
	$(CARGO) test --package compat-tests --test faults -- --nocapture a_network_lives

SECONDS ?= 600
TARGETS ?= greeting handshake cbor json storable packed requests rc
# Has its own workspace, compiler and tool: cargo install cargo-fuzz, rustup toolchain install nightly.
fuzz: ## run each fuzz target (TARGETS) for SECONDS (600); needs cargo-fuzz and a nightly compiler
	@cd fuzz && $(CARGO) run --quiet --example seeds && $(CARGO) +nightly fuzz build --sanitizer none
	@cd fuzz && for target in $(TARGETS); do \
	  $(CARGO) +nightly fuzz run --sanitizer none $$target -- \
	    -max_total_time=$(SECONDS) -max_len=4096 -timeout=10 -print_final_stats=1 || exit 1; done
