# All tasks of this project. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

# How long to fuzz each target, in seconds.
FUZZ_SECONDS ?= 10
# The bundle to build: a directory below bundle/.
BUNDLE ?= demo
# The directory of the bundle's components; by default, the demonstration makes its own.
COMPONENTS = out/components/$(BUNDLE)
# How to build the program: `release` makes it small and takes long. The demonstration and the tests build
# everything once, as `dev`.
PROFILE ?= release
demo test test-more e2e e2e-single e2e-ha test-image e2e-image: PROFILE = dev

# The program must not contain the paths of the build's directories.
REMAP := --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo
# Relocations take half a megabyte less when packed. A static program unpacks them itself since glibc 2.36.
GLIBC := $(lastword $(shell getconf GNU_LIBC_VERSION))
PACKED := $(shell printf '2.36\n%s\n' $(GLIBC) | sort -C -V && echo -Clink-arg=-Wl,-z,pack-relative-relocs)
COMMA := ,
RELEASE_RUSTFLAGS := "$(REMAP)"$(if $(PACKED),$(COMMA) "$(PACKED)")
RELEASE_FLAGS := --config 'target.x86_64-unknown-linux-gnu.rustflags = [$(RELEASE_RUSTFLAGS)]' --release -p appliance

# Build them in one command, so that the crates that they share are compiled once.
BUILD_DEV := cargo build --locked -p appliance -p appliance-sim -p appliance-vm

TARGET_DIR := target/x86_64-unknown-linux-gnu
BUILDER := out/builder
SIM := out/sim
VM := $(TARGET_DIR)/debug/vm
PAYLOAD := out/payloads/$(BUNDLE)
# The images of the tutorial's own services, for the workloads of the tests.
SERVICES := out/services
# Runs a command with the programs in out/debian.
WITH_TOOLS := tests/with-tools.sh

# Shows the part of a run that begins and how long it usually takes, and records the seconds it took.
PART := tests/part.sh
export RUN ?= $(firstword $(MAKECMDGOALS))
export TIMINGS := $(CURDIR)/out/timings

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: tools
tools: ## Install or unpack the packages for the tests; tests/vm/install-tools.sh test --dry-run lists them
	@$(PART) packages tests/vm/install-tools.sh test

.PHONY: demo-tools
demo-tools:
	@$(PART) packages tests/vm/install-tools.sh demo

# Built while cargo compiles. Programs that need the image wait for it.
.PHONY: vm-image
vm-image:
	@mkdir -p out/vm
	@tests/vm/image.sh out/vm >out/vm/log 2>&1 </dev/null &

.PHONY: harness
harness:
	@$(PART) build $(BUILD_DEV)
	@install -D -s -m 0755 $(TARGET_DIR)/debug/sim $(SIM)

.PHONY: builder
builder: ## Build out/builder: the program without a bundle
	@if [ $(PROFILE) = dev ]; then \
		$(BUILD_DEV) && \
		install -D -s -m 0755 $(TARGET_DIR)/debug/appliance $(BUILDER); \
	else \
		cargo build --locked $(RELEASE_FLAGS) && \
		install -D -m 0755 $(TARGET_DIR)/release/appliance $(BUILDER); \
	fi

.PHONY: components
ifeq ($(BUNDLE) $(origin COMPONENTS),demo file)
components: harness builder
	@$(WITH_TOOLS) tests/sim/components.sh $(SIM) $(COMPONENTS)
else
components: builder
endif

.PHONY: bundle
bundle: components ## Pack BUNDLE (default: demo) into out/payloads, from COMPONENTS or downloads
ifneq ($(BUNDLE) $(origin COMPONENTS),demo file)
ifeq ($(origin COMPONENTS),file)
	$(BUILDER) bundle fetch --bundle bundle/$(BUNDLE)
endif
endif
	@$(PART) pack $(BUILDER) bundle pack --bundle bundle/$(BUNDLE) $(if $(wildcard $(COMPONENTS)),--components $(COMPONENTS)) --output $(PAYLOAD)

.PHONY: appliance
appliance: bundle ## Build out/appliance: one static program with BUNDLE inside
	$(BUILDER) repack --payload $(PAYLOAD) --output out/appliance
	@ls -l out/appliance

.PHONY: demo
demo: demo-tools vm-image appliance ## Build the appliance, turn a VM without a network into a cluster, show its status and pods
	@$(VM) demo --appliance out/appliance
	@tests/timings.sh demo

