# Everything a person does with this project. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The bundle to build: a directory below bundle/.
BUNDLE ?= demo
# The directory of the bundle's components; the demonstration makes its own where none is given.
COMPONENTS = out/components/$(BUNDLE)

TARGET := x86_64-unknown-linux-gnu
RELEASE := target/$(TARGET)/release
BUILDER := out/builder
SIM := $(RELEASE)/sim
VM := $(RELEASE)/vm
PAYLOAD := out/payload/$(BUNDLE)

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: tools
tools: ## Install the Debian packages that building and testing need, if some are missing
	tests/vm/install-tools.sh

.PHONY: builder
builder:
	cargo build --release --locked --workspace
	install -D -m 0755 $(RELEASE)/appliance $(BUILDER)

.PHONY: components
components: builder
ifeq ($(BUNDLE) $(origin COMPONENTS),demo file)
	tests/sim/components.sh $(SIM) $(COMPONENTS)
endif

.PHONY: bundle
bundle: components ## Pack BUNDLE (default: demo) from COMPONENTS and the cache into out/payload
	$(BUILDER) bundle pack --bundle bundle/$(BUNDLE) $(if $(wildcard $(COMPONENTS)),--components $(COMPONENTS)) --output $(PAYLOAD)

.PHONY: appliance
appliance: bundle ## Build out/appliance: one static program with BUNDLE inside
	$(BUILDER) repack --payload $(PAYLOAD) --output out/appliance
	@ls -l out/appliance

.PHONY: demo
demo: tools ## Build the appliance, boot it in a VM with no network, show the node's status
	tests/vm/demo.sh

.PHONY: lint
lint: ## Format, clippy, shellcheck
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	shellcheck $$(git ls-files '*.sh') .ci/run

.PHONY: docs
docs: ## The documentation of the code, with every link checked
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked

.PHONY: test
test: tools lint docs appliance ## Every test level, the VM's boot included
	APPLIANCE=$(CURDIR)/out/appliance cargo test --workspace --locked -- --include-ignored

.PHONY: bench
bench: appliance ## Figures, one `name value` a line
	tests/bench.sh $(BUILDER) $(PAYLOAD) out/appliance

.PHONY: clean
clean: ## Remove what was built; cached VM images stay in out/vm
	cargo clean
	rm -rf out/appliance out/builder out/components out/payload
