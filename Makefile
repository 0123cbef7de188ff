# mdbus: GNU make.  `make help` lists the targets.
#
# Objects live in $(BUILD), out of tree.  A program is a file DIR/NAME_main.c; everything else in its folder goes into
# that folder's archive.  MUTANT=name builds with a rule broken on purpose (tests only) into its own tree, as do
# SAN=address, SAN=undefined and SAN=thread.  WERROR=1 makes warnings errors.

SHELL       := /bin/bash
.DEFAULT_GOAL := all
CC          ?= gcc
CLANG       ?= clang
BPFTOOL     ?= $(firstword $(shell command -v bpftool 2>/dev/null) /usr/sbin/bpftool)
PKG_CONFIG  ?= pkg-config
PREFIX      ?= /usr/local
DESTDIR     ?=
VERSION     := 0.1.0

variant     := $(if $(MUTANT),-mutant-$(MUTANT))$(if $(SAN),-$(SAN))$(if $(HOOKS),-hooks)
BUILD       ?= build$(if $(variant),/variant$(variant))
B           := $(BUILD)

WARN        := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes
OPT         ?= -O3
CPPFLAGS    += -D_GNU_SOURCE -DMDBUS_VERSION='"$(VERSION)"' -Iinclude -I$(B)/gen
CPPFLAGS    += $(if $(MUTANT),-DMDBUS_MUTANT_$(MUTANT)=1)$(if $(HOOKS), -DMDBUS_HOOKS=1)
CFLAGS      += -std=gnu11 -g $(OPT) $(WARN) $(if $(WERROR),-Werror) -fno-strict-aliasing -pthread
ifeq ($(shell uname -m),x86_64)
CFLAGS      += -mcx16
endif
LDFLAGS     += -pthread
ifneq ($(SAN),)
CFLAGS      += -fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all
LDFLAGS     += -fsanitize=$(SAN)
endif

have         = $(shell $(PKG_CONFIG) --exists $(1) 2>/dev/null && echo y)
need        := jansson libconfig nanomsg popt liburing libpcap
missing     := $(strip $(foreach p,$(need),$(if $(call have,$(p)),,$(p))))
NEED_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(need) 2>/dev/null)
NEED_LIBS   := $(shell $(PKG_CONFIG) --libs $(need) 2>/dev/null)
CPPFLAGS    += $(NEED_CFLAGS)
LDLIBS      += $(NEED_LIBS) -lm

bpf_tools   := $(and $(shell command -v $(CLANG) 2>/dev/null),$(wildcard $(BPFTOOL)))
HAVE_XDP    := $(and $(call have,libxdp),$(call have,libbpf),$(bpf_tools),y)
ifeq ($(HAVE_XDP),y)
CPPFLAGS    += -DMDBUS_HAVE_XDP=1
LDLIBS      += $(shell $(PKG_CONFIG) --libs libxdp libbpf)
endif
ifneq ($(wildcard /usr/include/numa.h),)
CPPFLAGS    += -DMDBUS_HAVE_NUMA=1
LDLIBS      += -lnuma
endif

HAVE_DPDK   := $(call have,libdpdk)
ifeq ($(HAVE_DPDK),y)
CPPFLAGS    += -DMDBUS_HAVE_DPDK=1
endif