.PHONY: timings
timings: ## Print how long each part of the last `make demo` and `make test` took
	@tests/timings.sh demo test

.PHONY: reproducible
reproducible: ## Build the program again in another directory and compare the bytes
	$(MAKE) builder PROFILE=release
	tests/reproducible.sh $(BUILDER)

.PHONY: lint
lint: ## Check the format, run clippy and shellcheck
	cargo fmt --all --check
	shellcheck $$(git ls-files '*.sh') .ci/run
	@$(PART) clippy cargo clippy --workspace --all-targets --locked -- -D warnings

.PHONY: docs
docs: ## Build the documentation of the code and check its links
	@$(PART) documentation env RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked

.PHONY: audit
audit: tools ## Check licences and sources of all crates, and forbidden crates (deny.toml)
	@$(PART) audit out/tools/bin/cargo-deny --workspace --locked check bans licenses sources

.PHONY: fuzz
fuzz: ## Fuzz the parsers of hostile input, FUZZ_SECONDS for each target
	tests/fuzz/run.sh $(FUZZ_SECONDS)

# The short parts come first.
.PHONY: test
test: tools vm-image audit lint docs appliance host-tests vms ## Format, clippy, licences, documentation, all tests without VMs, and a cluster of two VMs
	@tests/timings.sh test

.PHONY: host-tests
host-tests:
	@$(PART) 'build of the tests' cargo test --workspace --locked --no-run
	@$(PART) 'tests without VMs' env APPLIANCE=$(CURDIR)/out/appliance cargo test --workspace --locked

.PHONY: vms
vms: harness
	@$(SIM) services $(SERVICES)
	@$(PART) 'tests in VMs' env APPLIANCE=$(CURDIR)/out/appliance SERVICES=$(CURDIR)/$(SERVICES) THOROUGH=$(THOROUGH) \
		cargo test --locked --test integration e2e:: -- --ignored --nocapture

# Not in `test`, which must end within an hour on two cores without KVM.
.PHONY: test-more
test-more: tools appliance reproducible fuzz ## Longer tests: single VMs, reproducible build, fuzzing
	APPLIANCE=$(CURDIR)/out/appliance cargo test --locked --test integration vm:: -- --ignored --skip golden:: --test-threads=1 --nocapture

.PHONY: e2e
e2e: THOROUGH = yes
e2e: tools appliance vms ## A cluster of the tutorial's three VMs, from one user-data; COMPONENTS=DIR uses real programs

.PHONY: e2e-single
e2e-single: tools harness appliance ## One VM with role single: add-ons, checks, services; COMPONENTS=DIR uses real programs
	$(SIM) services $(SERVICES)
	APPLIANCE=$(CURDIR)/out/appliance SERVICES=$(CURDIR)/$(SERVICES) \
		cargo test --locked --test integration single:: -- --ignored --nocapture

.PHONY: e2e-ha
e2e-ha: tools appliance ## Five VMs, three of them masters: disconnect, kill and replace masters, lose two (9 GB of memory)
	APPLIANCE=$(CURDIR)/out/appliance cargo test --locked --test integration ha:: -- --ignored --nocapture

.PHONY: image
image: ## Build a golden image with Packer: TARGET=qemu|openstack PACKER_ARGS='-var …' (packer/variables.pkr.hcl)
	$(WITH_TOOLS) packer/build.sh $(TARGET) $(PACKER_ARGS)

.PHONY: test-image
test-image: tools appliance ## Build golden images offline and with Packer; boot one, and a plain image for comparison
	APPLIANCE=$(CURDIR)/out/appliance cargo test --locked --test integration golden::vm::a_golden -- --ignored --test-threads=1 --nocapture

.PHONY: e2e-image
e2e-image: tools appliance ## Build a golden image and boot a cluster of three VMs from it, with one user-data
	APPLIANCE=$(CURDIR)/out/appliance cargo test --locked --test integration golden::vm::three -- --ignored --nocapture

.PHONY: bench
bench: tools appliance ## Print measurements, one `name value` per line; PROGRAMS is a directory of programs to pack
	$(WITH_TOOLS) tests/bench.sh $(BUILDER) out/appliance $(PROGRAMS)

.PHONY: clean
clean: ## Remove built files; cached VM images stay in out/vm
	cargo clean
	rm -rf out/appliance out/builder out/components out/payloads $(SERVICES)
