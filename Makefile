# What a newcomer types. `make help` lists the targets.

CARGO ?= cargo

.DEFAULT_GOAL := help
.PHONY: help services services-down services-status

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  make %-16s %s\n", $$1, $$2 }'

services: ## start the test bed (builders, registries, emulation); needs root on Debian
	@scripts/services.sh all

services-down: ## end exactly what `make services` started
	@scripts/services.sh down

services-status: ## say which parts of the test bed run
	@scripts/services.sh status
