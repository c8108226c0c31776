# All tasks of this project. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

# How long to fuzz each target, in seconds.
FUZZ_SECONDS ?= 10
# How many generated inputs `make test-more` gives to cloud-init.
INPUTS ?= 10000
# How many cuts of each kind `make test-cuts` makes, the number that chooses them, and a part of the command's name.
CUTS ?= 1000
SEED ?= 1
SCENE ?=
# The directory of all built files.
OUT ?= out
# Another release of Debian for the VMs than the usual one: bullseye, bookworm or trixie.
SYSTEM ?=
ifneq ($(SYSTEM),)
export SYSTEM
endif
# The bundle to build, and the directory of its definition.
BUNDLE ?= demo
BUNDLE_DIR ?= bundle/$(BUNDLE)
# A directory with the bundle's components. Without it, they are downloaded; the demonstration's are made here.
COMPONENTS ?=
# A directory with the components of the next version, with its bundle.toml, for `make e2e-upgrade`.
NEWER ?=
# A file that `bundle export` wrote, to boot its bundle.
BUNDLE_FROM ?=
# `first-use` accepts the first download of an artifact without a published checksum.
TRUST ?=
# The families that `make bench` measures, and a directory of other components to pack and unpack.
ONLY ?=
PROGRAMS ?=
# HOST=URL HOST=URL: where to download instead.
MIRRORS ?=
# How to build the program: `release` makes it small and takes long. The demonstration and the tests build
# everything once, as `dev`.
PROFILE ?= release
demo test test-more test-power e2e e2e-single e2e-tunnels e2e-upgrade e2e-ha e2e-reset e2e-restore e2e-changes test-image e2e-image: PROFILE = dev

# These boot the bundle that `vm choose` decides for: see `chosen`. make calls itself with CHOICE, its file.
CHOSEN := demo test-power e2e e2e-single e2e-tunnels e2e-upgrade e2e-ha e2e-reset e2e-restore e2e-changes e2e-image
choice = $(shell sed -n 's/^$1 //p' $(OUT)/choice 2>/dev/null)
asked = $(if $(filter file override,$(origin $1)),,$($1))
# The arguments of this run, for the next one.
ARGUMENTS := $(foreach name,BUNDLE BUNDLE_DIR COMPONENTS BUNDLE_FROM TRUST MIRRORS,$(if $(call asked,$(name)),$(name)='$($(name))'))
ifdef CHOICE
override BUNDLE_DIR := $(call choice,bundle)
override BUNDLE := $(notdir $(BUNDLE_DIR))
override COMPONENTS := $(call choice,components)
DOWNLOADS := $(call choice,downloads)
else
# Genuine programs need more memory and time than stand-ins.
$(CHOSEN): export GENUINE = $(call choice,genuine)
ifneq ($(BUNDLE_FROM),)
override BUNDLE_DIR := $(OUT)/bundles/carried
override BUNDLE := carried
else
DOWNLOADS := $(if $(COMPONENTS),,yes)
endif
endif
ifneq ($(filter-out first-use,$(TRUST)),)
$(error TRUST=$(TRUST) means nothing; TRUST=first-use accepts first downloads without a published checksum)
endif
STAND_INS := $(if $(COMPONENTS),,$(filter bundle/demo,$(BUNDLE_DIR)))

# The program must not contain the paths of the build's directories.
REMAP := --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo
# Relocations take half a megabyte less when packed. A static program unpacks them itself since glibc 2.36.
GLIBC := $(lastword $(shell getconf GNU_LIBC_VERSION))
PACKED := $(shell printf '2.36\n%s\n' $(GLIBC) | sort -C -V && echo -Clink-arg=-Wl,-z,pack-relative-relocs)
COMMA := ,
RELEASE_RUSTFLAGS := "$(REMAP)"$(if $(PACKED),$(COMMA) "$(PACKED)")
# `make release TARGET=aarch64-unknown-linux-gnu` builds for another machine.
RELEASE_TARGET := $(or $(filter %-linux-gnu,$(TARGET)),x86_64-unknown-linux-gnu)
RELEASE_FLAGS = --target $(RELEASE_TARGET) --config 'target.$(RELEASE_TARGET).rustflags = [$(RELEASE_RUSTFLAGS)]' --release -p appliance

