# One command for each need; `make help` lists them. Everything beyond Go and make is fetched, pinned, by these targets.

MODULES := . examples benchmarks
BUF     := go tool -modfile=.tools/buf.mod buf
LINT    := go tool -modfile=$(CURDIR)/.tools/golangci-lint.mod golangci-lint
# The race detector needs a C compiler. Without one the tests run all the same, and say so.
RACE    := $(shell [ "$$(go env CGO_ENABLED)" = 1 ] && command -v $$(go env CC) >/dev/null 2>&1 && echo -race)
FUZZTIME ?= 30s

.PHONY: help demo demo-short test redis collector faults lint bench bench-quick profile generate fuzz fmt protodeps generated-fresh

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

demo: ## a day at the bank: services, attacks, rotation under load, evidence
	cd examples && go run ./bank/demo

demo-short: ## the same with less load
	cd examples && go run ./bank/demo -short

test: redis collector ## all tests of all modules, with the race detector, a real redis-server and a real OpenTelemetry Collector
	@test -n "$(RACE)" || echo "make test: no C compiler, so no race detector"
	@for m in $(MODULES); do echo "== $$m"; (cd $$m && go test $(RACE) ./...) || exit 1; done

# Tests of limits that processes share talk to a real server, which each of them starts on a port of its own.
redis: ## install redis-server, where there is none
	@command -v redis-server >/dev/null 2>&1 || [ -n "$$REDIS_SERVER" ] || { \
	  echo "make: the tests need redis-server, installing it"; \
	  as_root=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  if command -v apt-get >/dev/null 2>&1; then $$as_root apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$as_root apt-get install -y -qq --no-install-recommends redis-server >/dev/null; \
	  elif command -v dnf >/dev/null 2>&1; then $$as_root dnf install -y -q redis; \
	  elif command -v apk >/dev/null 2>&1; then $$as_root apk add -q redis; \
	  elif command -v brew >/dev/null 2>&1; then brew install -q redis; \
	  else echo "make: do not know how to; install redis-server, or say where it is in REDIS_SERVER" >&2; exit 1; fi; }

# The collector that export is tested with, built from its Go modules. It stays in Go's build cache.
collector:
	@cd interceptors/audit/otlpexport/collectortest/collector && GOWORK=off go tool -n collector >/dev/null

lint: protodeps ## vet, golangci-lint, buf lint and format, generated code is fresh
	@for m in $(MODULES); do echo "== $$m"; (cd $$m && go vet ./... && go mod tidy -diff && $(LINT) run --config $(CURDIR)/.golangci.yml ./...) || exit 1; done
	$(BUF) format --diff --exit-code
	$(BUF) lint
	@$(MAKE) --no-print-directory generated-fresh

faults: ## failing disks (strace makes them), and a journal and a bank that are killed a thousand times each: half an hour
	JOURNAL_FAULTS=1 JOURNAL_KILLS=1000 go test ./interceptors/audit/journal -run 'TestInjected|TestKill' -count 1 -timeout 60m
	GRPCGUARD_KILLS=1000 go test ./interceptors -run TestAKilledBank -count 1 -timeout 60m

bench: redis ## the perf suite beside its peers: a quarter of an hour, and benchmarks/report/report.md; ARGS="-only calls,streams" for less
	cd benchmarks && go run . $(ARGS)

bench-quick: redis ## the same in two minutes, noisier
	cd benchmarks && go run . -quick $(ARGS)

profile: ## profiles of our side of a row, ROW="a part of its name", for go tool pprof
	cd benchmarks && go run . -profile "$(ROW)" $(ARGS)

generate: protodeps ## generate Go from .proto
	$(BUF) format -w
	$(BUF) generate
	$(BUF) generate --template examples/buf.gen.yaml
	$(BUF) generate --template benchmarks/buf.gen.yaml

generated-fresh: protodeps ## fail if generated Go is not what the .proto files make
	@set -e; out=$$(mktemp -d); trap 'rm -rf "$$out"' EXIT; \
	$(BUF) generate -o "$$out"; $(BUF) generate --template examples/buf.gen.yaml -o "$$out"; $(BUF) generate --template benchmarks/buf.gen.yaml -o "$$out"; \
	cd "$$out"; find . -name '*.pb.go' | while read -r f; do cmp "$$f" "$(CURDIR)/$$f"; done; echo "generated code is fresh"

fuzz: ## fuzz each target for FUZZTIME (30s)
	@set -e; for p in $$(go list ./...); do for f in $$(go test $$p -list '^Fuzz' | grep '^Fuzz'); do \
	  echo "== $$p $$f"; go test $$p -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x; done; done

fmt: ## format Go and .proto
	gofmt -w $$(git ls-files '*.go' | grep -v '\.pb\.go$$')
	$(BUF) format -w

# validate.proto, which ours imports, comes in a Go module.
protodeps:
	@rm -rf .protodeps && mkdir -p .protodeps
	@cp -r "$$(go mod download -modfile=.tools/protoc.mod -json github.com/bufbuild/protovalidate@v1.2.2 | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')/proto/protovalidate/buf" .protodeps/
	@chmod -R u+w .protodeps
