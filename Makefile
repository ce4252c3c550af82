# What CI runs is what people run: .ci/run calls these targets and nothing else.
GO            ?= go
FUZZTIME      ?= 10s
SOAK          ?= 15m
CLIENTS       ?= $(CURDIR)/.clients
LINT_VERSION  := v2.15.0
LINT          := $(shell $(GO) env GOPATH)/bin/golangci-lint
FUZZ_PACKAGES  = $(shell grep -rl '^func Fuzz' --include='*_test.go' . | xargs -r -n1 dirname | sort -u)

# What package integration has for other kernels, and the main job on them.
VM_TESTS       = ^Test(NFS|VM)|^Test(HubModelIsFetchedWhileRead|MissingNames|ModelGGUF)$$

.PHONY: build test race lint fuzz bench microbench demo test-clients test-vm soak clean

build: ## the static binary, ./modelfs
	CGO_ENABLED=0 $(GO) build -trimpath -o modelfs ./cmd/modelfs

test race: ## everything; root and /dev/fuse are needed, nothing is skipped without them
	$(GO) test -race -shuffle=on -count=1 -timeout 20m ./...

lint: $(LINT)
	$(LINT) run
	$(GO) mod tidy -diff

$(LINT):
	$(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)

fuzz: ## each fuzz target for FUZZTIME
	@set -e; for p in $(FUZZ_PACKAGES); do for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
		echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$p; done; done

bench: build ## each case beside aria2c, curl or the file itself; docs/performance.md explains. BENCH="-runs 1 -only scattered" for less
	$(GO) build -o .bench ./bench
	./.bench $(BENCH)

microbench:
	$(GO) test -run '^$$' -bench . -benchmem ./...

demo: build ## everything on one machine, without a network
	./modelfs demo

test-clients: ## the test Hub, stores and engines, with other people's programs (installed by scripts/clients.sh)
	./scripts/clients.sh $(CLIENTS)
	MODELFS_CLIENTS=$(CLIENTS) $(GO) test -tags clients -count=1 ./internal/hubtest ./source/hfcache
	MODELFS_CLIENTS=$(CLIENTS) $(GO) test -tags clients -count=1 -run '^TestReal' ./integration

test-vm: ## a real NFS share, and Linux 6.12 and 6.1 (Debian's), in virtual machines that scripts/vm.sh boots
	./scripts/vm.sh trixie -test.v -test.timeout 20m -test.parallel 1 -test.run '$(VM_TESTS)'
	./scripts/vm.sh bookworm -test.v -test.timeout 20m -test.parallel 1 -test.run '$(VM_TESTS)'

soak: ## readers, killers and faults for SOAK
	SOAK=$(SOAK) $(GO) test -tags soak -run Soak -timeout 0 -v ./integration

clean:
	rm -rf modelfs .bench .vm $(CLIENTS)
