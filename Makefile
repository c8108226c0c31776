# Everything a person does with this project. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# How long each target is fuzzed.
FUZZ_SECONDS ?= 10
# The bundle to build: a directory below bundle/.
BUNDLE ?= demo
# The directory of the bundle's components; the demonstration makes its own where none is given.
COMPONENTS = out/components/$(BUNDLE)

# Where the build's directories lie must not be in what is built.
REMAP := --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo
CARGO := cargo --config 'target.x86_64-unknown-linux-gnu.rustflags = ["$(REMAP)"]'

TRIPLE := x86_64-unknown-linux-gnu
RELEASE := target/$(TRIPLE)/release
BUILDER := out/builder
SIM := $(RELEASE)/sim
VM := $(RELEASE)/vm
PAYLOAD := out/payloads/$(BUNDLE)
# The images of the tutorial's own services, for the workloads of the tests.
SERVICES := out/services

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: tools
tools: ## Install the Debian packages that building and testing need, if some are missing
	tests/vm/install-tools.sh

.PHONY: builder
builder: ## Build out/builder: the program without a bundle
	$(CARGO) build --release --locked
	install -D -m 0755 $(RELEASE)/appliance $(BUILDER)

.PHONY: harness
harness:
	$(CARGO) build --release --locked -p appliance-sim -p appliance-vm

.PHONY: components
components: builder harness
ifeq ($(BUNDLE) $(origin COMPONENTS),demo file)
	tests/sim/components.sh $(SIM) $(COMPONENTS)
endif

.PHONY: bundle
bundle: components ## Pack BUNDLE (default: demo) into out/payload, from COMPONENTS or what is fetched
ifneq ($(BUNDLE) $(origin COMPONENTS),demo file)
ifeq ($(origin COMPONENTS),file)
	$(BUILDER) bundle fetch --bundle bundle/$(BUNDLE)
endif
endif
	$(BUILDER) bundle pack --bundle bundle/$(BUNDLE) $(if $(wildcard $(COMPONENTS)),--components $(COMPONENTS)) --output $(PAYLOAD)

.PHONY: appliance
appliance: bundle ## Build out/appliance: one static program with BUNDLE inside
	$(BUILDER) repack --payload $(PAYLOAD) --output out/appliance
	@ls -l out/appliance

.PHONY: demo
demo: tools ## Build the appliance; a VM with no network becomes a cluster of its own: its status, its pods
	tests/vm/demo.sh

.PHONY: reproducible
reproducible: builder ## Build the program again elsewhere and compare the bytes
	tests/reproducible.sh $(BUILDER)

.PHONY: lint
lint: ## Format, clippy, shellcheck
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	shellcheck $$(git ls-files '*.sh') .ci/run

.PHONY: docs
docs: ## The documentation of the code, with every link checked
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked

.PHONY: fuzz
fuzz: ## Feed what reads hostile input with any bytes, FUZZ_SECONDS for each target
	tests/fuzz/run.sh $(FUZZ_SECONDS)

# In this order: what ends soon first.
.PHONY: test
test: tools lint docs appliance host-tests vms ## Format, clippy, documentation, all tests without VMs, and two VMs, a master and a worker

.PHONY: host-tests
host-tests:
	APPLIANCE=$(CURDIR)/out/appliance cargo test --workspace --locked

.PHONY: vms
vms:
	$(SIM) services $(SERVICES)
	APPLIANCE=$(CURDIR)/out/appliance SERVICES=$(CURDIR)/$(SERVICES) THOROUGH=$(THOROUGH) \
		cargo test --locked --test integration e2e:: -- --ignored --nocapture

# Left out of `test`, which is to end within the hour on two cores without KVM.
.PHONY: test-more
test-more: tools appliance reproducible fuzz ## What takes longer: single VMs, the same bytes again, fuzzing
	APPLIANCE=$(CURDIR)/out/appliance cargo test --locked --test integration vm:: -- --ignored --skip golden:: --test-threads=1 --nocapture

.PHONY: e2e
e2e: THOROUGH = yes
e2e: tools appliance vms ## The tutorial's three VMs: one user-data, nobody logs in; COMPONENTS=DIR for real programs

.PHONY: e2e-single
e2e-single: tools appliance ## One VM of role single: add-ons, checks, services; COMPONENTS=DIR for real programs
	$(SIM) services $(SERVICES)
	APPLIANCE=$(CURDIR)/out/appliance SERVICES=$(CURDIR)/$(SERVICES) \
		cargo test --locked --test integration single:: -- --ignored --nocapture

.PHONY: e2e-ha
e2e-ha: tools appliance ## Five VMs, three of them masters: cut one off, kill and replace one, lose two (9 GB of memory)
	APPLIANCE=$(CURDIR)/out/appliance cargo test --locked --test integration ha:: -- --ignored --nocapture

.PHONY: image
image: ## Make a golden image with Packer: TARGET=qemu|openstack PACKER_ARGS='-var …' (packer/variables.pkr.hcl)
	packer/build.sh $(TARGET) $(PACKER_ARGS)

.PHONY: test-image
test-image: tools appliance ## Golden images, built offline and by Packer; boot the first, and a plain one beside it
	APPLIANCE=$(CURDIR)/out/appliance cargo test --locked --test integration golden::vm::a_golden -- --ignored --test-threads=1 --nocapture

.PHONY: e2e-image
e2e-image: tools appliance ## Base, golden image, three VMs cloned from it with one user-data, healthy cluster
	APPLIANCE=$(CURDIR)/out/appliance cargo test --locked --test integration golden::vm::three -- --ignored --nocapture

.PHONY: bench
bench: tools appliance ## Figures, one `name value` a line; PROGRAMS is a directory of programs to pack
	tests/bench.sh $(BUILDER) out/appliance $(PROGRAMS)

.PHONY: clean
clean: ## Remove what was built; cached VM images stay in out/vm
	cargo clean
	rm -rf out/appliance out/builder out/components out/payloads $(SERVICES)
