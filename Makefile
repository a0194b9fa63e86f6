# One command for each need; `make help` lists them. Everything beyond Go and make is fetched, pinned, by these targets.

MODULES := . examples benchmarks
BUF     := go tool -modfile=.tools/buf.mod buf
LINT    := go tool -modfile=$(CURDIR)/.tools/golangci-lint.mod golangci-lint
# The race detector needs a C compiler. Without one the tests run all the same, and say so.
RACE    := $(shell command -v $$(go env CC) >/dev/null 2>&1 && echo -race)
FUZZTIME ?= 30s

.PHONY: help demo demo-short test lint bench bench-quick generate fuzz fmt protodeps generated-fresh

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

demo: ## a day at the bank: services, attacks, rotation under load, evidence
	cd examples && go run ./bank/demo

demo-short: ## the same with less load
	cd examples && go run ./bank/demo -short

test: ## all tests of all modules, with the race detector
	@test -n "$(RACE)" || echo "make test: no C compiler, so no race detector"
	@for m in $(MODULES); do echo "== $$m"; (cd $$m && go test $(RACE) ./...) || exit 1; done

lint: protodeps ## vet, golangci-lint, buf lint and format, generated code is fresh
	@for m in $(MODULES); do echo "== $$m"; (cd $$m && go vet ./... && go mod tidy -diff && $(LINT) run --config $(CURDIR)/.golangci.yml ./...) || exit 1; done
	$(BUF) format --diff --exit-code
	$(BUF) lint
	@$(MAKE) --no-print-directory generated-fresh

bench: ## what a guarded call costs beside a bare one, as ratios in one run
	cd benchmarks && go run .

bench-quick: ## the same in a fraction of the time, noisier
	cd benchmarks && go run . -quick

generate: protodeps ## generate Go from .proto
	$(BUF) format -w
	$(BUF) generate
	$(BUF) generate --template examples/buf.gen.yaml
	$(BUF) generate --template benchmarks/buf.gen.yaml

generated-fresh: protodeps
	@set -e; out=$$(mktemp -d); trap 'rm -rf "$$out"' EXIT; \
	$(BUF) generate -o "$$out"; $(BUF) generate --template examples/buf.gen.yaml -o "$$out"; $(BUF) generate --template benchmarks/buf.gen.yaml -o "$$out"; \
	cd "$$out"; find . -name '*.pb.go' | while read -r f; do cmp "$$f" "$(CURDIR)/$$f"; done; echo "generated code is fresh"

fuzz: ## fuzz each target for FUZZTIME (30s)
	go test ./policy -run '^$$' -fuzz '^FuzzPattern$$' -fuzztime $(FUZZTIME) -fuzzminimizetime 10x
	go test ./policy -run '^$$' -fuzz '^FuzzPolicyFile$$' -fuzztime $(FUZZTIME) -fuzzminimizetime 10x

fmt: ## format Go and .proto
	gofmt -w $$(git ls-files '*.go' | grep -v '\.pb\.go$$')
	$(BUF) format -w

# validate.proto, which ours imports, comes in a Go module.
protodeps:
	@rm -rf .protodeps && mkdir -p .protodeps
	@cp -r "$$(go mod download -modfile=.tools/protoc.mod -json github.com/bufbuild/protovalidate@v1.2.2 | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')/proto/protovalidate/buf" .protodeps/
	@chmod -R u+w .protodeps
