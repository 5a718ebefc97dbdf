# Milliard. `make` alone lists the targets.

SHELL   := /bin/bash
GO      ?= go
TOOL     = $(GO) tool -modfile=tools/go.mod
BIN      = bin/milliard
# Packages without I/O: their tests take seconds.
PURE     = $(addprefix ./internal/,event columnar token route dedup judge count catalog)
# Packages with micro-benchmarks.
HOT      = $(shell grep -rl --include=*_test.go '^func Benchmark' . | xargs -n1 dirname | sort -u)
# How long each fuzz target runs under `make fuzz`.
T       ?= 20s
# How many histories `make sim` runs, and which is the first.
SEEDS   ?= 20000
FROM    ?= 1
# Flags of `make faults` and `make faults-quick`, for example FAULTS="-tiers t2,t3 -for 30m".
FAULTS  ?=
# Arguments of `make run`, for example ARGS="--listen :9000".
ARGS    ?=

.DEFAULT_GOAL := help
.PHONY: help build check fmt lint test race fuzz golden smoke sim sim-quick faults faults-quick bench bench-quick vuln run demo

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/milliard
	$(GO) build -o $(BIN) ./cmd/milliard

check: lint ## lint, tests of the repository itself, short tests of the ground and pure packages
	$(GO) test -short ./internal/tidy $(PURE)

fmt: ## format every file
	$(TOOL) golangci-lint fmt ./...

lint: ## format, vet and lint, see .golangci.yml
	$(TOOL) golangci-lint run ./...

test: ## every micro-benchmark once; unit, end-to-end and browser tests
	$(GO) test -run '^$$' -bench . -benchtime 1x -timeout 8m $(HOT)
	$(GO) test -timeout 8m ./...

race: ## the same tests under the race detector
	$(GO) test -race -gcflags=all=-d=checkptr=0 -timeout 30m ./... # duckdb-go reads blobs through a misaligned pointer

fuzz: ## every fuzz target for T each (T=20s)
	@$(GO) list ./... | while read -r pkg; do \
	  for target in $$($(GO) test -list '^Fuzz' "$$pkg" | grep '^Fuzz'); do \
	    echo "$$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(T) -fuzzminimizetime 20x "$$pkg" || exit 1; \
	  done; \
	done

golden: ## rewrite the golden files; look at the diff before committing it
	MILLIARD_GOLDEN=write $(GO) test -timeout 8m ./...

smoke: build ## replay ../shared/data through a real server with kill -9, and prove every count
	$(GO) run ./smoke --binary $(BIN) --data ../shared/data

sim: ## one simulated history and how it went: SEED=7; or many: SEEDS=1000000 FROM=1
ifdef SEED
	$(GO) test ./internal/sim -run 'TestSeed$$' -v -count=1 -sim.seed=$(SEED)
else
	$(GO) test ./internal/sim -run 'TestSeeds$$' -v -count=1 -timeout 24h -sim.seeds=$(SEEDS) -sim.from=$(FROM)
endif

sim-quick: ## 5,000 simulated histories
	$(GO) test ./internal/sim -run 'TestSeeds' -v -count=1 -sim.seeds=5000

faults: ## break everything that can break and compare ids and sums; hours; goes on where docs/faults ends; FAULTS="-for 30m"
	$(GO) run ./faults full $(FAULTS)

faults-quick: ## the same, small: at most 15 minutes
	$(GO) run ./faults quick $(FAULTS)

bench: ## every row of docs/benchmarks.md beside its peers, up to an hour; needs an idle machine
	$(GO) run ./bench

bench-quick: ## the same, tiny: fails on errors, never on a number
	$(GO) run ./bench -quick

vuln: ## known vulnerabilities in what we import; needs the vulnerability database
	$(TOOL) govulncheck ./...

run: build ## run the server in ./data
	./$(BIN) serve --data data $(ARGS)

demo: build ## run the demonstration
	./$(BIN) demo
