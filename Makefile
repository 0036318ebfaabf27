# Coder's control plane as a PostgreSQL extension: build, install, serve, check.
#
#   make serve    install what is needed, build, start at http://127.0.0.1:7080
#   make check    install what is needed, run every test
#
# The parts are plain make in extension/ (PGXS), agent/, gateway/ and test/.
# V=1 shows the commands; WERROR=1 makes warnings errors; SANITIZE=1 builds
# with AddressSanitizer and UndefinedBehaviorSanitizer.

PG_MAJOR  ?= 15
PG_CONFIG ?= $(firstword $(wildcard /usr/lib/postgresql/$(PG_MAJOR)/bin/pg_config) pg_config)
export PG_CONFIG PG_MAJOR
QUIET := $(if $(V),,-s) --no-print-directory

include test/deps.mk

.PHONY: all deps deps-test build install serve check bench fuzz format clean web
all: build

deps:
	@test/deps $(DEPS_BUILD)

deps-test: deps
	@test/deps $(DEPS_TEST)

build: deps
	@$(MAKE) $(QUIET) -C extension
	@$(MAKE) $(QUIET) -C agent
	@$(MAKE) $(QUIET) -C gateway

install: build
	@$(MAKE) $(QUIET) -C extension install

serve: build
	@test/serve

check: deps-test
	@$(MAKE) --no-print-directory build WERROR=1
	@$(MAKE) --no-print-directory -C test check

bench: deps-test build
	@$(MAKE) --no-print-directory -C test bench

fuzz: deps-test
	@$(MAKE) --no-print-directory -C test fuzz

format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i

clean:
	@$(MAKE) --no-print-directory -C gateway clean
	@$(MAKE) --no-print-directory -C agent clean
	@$(MAKE) --no-print-directory -C extension clean
	@$(MAKE) --no-print-directory -C test clean
	@rm -rf .build