DIRS        := bus ingest subscribers mgmt
xdp_only    := $(if $(HAVE_XDP),,ingest/backend_xdp.c ingest/backend_xdp_prog.c ingest/backend_xdp_early.c ingest/feed_xdp.c)
vbridge_src := $(wildcard ingest/vbridge*.c)
dpdk_only   := $(if $(HAVE_DPDK),,$(vbridge_src))
mains       := $(filter-out $(dpdk_only),$(foreach d,$(DIRS),$(wildcard $(d)/*_main.c)))
dpdk_src    := $(wildcard ingest/backend_dpdk*.c ingest/feed_dpdk.c)
sources      = $(filter-out $(mains) $(xdp_only) $(dpdk_only) $(dpdk_src) %.bpf.c,$(wildcard $(1)/*.c))
objects      = $(patsubst %.c,$(B)/%.o,$(1))
libs        := $(foreach d,$(DIRS),$(B)/lib/lib$(if $(filter bus,$(d)),mdbus,mdbus-$(d)).a)

# DIR/NAME_main.c -> mdbus-NAME, but mdbusd and mdbusctl keep their names.
progname     = $(patsubst mdbus-mdbus%,mdbus%,mdbus-$(patsubst %_main.c,%,$(notdir $(1))))
programs    := $(foreach m,$(mains),$(B)/bin/$(call progname,$(m)))

# The dpdk backend is loaded by lines that ask for it: with all that it needs, as position independent code.
DPDK_CPPFLAGS := -DALLOW_EXPERIMENTAL_API $(patsubst -I%,-isystem%,$(shell $(PKG_CONFIG) --cflags libdpdk 2>/dev/null))
dpdk_objects := $(patsubst %.c,$(B)/pic/%.o,$(dpdk_src) ingest/join.c ingest/feed_frame.c bus/dpdk_files.c)
# Of DPDK the virtual bridge needs headers only: the hash.
$(B)/ingest/vbridge_flow.o $(B)/hooks/ingest/vbridge_flow.o: CPPFLAGS += $(DPDK_CPPFLAGS)
modules     := $(if $(HAVE_DPDK),$(if $(dpdk_src),$(B)/lib/mdbus/dpdk.so))

unit_src    := $(wildcard tests/unit_*.c tests/race_*.c tests/prog_*.c)
bench_src   := $(wildcard tests/bench_*.c)
peer_src    := $(wildcard tests/peer_*.c)
test_lib    := $(filter-out tests/hook_kill.c $(unit_src) $(bench_src) $(peer_src) $(wildcard tests/fuzz_*.c),$(wildcard tests/*.c))
test_bins   := $(patsubst tests/%.c,$(B)/tests/%,$(unit_src))
prog_bins   := $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/prog_*.c))
bench_bins  := $(patsubst tests/%.c,$(B)/tests/%,$(bench_src)) $(B)/tests/prog_deaths

.PHONY: all help deps-check tests progs objects demo check bench bench-plot lint install clean
all: deps-check $(programs) $(modules) ## the programs, in build/bin
tests: all $(test_bins) ## the programs and the tests, not run
progs: all $(prog_bins)
objects: deps-check $(call objects,$(foreach d,$(DIRS),$(call sources,$(d))) $(mains) $(wildcard tests/*.c)) \
	$(if $(HAVE_DPDK),$(dpdk_objects))

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

# What scripts/deps installs, make has to find: so these start make, or a script that does, once more.
demo: ## show a bus at work and check it: [PCAP=file [LAYOUT=name]] [SECONDS=n] [LOSS=percent] [BACKEND=af_xdp|kernel|dpdk|user-veth|mixed]
	@scripts/deps --quiet
	@+$(MAKE) --no-print-directory all
	@+BUILD='$(BUILD)' scripts/demo $(foreach v,PCAP LAYOUT SECONDS LOSS BACKEND,$(call demo_option,$(v)))
lower        = $(shell echo $(1) | tr A-Z a-z)
demo_option  = $(if $(filter command environment,$(firstword $(origin $(1)))),--$(call lower,$(1)) '$($(1))')

check: ## build and run every test, sanitizers and mutants included; the last line counts them
	@scripts/deps --tests --quiet
	@+BUILD='$(BUILD)' tests/run $(TESTS)

.PHONY: check-vm
check-vm: all ## lines on emulated network cards, bound to DPDK in a virtual machine: [KERNEL=image] [ACCEL=kvm|tcg]
	@BUILD='$(BUILD)' tests/vm

bench: ## measure, with the machine's own floor and mdbus's peers beside it: [BENCHES="bench_hop bench_peers"]
	@scripts/deps --bench --quiet
	@+$(MAKE) --no-print-directory all $(bench_bins)
	@BUILD='$(BUILD)' MDBUS_BIN=$(abspath $(B)/bin) tests/bench \
		$(abspath $(if $(BENCHES),$(BENCHES:%=$(B)/tests/%),$(bench_bins)))

bench-plot: ## draw build/bench.json: build/bench_hop.png, build/bench_rate.png, and as SVG
	@BUILD='$(BUILD)' tests/bench_plot

# What the compiler was told decides how many instructions there are.
$(B)/tests/prog_instructions.o: CPPFLAGS += -DINSTRUCTIONS_FLAGS='"$(strip $(OPT) $(filter -m% -f%,$(CFLAGS)))"'
.PHONY: instructions-baseline
instructions-baseline: all $(B)/tests/prog_instructions ## count the hot path's instructions anew, for t_instructions to compare with
	MDBUS_BUILD='$(B)' tests/t_instructions.sh --baseline

# The peers that bench_peers compares with, each where it is installed.
peer_objects := $(patsubst %.c,$(B)/%.o,$(peer_src))
iceoryx     := $(firstword $(wildcard /usr/include/iceoryx/v2*))
PEERS       := $(if $(HAVE_DPDK),-DPEER_HAVE_DPDK) $(if $(iceoryx),-DPEER_HAVE_ICEORYX -isystem $(iceoryx)) \
	$(if $(call have,libzmq),-DPEER_HAVE_ZEROMQ)
$(B)/tests/bench_peers: $(peer_objects)
$(B)/tests/bench_peers: LDLIBS += $(if $(iceoryx),-liceoryx_binding_c) $(if $(call have,libzmq),-lzmq) \
	$(if $(HAVE_DPDK),$(shell $(PKG_CONFIG) --libs libdpdk))
$(peer_objects): CPPFLAGS += $(PEERS)
$(B)/tests/peer_rte_ring.o: CPPFLAGS += $(DPDK_CPPFLAGS)
$(peer_objects): $(B)/how-peers
ifneq ($(file <$(B)/how-peers),$(PEERS))
.PHONY: $(B)/how-peers
endif
$(B)/how-peers:
	@$(shell mkdir -p $(@D))$(file >$@,$(PEERS))

# Fuzzers: clang's libFuzzer over the same sources, in a tree of their own.
fuzz_src    := $(wildcard tests/fuzz_*.c)
fuzz_bins   := $(patsubst tests/%.c,$(B)/tests/%,$(fuzz_src))
$(fuzz_bins): LDFLAGS += -fsanitize=fuzzer
.PHONY: fuzz
fuzz: ## run each fuzzer: [SECONDS=60] [FUZZERS="layout arbitrate"]
	@BUILD='$(BUILD)' CLANG='$(CLANG)' tests/fuzz $(if $(filter command environment,$(origin SECONDS)),$(SECONDS),60) $(FUZZERS)

# Signals to running processes, and seeded cases on them, as many as asked for.
.PHONY: storm storm-kills storm-cases
storm: storm-kills storm-cases ## both of these, an hour or more: [SEED=n] [BACKEND=kernel|af_xdp|dpdk|mixed]
storm-kills: all ## kill and stop processes of a running bus at random: [KILLS=10000] [SEED=n] [BACKEND=...] [ONLY=ingest]
	MDBUS_BIN=$(abspath $(B)/bin) python3 -B tests/storm.py --kills $(or $(KILLS),10000) \
		$(if $(SEED),--seed $(SEED)) $(if $(BACKEND),--backend $(BACKEND)) $(if $(ONLY),--only $(ONLY))

storm-cases: all ## seeded cases on real processes, against a naive reference: [CASES=10000] [SEED=n] [BACKEND=kernel|dpdk|mixed]
	MDBUS_BIN=$(abspath $(B)/bin) python3 -B tests/storm_cases.py --cases $(or $(CASES),10000) $(if $(SEED),--seed $(SEED)) \
		$(if $(BACKEND),--backend $(patsubst af_xdp,mixed,$(BACKEND)))

.PHONY: kill-every
kill-every: $(B)/tests/unit_step ## kill each operation on shared memory after every instruction, and judge every death anew
	STEP_ALL=1 $(B)/tests/unit_step

# The slot protocol as a model and as it is written, both through every case of tests/model/cases.h.
.PHONY: model
model: $(B)/tests/unit_interleave ## every order of the slot protocol's steps, in a model and in the code: [SCHEDULES=1000000]
	INTERLEAVE_RANDOM=$(or $(SCHEDULES),1000000) tests/model/run --all --functions $(abspath $<)

# Segments that change while they are attached to and read, under the address sanitizer.
smash_bin   := $(B)/variant-address,undefined/tests/unit_smash
.PHONY: smash
smash: ## change segments of a bus at random while it is used: [MUTATIONS=1000000]
	@+$(MAKE) --no-print-directory -s BUILD='$(B)/variant-address,undefined' SAN=address,undefined OPT=-O1 '$(smash_bin)'
	MDBUS_SMASH=$(or $(MUTATIONS),1000000) $(smash_bin)

.PHONY: restarts
restarts: all ## kill and restart mdbusd under load: [RESTARTS=1000]
	MDBUS_BUILD=$(abspath $(B)) MDBUS_RESTARTS=$(or $(RESTARTS),1000) tests/t_restarts.sh

.PHONY: deaths
deaths: all $(B)/tests/prog_deaths ## time from a line's death to its resources back: [DEATHS=1000]
	MDBUS_BIN=$(abspath $(B)/bin) $(B)/tests/prog_deaths $(or $(DEATHS),1000)

print-%: # the value of a variable, for scripts
	@:$(info $($*))

lint: ## warnings of two compilers as errors, cppcheck, clang-tidy, shellcheck and the rules of the source tree
	@+BUILD='$(BUILD)' scripts/lint

install: all ## programs, library, headers, mdbus.pc: [PREFIX=/usr/local] [DESTDIR=]
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/include/mdbus
	install -d $(DESTDIR)$(PREFIX)/share/doc/mdbus
	install -m 755 $(programs) $(DESTDIR)$(PREFIX)/bin
	$(if $(modules),install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/mdbus $(modules))
	install -m 644 $(B)/lib/libmdbus.a $(DESTDIR)$(PREFIX)/lib
	install -m 644 $(wildcard include/mdbus/*.h) $(DESTDIR)$(PREFIX)/include/mdbus
	install -m 644 scripts/mdbus.conf.example LICENSE $(DESTDIR)$(PREFIX)/share/doc/mdbus
	sed -e 's|@PREFIX@|$(PREFIX)|; s|@VERSION@|$(VERSION)|; s|@CFLAGS@|$(filter -mcx16,$(CFLAGS))|' scripts/mdbus.pc.in \
		> $(DESTDIR)$(PREFIX)/lib/pkgconfig/mdbus.pc

deps-check:
	@$(if $(missing),echo "mdbus: missing libraries: $(missing). Run scripts/deps as root." >&2; exit 1)
	@$(if $(HAVE_XDP),,echo "mdbus: no AF_XDP: it needs libxdp, libbpf, clang and bpftool (scripts/deps)")
	@$(if $(HAVE_DPDK),,echo "mdbus: no DPDK: it needs libdpdk (scripts/deps)")

# Objects are made again when the way to make them changes, a library that has been installed since included.
how         := $(CC) $(CPPFLAGS) $(CFLAGS)
ifneq ($(file <$(B)/how),$(how))
.PHONY: $(B)/how
endif
$(B)/how:
	@$(shell mkdir -p $(@D))$(file >$@,$(how))

$(B)/%.o: %.c $(B)/how
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(B)/pic/%.o: %.c $(B)/how
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(DPDK_CPPFLAGS) $(CFLAGS) -fPIC -fvisibility=hidden -MMD -MP -c -o $@ $<

$(B)/lib/mdbus/dpdk.so: $(dpdk_objects)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -shared -o $@ $^ $(shell $(PKG_CONFIG) --libs libdpdk 2>/dev/null)
$(B)/tests/unit_backend_dpdk: | $(modules)
$(B)/tests/unit_rss.o: CPPFLAGS += $(DPDK_CPPFLAGS)

define archive
$(B)/lib/$(2): $(call objects,$(call sources,$(1)))
	@mkdir -p $$(@D)
	@rm -f $$@
	$(AR) rcs $$@ $$^
endef
$(foreach d,$(DIRS),$(eval $(call archive,$(d),lib$(if $(filter bus,$(d)),mdbus,mdbus-$(d)).a)))

folder       = $(patsubst %/,%,$(dir $(1)))
define program
$(B)/bin/$(call progname,$(1)): $(call objects,$(1)) $(sort $(B)/lib/libmdbus.a $(B)/lib/libmdbus-$(call folder,$(1)).a)
	@mkdir -p $$(@D)
	$(CC) $(LDFLAGS) -o $$@ $$(filter %.o,$$^) -Wl,--start-group $$(filter %.a,$$^) -Wl,--end-group $(LDLIBS)
endef
$(foreach m,$(mains),$(eval $(call program,$(m))))

$(B)/tests/%: $(B)/tests/%.o $(call objects,$(test_lib)) $(libs)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(LDLIBS)

# The slot protocol once more, with every access to shared memory a step that others may come between.
steps_src   := tests/unit_interleave.c tests/interleave.c bus/arena.c bus/holds.c bus/shape.c bus/key.c
steps_objects := $(patsubst %.c,$(B)/steps/%.o,$(steps_src))
$(B)/steps/%.o: %.c $(B)/how
	@mkdir -p $(@D)
	$(CC) -include tests/interleave_steps.h -DMDBUS_HOOKS=1 $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<
$(B)/tests/unit_interleave: $(steps_objects)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $^

# The programs with what tests/hook_kill.c does at each hook, beside the ordinary ones: in hooks/bin.
hooked_all  := $(foreach d,$(DIRS),$(call sources,$(d))) $(mains) tests/hook_kill.c
hooked       = $(patsubst %.c,$(B)/hooks/%.o,$(1))
hooked_bins := $(patsubst $(B)/%,$(B)/hooks/%,$(programs))
$(call hooked,$(hooked_all)): CPPFLAGS += -DMDBUS_HOOKS=1
$(B)/hooks/%.o: %.c $(B)/how
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<
define hooked_program
$(B)/hooks/bin/$(call progname,$(1)): \
	$(call hooked,$(1) tests/hook_kill.c $(foreach d,$(sort bus $(call folder,$(1))),$(call sources,$(d))))
	@mkdir -p $$(@D)
	$(CC) $(LDFLAGS) -o $$@ $$^ $(LDLIBS)
endef
$(foreach m,$(mains),$(eval $(call hooked_program,$(m))))
.PHONY: hooked hooks
hooked: all $(hooked_bins)
hooks: hooked ## kill every process at each of its hooks, and judge: [SEED=n]
	MDBUS_BIN=$(abspath $(B)/hooks/bin) python3 -B tests/hooks.py $(if $(SEED),--seed $(SEED))

# One BPF source, compiled and wrapped into a C skeleton at build time.
ifeq ($(HAVE_XDP),y)
BPF_ARCH    := $(patsubst x86_64,x86,$(patsubst aarch64,arm64,$(shell uname -m)))
$(B)/gen/line_xdp.skel.h: ingest/line_xdp.bpf.c ingest/line_xdp.h bus/fixed.h
	@mkdir -p $(@D)
	$(CLANG) -g -O2 -mcpu=v3 -target bpf -D__TARGET_ARCH_$(BPF_ARCH) -Iinclude $(if $(MUTANT),-DMDBUS_MUTANT_$(MUTANT)) \
		-I/usr/include/$(shell uname -m)-linux-gnu -Wall -Wextra $(if $(WERROR),-Werror) -c $< -o $(B)/gen/line_xdp.bpf.o
	$(BPFTOOL) gen skeleton $(B)/gen/line_xdp.bpf.o name line_xdp > $@.tmp
	{ echo '#pragma GCC system_header'; echo '// NOLINTBEGIN'; cat $@.tmp; echo '// NOLINTEND'; } > $@
	@rm $@.tmp
$(B)/ingest/backend_xdp_prog.o $(B)/hooks/ingest/backend_xdp_prog.o: $(B)/gen/line_xdp.skel.h
endif

clean: ## remove everything that was built
	rm -rf build

-include $(shell find $(B) -path '$(B)/variant-*' -prune -o -name '*.d' -print 2>/dev/null)
