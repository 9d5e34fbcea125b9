# What a newcomer types. `make help` lists the targets.

# rustup's cargo is not in everybody's PATH, above all where no one logs in.
CARGO ?= $(or $(shell command -v cargo),$(HOME)/.cargo/bin/cargo)
export CARGO
PREFIX ?= /usr/local

.DEFAULT_GOAL := help
.PHONY: help demo test lint fmt doc bench install services services-down services-status services-check

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  make %-16s %s\n", $$1, $$2 }'

demo: ## build an arm64 image, push it, pull it back, run it
	@scripts/demo.sh

# Tests wait for builders and clusters more than they compute.
test: export RUST_TEST_THREADS ?= 4
# Made-up inputs are the same in each run; `PROPTEST_RNG_SEED=N make test` makes others.
test: export PROPTEST_RNG_SEED ?= 1
test: services lint ## the test bed, formatting, lints and every test
	$(CARGO) test --locked

lint: doc ## formatting, lints and documentation, as CI sees them
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

fmt: ## format the source
	$(CARGO) fmt

doc: ## the library's documentation, with broken links as errors
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps

bench: ## bk-sync beside docker buildx, buildctl, skopeo and crane, on the same daemons and registry
	@bench/run.sh
	@bench/push.sh --no-services

install: ## put the release binary into PREFIX/bin (/usr/local)
	$(CARGO) build --release --locked --bin bk-sync
	install -D -m 0755 target/release/bk-sync $(DESTDIR)$(PREFIX)/bin/bk-sync

services: ## start the test bed (builders, registries, emulation); needs root on Debian
	@scripts/services.sh all

services-down: ## end exactly what `make services` started
	@scripts/services.sh down

services-status: ## say which parts of the test bed run
	@scripts/services.sh status

services-check: ## end the test bed, start it twice, and see that it comes back and leaves nothing behind
	@scripts/services-check.sh