# Build them in one command, so that the crates that they share are compiled once.
BUILD_DEV := cargo build --locked -p appliance -p appliance-sim -p appliance-vm

TARGET_DIR := target/x86_64-unknown-linux-gnu
BUILDER := $(OUT)/builder
SIM := $(OUT)/sim
VM := $(TARGET_DIR)/debug/vm
PAYLOAD := $(OUT)/payloads/$(BUNDLE)
# The components that are packed, unless they are in the cache.
PROGRAMS_DIR := $(if $(STAND_INS),$(OUT)/components/demo,$(COMPONENTS))
# These systems need another etcd or docker beside the stand-ins.
OF_SYSTEM := $(and $(STAND_INS),$(filter bullseye trixie,$(SYSTEM)))
ifneq ($(OF_SYSTEM),)
override PROGRAMS_DIR := $(OUT)/components/$(OF_SYSTEM)
override BUNDLE_DIR := $(PROGRAMS_DIR)
endif
# The copy of the bundle with the checksums of first downloads.
TRUSTED := $(OUT)/bundles/$(BUNDLE)
DEFINITION := $(if $(TRUST),$(TRUSTED),$(BUNDLE_DIR))
MIRROR_ARGS := $(MIRRORS:%=--mirror %)
# The images of the tutorial's own services, for the workloads of the tests.
SERVICES := $(OUT)/services
# Runs a command with the programs in out/debian.
WITH_TOOLS := tests/with-tools.sh

# Shows the part of a run that begins and how long it usually takes, and records the seconds it took.
PART := tests/part.sh
export RUN ?= $(firstword $(MAKECMDGOALS))
export TIMINGS := $(abspath $(OUT)/timings)

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
components: $(if $(CHOICE),,$(if $(STAND_INS),harness) builder)
	$(if $(STAND_INS),@$(WITH_TOOLS) tests/sim/components.sh $(SIM) $(PROGRAMS_DIR) $(OF_SYSTEM))

.PHONY: bundle
bundle: components ## Pack BUNDLE (default: demo) into out/payloads, from COMPONENTS or downloads
	$(if $(CHOICE),,$(if $(BUNDLE_FROM),rm -rf $(BUNDLE_DIR) && $(BUILDER) bundle import $(BUNDLE_FROM) --definition $(BUNDLE_DIR)))
	$(if $(TRUST),@tests/trust.sh $(BUILDER) $(BUNDLE_DIR) $(TRUSTED) $(MIRROR_ARGS))
	$(if $(and $(DOWNLOADS),$(if $(STAND_INS),,yes)),$(BUILDER) bundle fetch --bundle $(DEFINITION) $(MIRROR_ARGS))
	@$(PART) pack $(BUILDER) bundle pack --bundle $(DEFINITION) $(PROGRAMS_DIR:%=--components %) --output $(PAYLOAD)

.PHONY: appliance
appliance: bundle ## Build out/appliance: one static program with BUNDLE inside; everything is downloaded and verified
	$(BUILDER) repack --payload $(PAYLOAD) --file $(OUT)/appliance
	$(if $(CHOICE),,$(if $(filter appliance,$(MAKECMDGOALS)),@tests/made.sh $(OUT)/appliance $(BUNDLE) "$(strip make demo $(ARGUMENTS))"))

.PHONY: chosen
chosen: harness builder
	@$(VM) choose --builder $(BUILDER) --output $(OUT) --bundle '$(call asked,BUNDLE)' \
		--definition '$(call asked,BUNDLE_DIR)' --components '$(COMPONENTS)' --carried '$(BUNDLE_FROM)' \
		--mirrors '$(MIRRORS)' --trust '$(TRUST)'
	@$(MAKE) --no-print-directory appliance CHOICE=yes PROFILE=$(PROFILE)

.PHONY: demo
demo: demo-free demo-tools vm-image chosen ## Turn a VM without a network into a cluster, and leave it on: genuine programs if they can be had
	@$(VM) demo --appliance $(OUT)/appliance $(if $(REPLACE),--replace)
	@tests/timings.sh demo
	@$(VM) reach --choice $(OUT)/choice

# Before anything is built.
.PHONY: demo-free
demo-free:
	@[ ! -e out/demo ] || [ ! -x $(VM) ] || [ -n '$(REPLACE)' ] || $(VM) free

.PHONY: demo-shell
demo-shell: export DEMO_COMMAND := $(value CMD)
demo-shell: $(VM) ## Open a root shell inside the VM that `make demo` left on; CMD='kubectl get pods' runs one command
	@$(VM) shell $${DEMO_COMMAND:+--command "$$DEMO_COMMAND"}

.PHONY: demo-copy
demo-copy: export DEMO_FILE := $(value FILE)
demo-copy: $(VM) ## Copy FILE to /root inside the VM that `make demo` left on
	@$(VM) copy "$${DEMO_FILE:?name the file: make demo-copy FILE=PATH}"

.PHONY: demo-stop
demo-stop: $(if $(wildcard out/demo),$(VM)) ## Switch off the VM that `make demo` left on, and remove its files
	@if [ -x $(VM) ]; then $(VM) stop; else echo 'No cluster of a demonstration runs here.'; fi

# Only if it is missing.
$(VM):
	@cargo build --locked -p appliance-vm

.PHONY: timings
timings: ## Print how long each part of the last `make demo` and `make test` took
	@tests/timings.sh demo test

.PHONY: reproducible
reproducible: ## Build the program again in another directory and compare the bytes
	$(MAKE) builder PROFILE=release
	tests/reproducible.sh $(BUILDER)

# The directory of a release: of another machine, beside that of this one.
RELEASE ?= $(OUT)/release$(if $(filter-out x86_64-%,$(RELEASE_TARGET)),-$(firstword $(subst -, ,$(RELEASE_TARGET))))
# The secret key that signs a release, a file.
MINISIGN_KEY ?=
# A package of a commit that is no release.
SNAPSHOT ?=
VERSION ?= $(word 1,$(shell release/ready.sh $(if $(SNAPSHOT),snapshot) || echo refused))
EPOCH ?= $(word 2,$(shell release/ready.sh $(if $(SNAPSHOT),snapshot) 2>/dev/null))

.PHONY: release
release: release-ready release-tools release-files ## Make out/release: program, .deb, SBOM, licences, checksums. MINISIGN_KEY=FILE signs; SNAPSHOT=yes takes any commit
	lintian --fail-on error,warning '$(RELEASE)'/*.deb
	@$(WITH_TOOLS) release/sign.sh '$(RELEASE)' '$(MINISIGN_KEY)'
	@ls -l '$(RELEASE)'

.PHONY: release-sign
release-sign: ## Sign out/release, if it was made without a key: MINISIGN_KEY=FILE
	@$(WITH_TOOLS) release/sign.sh '$(RELEASE)' '$(MINISIGN_KEY)'

.PHONY: release-check
release-check: release ## Make the release twice, compare the bytes, and try its package in a fresh Debian (as root)
	release/check.sh $(RELEASE_TARGET) $(VERSION) $(EPOCH) '$(RELEASE)'
	release/try.sh '$(RELEASE)'/*.deb

# Before anything is built.
.PHONY: release-ready
release-ready:
	@release/ready.sh $(if $(SNAPSHOT),snapshot) >/dev/null

.PHONY: release-tools
release-tools:
	@tests/vm/install-tools.sh release

# All crates are fetched, also those of other machines: SBOM and licences are made without the network.
.PHONY: release-files
release-files:
	cargo fetch --locked
	cargo build --locked $(RELEASE_FLAGS)
	$(if $(filter x86_64-%,$(RELEASE_TARGET)),,$(MAKE) builder PROFILE=release TARGET=)
	$(if $(filter x86_64-%,$(RELEASE_TARGET)),,OWN=$(abspath $(BUILDER))) release/build.sh target/$(RELEASE_TARGET)/release/appliance \
		$(RELEASE_TARGET) $(VERSION) $(EPOCH) '$(RELEASE)'

.PHONY: lint
lint: ## Check the format, run clippy and shellcheck
	cargo fmt --all --check
	shellcheck $$(git ls-files '*.sh') .ci/run
	@$(PART) clippy cargo clippy --workspace --all-targets --locked -- -D warnings

.PHONY: docs
docs: ## Build the documentation of the code and check its links
	@$(PART) documentation env RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked

.PHONY: site
site: ## Build out/site: the documentation for a browser, in English and Chinese; works from a disk
	@docs/site/build.sh $(OUT)/site

.PHONY: test-site
test-site: site ## Open the site in Chromium: its search, its pictures, and that it asks no network
	@docs/site/try.sh $(OUT)/site

.PHONY: audit
audit: tools ## Check licences and sources of all crates, and forbidden crates (deny.toml)
	@$(PART) audit out/tools/bin/cargo-deny --workspace --locked check bans licenses sources

# Also in `host-tests`, with 50 cuts of each kind.
.PHONY: test-cuts
test-cuts: tools ## Cut commands: kills, errors, power cuts. CUTS=1000 SEED=7 SCENE=install (docs/reliability.md)
	CUTS=$(CUTS) SEED=$(SEED) SCENE='$(SCENE)' $(WITH_TOOLS) cargo test --locked --test integration cuts:: -- --nocapture --test-threads=1

# Not in `test`: Chromium is 420 MB.
.PHONY: test-page
test-page: ## Look at the status page in a headless Chromium: laptop and phone, light and dark; pictures in out/page
	@tests/vm/install-tools.sh page
	$(WITH_TOOLS) cargo test --locked --test integration page::pictures::every -- --ignored --nocapture

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
	@$(PART) 'tests without VMs' env APPLIANCE=$(abspath $(OUT)/appliance) cargo test --workspace --locked

.PHONY: vms
vms: harness
	@$(SIM) services $(SERVICES)
	@$(PART) 'tests in VMs' env APPLIANCE=$(abspath $(OUT)/appliance) SERVICES=$(abspath $(SERVICES)) THOROUGH=$(THOROUGH) \
		cargo test --locked --test integration e2e:: -- --ignored --nocapture

# Not in `test`, which must end within an hour on two cores without KVM.
.PHONY: test-more
test-more: tools appliance reproducible fuzz ## Longer tests: thousands of inputs for cloud-init, single VMs, power cuts, reproducible build, fuzzing
	APPLIANCE_INPUTS=$(INPUTS) cargo test --locked --test integration cloud_init_reads:: -- --nocapture
	APPLIANCE=$(abspath $(OUT)/appliance) cargo test --locked --test integration vm:: -- --ignored --skip golden:: --test-threads=1 --nocapture
	APPLIANCE=$(abspath $(OUT)/appliance) CUTS=3 SEED=$(SEED) cargo test --locked --test integration power_cut:: -- --ignored --nocapture

.PHONY: e2e
e2e: THOROUGH = yes
e2e: tools chosen vms ## A cluster of the tutorial's three VMs, from one user-data

.PHONY: e2e-single
e2e-single: tools chosen ## One VM with role single: add-ons, checks, services. SYSTEM=bullseye|bookworm|trixie
	$(SIM) services $(SERVICES)
	APPLIANCE=$(abspath $(OUT)/appliance) SERVICES=$(abspath $(SERVICES)) \
		cargo test --locked --test integration single:: -- --ignored --nocapture

.PHONY: e2e-upgrade
e2e-upgrade: tools chosen ## Two to four VMs: another bundle for nodes and for the cluster, a broken one, the way back, requests lost. NEWER=DIR
	$(SIM) services $(SERVICES)
	APPLIANCE=$(abspath $(OUT)/appliance) COMPONENTS=$(abspath $(PROGRAMS_DIR)) NEWER=$(abspath $(NEWER)) \
		SERVICES=$(abspath $(SERVICES)) cargo test --locked --test integration upgrades:: -- --ignored --test-threads=1 --nocapture

.PHONY: e2e-tunnels
e2e-tunnels: tools chosen ## Two VMs: tunnels and port security, policies, what a worker's certificates open, reboots
	$(SIM) services $(SERVICES)
	APPLIANCE=$(abspath $(OUT)/appliance) SERVICES=$(abspath $(SERVICES)) \
		cargo test --locked --test integration tunnels:: -- --ignored --nocapture

.PHONY: e2e-ha
e2e-ha: tools chosen ## Five VMs, three of them masters: disconnect, kill and replace masters, lose two (9 GB of memory, 15 GB with genuine programs)
	APPLIANCE=$(abspath $(OUT)/appliance) cargo test --locked --test integration ha:: -- --ignored --nocapture

.PHONY: test-power
test-power: tools chosen ## Cut the power of a node CUTS times, as SEED decides, and look whether it comes up with all that it acknowledged
	APPLIANCE=$(abspath $(OUT)/appliance) CUTS=$(or $(call asked,CUTS),20) SEED=$(SEED) \
		cargo test --locked --test integration power_cut:: -- --ignored --nocapture

.PHONY: e2e-reset
e2e-reset: tools chosen ## Nodes of each role are reset: nothing but logs is left, what the operator has stays, and they become nodes again
	APPLIANCE=$(abspath $(OUT)/appliance) cargo test --locked --test integration reset::vm -- --ignored --nocapture --test-threads=1

.PHONY: e2e-restore
e2e-restore: tools chosen ## Two to four VMs: lost masters come back from a backup while pods go on: one in its place, one elsewhere, and three
	$(SIM) services $(SERVICES)
	APPLIANCE=$(abspath $(OUT)/appliance) SERVICES=$(abspath $(SERVICES)) \
		cargo test --locked --test integration restored:: -- --ignored --test-threads=1 --nocapture

.PHONY: e2e-changes
e2e-changes: tools chosen ## Two VMs, then five: a setting, a worker, and the number of masters change by the runbooks
	$(SIM) services $(SERVICES)
	APPLIANCE=$(abspath $(OUT)/appliance) SERVICES=$(abspath $(SERVICES)) \
		cargo test --locked --test integration changes:: -- --ignored --test-threads=1 --nocapture

.PHONY: image
image: ## Build a golden image with Packer: TARGET=qemu|openstack PACKER_ARGS='-var …' (packer/variables.pkr.hcl)
	$(WITH_TOOLS) packer/build.sh $(TARGET) $(PACKER_ARGS)

.PHONY: test-image
test-image: tools appliance ## Build golden images offline and with Packer; boot one, and a plain image for comparison
	APPLIANCE=$(abspath $(OUT)/appliance) cargo test --locked --test integration golden::vm::a_golden -- --ignored --test-threads=1 --nocapture

.PHONY: e2e-image
e2e-image: tools chosen ## Build a golden image and boot a cluster of three VMs from it, with one user-data
	APPLIANCE=$(abspath $(OUT)/appliance) cargo test --locked --test integration golden::vm::three -- --ignored --nocapture

.PHONY: bench
bench: tools vm-image harness appliance ## Measure, and compare with the goals. ONLY='FAMILY …', PROGRAMS=DIR with other components (bench/README.md)
	@COMPONENTS=$(abspath $(PROGRAMS_DIR)) BUNDLE_DIR=$(abspath $(BUNDLE_DIR)) ONLY='$(ONLY)' PROGRAMS='$(PROGRAMS)' \
		$(WITH_TOOLS) bench/run.sh $(BUILDER) $(OUT)/appliance $(VM)

.PHONY: clean
clean: ## Remove built files, and switch off the demonstration's VM; cached VM images stay in out/vm
	@[ ! -e out/demo ] || $(MAKE) --no-print-directory demo-stop
	cargo clean
	rm -rf $(addprefix $(OUT)/,appliance builder bundles choice components deb payloads release services sim site)
